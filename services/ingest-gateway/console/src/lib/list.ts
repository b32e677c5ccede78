// SPDX-License-Identifier: Apache-2.0
// Why: the rows on screen come from keyset pages, from single files read again after an event and
// from the top page read again when files were added. This keeps one ordered list without doubles.
// Invariant: every id of `order` is in `byId` and the other way round.
import type { FileItem, Page } from "./types";

export class FileList {
    order: string[] = [];
    readonly byId = new Map<string, FileItem>();
    nextCursor: string | null = null;

    get size(): number {
        return this.order.length;
    }

    at(index: number): FileItem | undefined {
        const id = this.order[index];
        return id === undefined ? undefined : this.byId.get(id);
    }

    replace(page: Page<FileItem>): void {
        this.order = [];
        this.byId.clear();
        this.nextCursor = null;
        this.append(page);
    }

    /** Adds the next keyset page; files already known are brought up to date in their place. */
    append(page: Page<FileItem>): void {
        for (const f of page.items) {
            if (!this.byId.has(f.id)) {
                this.order.push(f.id);
            }
            this.put(f);
        }
        this.nextCursor = page.nextCursor ?? null;
    }

    /**
     * Brings the start of the list up to date with what the top pages hold now. Rows that the
     * pages should hold and do not are gone. Returns false if the pages do not reach down to
     * anything known, so that rows between would be missing: the caller reads one page more.
     */
    mergeTop(items: FileItem[], nextCursor: string | null): boolean {
        if (nextCursor === null || this.order.length === 0) {
            this.replace({ items: this.newerOf(items), nextCursor });
            return true;
        }
        const fetched = new Set(items.map((f) => f.id));
        let deepest = -1;
        for (let i = this.order.length - 1; i >= 0; i--) {
            const id = this.order[i];
            if (id !== undefined && fetched.has(id)) {
                deepest = i;
                break;
            }
        }
        if (deepest < 0) {
            return false;
        }
        const rest = this.order.slice(deepest + 1);
        for (const id of this.order.slice(0, deepest + 1)) {
            if (!fetched.has(id)) {
                this.byId.delete(id);
            }
        }
        for (const f of items) {
            this.put(f);
        }
        const seen = new Set<string>();
        this.order = [];
        for (const id of [...items.map((f) => f.id), ...rest]) {
            if (!seen.has(id)) {
                seen.add(id);
                this.order.push(id);
            }
        }
        if (rest.length === 0) {
            this.nextCursor = nextCursor;
        }
        return true;
    }

    /** Brings one known file up to date; an unknown one is left to the next page. */
    update(f: FileItem): boolean {
        if (!this.byId.has(f.id)) {
            return false;
        }
        this.put(f);
        return true;
    }

    remove(id: string): boolean {
        if (!this.byId.delete(id)) {
            return false;
        }
        this.order = this.order.filter((x) => x !== id);
        return true;
    }

    removeMany(ids: ReadonlySet<string>): void {
        for (const id of ids) {
            this.byId.delete(id);
        }
        this.order = this.order.filter((x) => !ids.has(x));
    }

    private newerOf(items: FileItem[]): FileItem[] {
        return items.map((f) => {
            const known = this.byId.get(f.id);
            return known && isOlder(f, known) ? known : f;
        });
    }

    private put(f: FileItem): void {
        const known = this.byId.get(f.id);
        if (known && isOlder(f, known)) {
            return;
        }
        this.byId.set(f.id, f);
    }
}

/** Answers may overtake each other: an older look at a file never replaces a newer one. */
export function isOlder(a: FileItem, b: FileItem): boolean {
    if ((a.generation ?? 0) !== (b.generation ?? 0)) {
        return (a.generation ?? 0) < (b.generation ?? 0);
    }
    const ta = Date.parse(a.updatedAt ?? "");
    const tb = Date.parse(b.updatedAt ?? "");
    return Number.isFinite(ta) && Number.isFinite(tb) && ta < tb;
}

/** Which rows of a list of equal heights have to exist for a given scroll position. */
export function visibleRange(
    scrollTop: number,
    viewHeight: number,
    rowHeight: number,
    count: number,
    overscan: number,
): { start: number; end: number } {
    if (count <= 0 || rowHeight <= 0) {
        return { start: 0, end: 0 };
    }
    const first = Math.floor(Math.max(0, scrollTop) / rowHeight);
    const rows = Math.ceil(Math.max(0, viewHeight) / rowHeight) + 1;
    const start = Math.min(Math.max(0, first - overscan), Math.max(0, count - 1));
    const end = Math.min(count, first + rows + overscan);
    return { start, end: Math.max(end, Math.min(count, start + 1)) };
}
