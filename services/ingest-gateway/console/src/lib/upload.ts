// SPDX-License-Identifier: Apache-2.0
// Why: sends any number of dropped files in requests of bounded size. The body is laid out here
// and not by FormData, so that a second try sends the very same bytes under the same
// Idempotency-Key. No two parts of one request share a name. Nothing is read into memory.
import { BASE, parseRetryAfter, problemFromText, uuid, credentialHeaders, type Credential } from "./api";
import { messageOf, plainError, Problem } from "./problem";
import type { UploadAnswer } from "./types";

export const MAX_FILES = 200;
export const MAX_BYTES = 256 * 1024 * 1024;
const MAX_TRIES = 4;

export interface NamedFile {
    file: File;
    /** Where it lay inside the dropped folder, for display only. */
    path: string;
}

/** Requests of at most `maxFiles` files and about `maxBytes`, each name once per request. */
export function planBatches<T extends { name: string; size: number }>(
    files: readonly T[],
    maxFiles = MAX_FILES,
    maxBytes = MAX_BYTES,
): T[][] {
    const done: T[][] = [];
    let open: { items: T[]; names: Set<string>; size: number }[] = [];
    for (const f of files) {
        let target = open.find(
            (b) => !b.names.has(f.name) && (b.items.length === 0 || b.size + f.size <= maxBytes),
        );
        if (!target) {
            target = { items: [], names: new Set(), size: 0 };
            open.push(target);
        }
        target.items.push(f);
        target.names.add(f.name);
        target.size += f.size;
        const full = target;
        if (full.items.length >= maxFiles || full.size >= maxBytes) {
            done.push(full.items);
            open = open.filter((b) => b !== full);
        }
    }
    return [...done, ...open.map((b) => b.items)];
}

