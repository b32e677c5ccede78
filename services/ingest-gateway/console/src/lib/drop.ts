// SPDX-License-Identifier: Apache-2.0
// Why: a drop may hold files and folders; this walks folders to their files. It refuses to go
// deeper than 32 levels or past 100,000 files, so that a wrong drop cannot hang the page.
import type { NamedFile } from "./upload";

const MAX_DEPTH = 32;
const MAX_COUNT = 100_000;

export function fromInput(list: globalThis.FileList | null): NamedFile[] {
    return Array.from(list ?? []).map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

function readBatch(reader: FileSystemDirectoryReader): Promise<FileSystemEntry[]> {
    return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
    return new Promise((resolve, reject) => entry.file(resolve, reject));
}

async function walk(entry: FileSystemEntry, depth: number, out: NamedFile[], skipped: string[]): Promise<void> {
    if (out.length >= MAX_COUNT || depth > MAX_DEPTH) {
        skipped.push(entry.fullPath);
        return;
    }
    try {
        if (entry.isFile) {
            const file = await fileOf(entry as FileSystemFileEntry);
            out.push({ file, path: entry.fullPath.replace(/^\//, "") });
        } else if (entry.isDirectory) {
            const reader = (entry as FileSystemDirectoryEntry).createReader();
            for (;;) {
                const entries = await readBatch(reader);
                if (entries.length === 0) {
                    break;
                }
                for (const e of entries) {
                    await walk(e, depth + 1, out, skipped);
                }
            }
        }
    } catch {
        skipped.push(entry.fullPath);
    }
}

/** Must be called inside the drop event: the entries are gone afterwards. */
export function fromDrop(data: DataTransfer): Promise<{ files: NamedFile[]; skipped: string[] }> {
    const entries: FileSystemEntry[] = [];
    const plain: NamedFile[] = [];
    for (const item of Array.from(data.items)) {
        if (item.kind !== "file") {
            continue;
        }
        const entry = item.webkitGetAsEntry?.();
        if (entry) {
            entries.push(entry);
        } else {
            const file = item.getAsFile();
            if (file) {
                plain.push({ file, path: file.name });
            }
        }
    }
    return (async () => {
        const out = plain;
        const skipped: string[] = [];
        for (const e of entries) {
            await walk(e, 0, out, skipped);
        }
        return { files: out, skipped };
    })();
}
