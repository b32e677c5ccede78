// SPDX-License-Identifier: Apache-2.0
// Why: pictures need the key in a header, so they are fetched and shown from object URLs. This
// keeps a bounded number of them and revokes each URL once nobody shows it any more.
import type { Api } from "./api";

interface Entry {
    key: string;
    url: string | null;
    failed: boolean;
    refs: number;
    waiters: Set<() => void>;
    abort: AbortController;
}

const MAX_UNUSED = 160;
/** Of the six connections a browser opens, one is the stream and one an upload. */
const MAX_AT_ONCE = 3;

export class BlobCache {
    private readonly entries = new Map<string, Entry>();
    private readonly queue: (() => void)[] = [];
    private running = 0;
    private readonly api: Api;

    constructor(api: Api) {
        this.api = api;
    }

    /** Starts or joins the fetch of `path`; `key` changes when its content does. */
    acquire(path: string, key: string, changed: () => void): Entry {
        let e = this.entries.get(key);
        if (e?.failed && e.refs === 0) {
            this.entries.delete(key);
            e = undefined;
        }
        if (!e) {
            e = { key, url: null, failed: false, refs: 0, waiters: new Set(), abort: new AbortController() };
            this.entries.set(key, e);
            this.fetch(path, e);
        } else {
            // Moved to the end: the map's order is the order of use.
            this.entries.delete(key);
            this.entries.set(key, e);
        }
        e.refs++;
        e.waiters.add(changed);
        return e;
    }

    release(e: Entry, changed: () => void): void {
        e.refs--;
        e.waiters.delete(changed);
        if (e.refs === 0 && e.url === null && !e.failed) {
            // Scrolled past before it arrived.
            e.abort.abort();
            this.drop(e);
        }
        this.trim();
    }

    clear(): void {
        for (const e of [...this.entries.values()]) {
            e.abort.abort();
            this.drop(e);
        }
    }

    private drop(e: Entry): void {
        if (e.url) {
            URL.revokeObjectURL(e.url);
            e.url = null;
        }
        if (this.entries.get(e.key) === e) {
            this.entries.delete(e.key);
        }
    }

    private trim(): void {
        let unused = 0;
        for (const e of this.entries.values()) {
            unused += e.refs === 0 ? 1 : 0;
        }
        for (const e of [...this.entries.values()]) {
            if (unused <= MAX_UNUSED) {
                return;
            }
            if (e.refs === 0) {
                this.drop(e);
                unused--;
            }
        }
    }

    private fetch(path: string, e: Entry): void {
        const job = () => {
            this.running++;
            void this.load(path, e).finally(() => {
                this.running--;
                this.queue.shift()?.();
            });
        };
        if (this.running < MAX_AT_ONCE) {
            job();
        } else {
            this.queue.push(job);
        }
    }

    private async load(path: string, e: Entry): Promise<void> {
        if (e.abort.signal.aborted) {
            return;
        }
        try {
            const blob = await this.api.blob(path, e.abort.signal);
            if (e.abort.signal.aborted) {
                return;
            }
            e.url = URL.createObjectURL(blob);
        } catch {
            e.failed = true;
        }
        for (const w of [...e.waiters]) {
            w();
        }
    }
}

export type BlobEntry = Entry;