/** A file name as the multipart standard of browsers writes it. */
export function quoteName(name: string): string {
    return name.replace(/\r/g, "%0D").replace(/\n/g, "%0A").replace(/"/g, "%22");
}

export function multipartHead(boundary: string, name: string, type: string): string {
    return (
        `--${boundary}\r\n` +
        `Content-Disposition: form-data; name="file"; filename="${quoteName(name)}"\r\n` +
        `Content-Type: ${/^[\w.+-]+\/[\w.+-]+$/.test(type) ? type : "application/octet-stream"}\r\n\r\n`
    );
}

export function multipartBody(boundary: string, files: readonly File[]): Blob {
    const parts: BlobPart[] = [];
    for (const f of files) {
        parts.push(multipartHead(boundary, f.name, f.type), f, "\r\n");
    }
    parts.push(`--${boundary}--\r\n`);
    return new Blob(parts);
}

export interface UploadIssue {
    path: string;
    reason: string;
}

type BatchState = "queued" | "sending" | "sent" | "failed" | "stopped";

interface Batch {
    key: string;
    datasetId: string;
    files: NamedFile[];
    bytes: number;
    sent: number;
    state: BatchState;
    tries: number;
    message: string;
}

export interface UploadView {
    active: boolean;
    files: number;
    filesDone: number;
    accepted: number;
    bytes: number;
    bytesSent: number;
    issues: UploadIssue[];
    failed: { message: string; files: number }[];
    waiting: string;
    /** Ids of the batches that were made. */
    batches: string[];
}

/** Sends batches one after the other and tells its listener when anything changed. */
export class Uploader {
    private batches: Batch[] = [];
    private made: string[] = [];
    private issues: UploadIssue[] = [];
    private accepted = 0;
    private running = false;
    private waiting = "";
    private xhr: XMLHttpRequest | null = null;
    private wake: (() => void) | null = null;
    private readonly credential: Credential;
    private changed: () => void;
    private batchDone: (datasetId: string, accepted: number, rejected: number) => void;

    constructor(
        credential: Credential,
        changed: () => void,
        batchDone: (datasetId: string, accepted: number, rejected: number) => void,
    ) {
        this.credential = credential;
        this.changed = changed;
        this.batchDone = batchDone;
    }

    /** Who listens from now on: uploads outlive the part of the page that shows them. */
    attach(changed: () => void, batchDone: (datasetId: string, accepted: number, rejected: number) => void): void {
        this.changed = changed;
        this.batchDone = batchDone;
    }

    add(datasetId: string, files: NamedFile[]): void {
        if (!this.running && this.batches.every((b) => b.state === "sent")) {
            this.clear();
        }
        const named = files.map((f) => ({ name: f.file.name, size: f.file.size, f }));
        for (const items of planBatches(named)) {
            this.batches.push({
                key: uuid(),
                datasetId,
                files: items.map((x) => x.f),
                bytes: items.reduce((n, x) => n + x.size, 0),
                sent: 0,
                state: "queued",
                tries: 0,
                message: "",
            });
        }
        this.changed();
        void this.run();
    }

    retryFailed(): void {
        for (const b of this.batches) {
            if (b.state === "failed") {
                b.state = "queued";
                b.tries = 0;
            }
        }
        this.changed();
        void this.run();
    }

    stop(): void {
        for (const b of this.batches) {
            if (b.state === "queued" || b.state === "sending") {
                b.state = "stopped";
            }
        }
        this.xhr?.abort();
        this.wake?.();
        this.changed();
    }

    clear(): void {
        if (!this.running) {
            this.batches = [];
            this.issues = [];
            this.made = [];
            this.accepted = 0;
            this.changed();
        }
    }

    view(): UploadView {
        const live = this.batches.filter((b) => b.state !== "stopped");
        const sum = (f: (b: Batch) => number) => live.reduce((n, b) => n + f(b), 0);
        return {
            active: this.running,
            files: sum((b) => b.files.length),
            filesDone: sum((b) => (b.state === "sent" ? b.files.length : 0)),
            accepted: this.accepted,
            bytes: sum((b) => b.bytes),
            bytesSent: sum((b) => (b.state === "sent" ? b.bytes : Math.min(b.sent, b.bytes))),
            issues: this.issues,
            failed: live
                .filter((b) => b.state === "failed")
                .map((b) => ({ message: b.message, files: b.files.length })),
            waiting: this.waiting,
            batches: this.made,
        };
    }

    private async run(): Promise<void> {
        if (this.running) {
            return;
        }
        this.running = true;
        for (;;) {
            const next = this.batches.find((b) => b.state === "queued");
            if (!next) {
                break;
            }
            await this.sendWithRetries(next);
        }
        this.running = false;
        this.changed();
    }

    private async sendWithRetries(b: Batch): Promise<void> {
        b.state = "sending";
        for (;;) {
            b.sent = 0;
            b.tries++;
            try {
                this.finish(b, await this.sendOnce(b));
                return;
            } catch (e) {
                if ((b.state as BatchState) === "stopped") {
                    return;
                }
                b.message = messageOf(e);
                const status = e instanceof Problem ? e.status : -1;
                const again = status === 0 || status === 429 || status === 502 || status === 503;
                if (!again || b.tries >= MAX_TRIES) {
                    b.state = "failed";
                    b.sent = 0;
                    this.changed();
                    return;
                }
                const after = e instanceof Problem ? e.retryAfter : undefined;
                await this.pause(Math.min(60, after ?? 2 ** b.tries), b.message);
                if ((b.state as BatchState) === "stopped") {
                    return;
                }
            }
        }
    }

    private async pause(seconds: number, why: string): Promise<void> {
        this.waiting = `${why} Trying again in ${Math.round(seconds)} s…`;
        this.changed();
        await new Promise<void>((resolve) => {
            const t = setTimeout(resolve, seconds * 1000);
            this.wake = () => {
                clearTimeout(t);
                resolve();
            };
        });
        this.wake = null;
        this.waiting = "";
        this.changed();
    }

    private finish(b: Batch, answer: UploadAnswer): void {
        b.state = "sent";
        b.sent = b.bytes;
        const parts = answer.files ?? [];
        let rejected = 0;
        parts.forEach((p, i) => {
            if (p.error) {
                rejected++;
                const sameOrder = b.files[i]?.file.name === p.name ? b.files[i] : undefined;
                const source = sameOrder ?? b.files.find((f) => f.file.name === p.name);
                this.issues.push({ path: source?.path ?? p.name, reason: plainError(p.error) });
            }
        });
        const accepted = answer.batch?.accepted ?? parts.length - rejected;
        this.accepted += accepted;
        if (answer.batch?.id) {
            this.made = [...this.made, answer.batch.id];
        }
        this.changed();
        this.batchDone(b.datasetId, accepted, answer.batch?.rejected ?? rejected);
    }

    private sendOnce(b: Batch): Promise<UploadAnswer> {
        return new Promise((resolve, reject) => {
            const boundary = `docfleet-${b.key}`;
            const xhr = new XMLHttpRequest();
            this.xhr = xhr;
            xhr.open("POST", `${BASE}/datasets/${encodeURIComponent(b.datasetId)}/files`);
            for (const [name, value] of Object.entries(credentialHeaders(this.credential, "POST"))) {
                xhr.setRequestHeader(name, value);
            }
            xhr.setRequestHeader("Idempotency-Key", b.key);
            xhr.setRequestHeader("Accept", "application/json");
            xhr.setRequestHeader("Content-Type", `multipart/form-data; boundary=${boundary}`);
            xhr.upload.onprogress = (e) => {
                b.sent = Math.min(b.bytes, e.loaded);
                this.changed();
            };
            xhr.onload = () => {
                if (xhr.status >= 200 && xhr.status < 300) {
                    try {
                        resolve(JSON.parse(xhr.responseText) as UploadAnswer);
                    } catch {
                        reject(new Problem(502, { detail: "The server's answer could not be read" }));
                    }
                    return;
                }
                reject(
                    problemFromText(
                        xhr.status,
                        xhr.responseText,
                        parseRetryAfter(xhr.getResponseHeader("Retry-After")),
                    ),
                );
            };
            const cut = () =>
                reject(
                    new Problem(0, {
                        detail: "The connection was cut, or a file could not be read from the disk",
                    }),
                );
            xhr.onerror = cut;
            xhr.ontimeout = cut;
            xhr.onabort = () => reject(new Error("Stopped."));
            xhr.send(multipartBody(boundary, b.files.map((f) => f.file)));
        });
    }
}
