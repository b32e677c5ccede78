// SPDX-License-Identifier: Apache-2.0
// Why: keeps the rows of one dataset true while thousands of events arrive. Events only mark what
// is stale; a slow tick reads again what is on screen, and the rest when it is scrolled to. So the
// load on the gateway depends on what a person looks at, not on how much is processed.
import type { Api, FileFilter } from "./api";
import { FileList } from "./list";
import { messageOf, Problem } from "./problem";
import type { SseMessage } from "./sse";
import type { ChangeEvent, Dataset, FileItem, RecordItem, Summary } from "./types";

export const PAGE = 100;
const WAITING_MAX = 50; // rows whose place is asked for again
const TOP_PAGE = 50;
const MAX_TOP_PAGES = 6;
const TICK_MS = 300;
const SUMMARY_MS = 700;
const STAGES_MS = 2500;
const REST_MS = 3000;
const AT_ONCE = 4;

export interface RecordEntry {
    items: RecordItem[] | null;
    error: string;
    stale: boolean;
    loading: boolean;
}

type Listener = () => void;

export class DatasetStore {
    readonly list = new FileList();
    readonly records = new Map<string, RecordEntry>();
    filter: FileFilter = { state: "", q: "" };
    summary: Summary | null = null;
    loading = true;
    loadingMore = false;
    error = "";
    /** The file a dialog shows: kept fresh even when the list does not hold it. */
    watched: FileItem | null = null;
    /** Files known to be removed; their last looks must not bring them back. */
    readonly gone = new Set<string>();

    readonly dataset: Dataset;
    private readonly api: Api;
    private readonly listeners = new Set<Listener>();
    private visible: string[] = [];
    private readonly dirty = new Set<string>();
    private topDirty = false;
    private summaryDirty = false;
    private summaryAt = 0;
    private busy = false;
    private restUntil = 0;
    private readonly busyRecords = new Set<string>();
    private era = 0;
    private timer: ReturnType<typeof setInterval> | null = null;
    private closed = false;
    private pendingEmit = false;

    constructor(api: Api, dataset: Dataset) {
        this.api = api;
        this.dataset = dataset;
    }

    subscribe(l: Listener): () => void {
        this.listeners.add(l);
        return () => this.listeners.delete(l);
    }

    open(): void {
        this.timer = setInterval(() => void this.tick(), TICK_MS);
        void this.reload();
    }

    close(): void {
        this.closed = true;
        if (this.timer) {
            clearInterval(this.timer);
        }
        this.listeners.clear();
    }

    setFilter(filter: FileFilter): void {
        this.filter = filter;
        void this.reload();
    }

    async reload(): Promise<void> {
        const era = ++this.era;
        this.loading = true;
        this.error = "";
        this.emit();
        try {
            const page = await this.api.files(this.dataset.id, this.filter, PAGE, null);
            if (era !== this.era) {
                return;
            }
            this.dirty.clear();
            this.topDirty = false;
            this.list.replace(page);
        } catch (e) {
            if (era === this.era) {
                this.error = messageOf(e);
            }
        }
        if (era === this.era) {
            this.loading = false;
            this.summaryDirty = true;
            this.emit();
        }
    }

    async loadMore(): Promise<void> {
        const cursor = this.list.nextCursor;
        if (cursor === null || this.loadingMore || this.loading) {
            return;
        }
        const era = this.era;
        this.loadingMore = true;
        this.emit();
        try {
            const page = await this.api.files(this.dataset.id, this.filter, 200, cursor);
            if (era === this.era && this.list.nextCursor === cursor) {
                this.list.append(page);
            }
        } catch (e) {
            if (era === this.era) {
                this.error = messageOf(e);
            }
        }
        this.loadingMore = false;
        this.emit();
    }

    /** Rows on screen: what is stale among them is read again first. */
    setVisible(ids: string[]): void {
        this.visible = ids;
        for (const id of ids) {
            this.wantRecord(id);
        }
    }

    /** After an action of this page, without waiting for the event. */
    touch(ids: readonly string[]): void {
        for (const id of ids) {
            this.dirty.add(id);
        }
        this.summaryDirty = true;
        void this.tick();
    }

    touchTop(): void {
        this.topDirty = true;
        this.summaryDirty = true;
    }

    watch(f: FileItem): void {
        if (this.gone.has(f.id)) {
            return;
        }
        this.watched = f;
        this.list.update(f);
        this.wantRecord(f.id);
        this.emit();
    }

    dropRows(ids: readonly string[]): void {
        for (const id of ids) {
            this.forget(id);
        }
        this.list.removeMany(new Set(ids));
        this.summaryDirty = true;
        this.emit();
    }

    private forget(id: string): void {
        this.gone.add(id);
        this.records.delete(id);
        this.dirty.delete(id);
        if (this.watched?.id === id) {
            this.watched = null;
        }
    }

    /** Something may have been missed: everything shown is read again. */
    resync(): void {
        this.topDirty = true;
        this.summaryDirty = true;
        for (const id of this.list.order) {
            this.dirty.add(id);
        }
        for (const r of this.records.values()) {
            r.stale = true;
        }
        if (this.watched) {
            this.dirty.add(this.watched.id);
        }
    }

    /** A place in the queue changes without an event: the first rows that wait are read again. */
    refreshWaiting(): void {
        let left = WAITING_MAX;
        for (const id of this.list.order) {
            if (left > 0 && this.list.byId.get(id)?.pipelines?.main?.state === "waiting") {
                this.dirty.add(id);
                left--;
            }
        }
    }

    onMessage(m: SseMessage): void {
        if (m.event === "reset") {
            this.resync();
            return;
        }
        let e: ChangeEvent;
        try {
            e = JSON.parse(m.data) as ChangeEvent;
        } catch {
            return;
        }
        if (e.datasetId !== undefined && e.datasetId !== this.dataset.id) {
            return;
        }
        const id = e.fileId;
        this.summaryDirty = true;
        if (!id) {
            return;
        }
        const known = this.list.byId.has(id) || this.watched?.id === id;
        switch (m.event) {
            case "file_deleted":
                this.forget(id);
                this.list.remove(id);
                this.emit();
                return;
            case "file_created":
                this.topDirty = true;
                break;
            case "record_updated": {
                const r = this.records.get(id);
                if (r) {
                    r.stale = true;
                }
                break;
            }
            default:
                break;
        }
        if (known) {
            this.dirty.add(id);
        } else if (this.filter.state !== "") {
            // It may belong to the chosen state now.
            this.topDirty = true;
        }
    }

    recordOf(fileId: string): RecordEntry | undefined {
        return this.records.get(fileId);
    }

    /** Asks for the record of a file unless it is known and still true. */
    wantRecord(fileId: string): void {
        const f = this.list.byId.get(fileId) ?? (this.watched?.id === fileId ? this.watched : undefined);
        if (!f || !f.artifacts?.record || this.gone.has(fileId)) {
            return;
        }
        let r = this.records.get(fileId);
        if (!r) {
            r = { items: null, error: "", stale: true, loading: false };
            this.records.set(fileId, r);
        }
        const ids = f.artifacts.record.ids;
        if (ids && r.items && !r.loading && ids.some((x) => !r?.items?.some((y) => y.id === x))) {
            r.stale = true;
        }
        if (r.stale && !r.loading && this.busyRecords.size < AT_ONCE) {
            void this.loadRecord(fileId, r);
        }
    }

    private async loadRecord(fileId: string, r: RecordEntry): Promise<void> {
        r.loading = true;
        r.stale = false;
        this.busyRecords.add(fileId);
        try {
            r.items = await this.api.records(fileId);
            r.error = "";
        } catch (e) {
            if (e instanceof Problem && e.status === 404) {
                r.items = [];
            } else {
                r.error = messageOf(e);
            }
        }
        r.loading = false;
        this.busyRecords.delete(fileId);
        this.emit();
        for (const id of this.visible) {
            this.wantRecord(id);
        }
    }

    private async tick(): Promise<void> {
        if (this.busy || this.closed || this.loading || Date.now() < this.restUntil) {
            return;
        }
        this.busy = true;
        try {
            if (this.topDirty) {
                await this.refreshTop();
            }
            await this.refreshVisible();
            if (this.summaryDirty && Date.now() - this.summaryAt >= SUMMARY_MS) {
                await this.refreshSummary();
            }
        } finally {
            this.busy = false;
        }
    }

    private async refreshTop(): Promise<void> {
        const era = this.era;
        this.topDirty = false;
        const items: FileItem[] = [];
        let cursor: string | null = null;
        try {
            for (let i = 0; i < MAX_TOP_PAGES; i++) {
                const limit: number = i === 0 ? TOP_PAGE : 200;
                const page = await this.api.files(this.dataset.id, this.filter, limit, cursor);
                if (era !== this.era || this.closed) {
                    return;
                }
                items.push(...page.items);
                cursor = page.nextCursor ?? null;
                if (this.list.mergeTop(items, cursor)) {
                    this.markFresh(items);
                    this.emit();
                    return;
                }
            }
            this.list.replace({ items, nextCursor: cursor });
            this.markFresh(items);
            this.emit();
        } catch {
            this.topDirty = true;
            this.rest();
        }
    }

    private markFresh(items: readonly FileItem[]): void {
        for (const f of items) {
            this.dirty.delete(f.id);
            if (this.watched?.id === f.id) {
                this.watched = f;
            }
            const r = this.records.get(f.id);
            if (r && f.artifacts?.record && r.items?.length === 0) {
                r.stale = true;
            }
        }
        for (const id of this.visible) {
            this.wantRecord(id);
        }
    }

    private async refreshVisible(): Promise<void> {
        const era = this.era;
        const ids = this.visible.filter((id) => this.dirty.has(id) && this.list.byId.has(id));
        if (this.watched && this.dirty.has(this.watched.id) && !ids.includes(this.watched.id)) {
            ids.push(this.watched.id);
        }
        if (ids.length === 0) {
            return;
        }
        let next = 0;
        const worker = async () => {
            for (;;) {
                const id = ids[next++];
                if (id === undefined || era !== this.era || this.closed) {
                    return;
                }
                await this.refreshOne(id);
            }
        };
        await Promise.all(Array.from({ length: AT_ONCE }, worker));
        this.emit();
    }

    private async refreshOne(id: string): Promise<void> {
        this.dirty.delete(id);
        try {
            const f = await this.api.file(id);
            if (this.watched?.id === id) {
                this.watched = f;
            }
            if (this.filter.state !== "" && f.state !== this.filter.state) {
                this.list.remove(id);
            } else {
                this.list.update(f);
            }
            this.wantRecord(id);
        } catch (e) {
            if (e instanceof Problem && e.status === 404) {
                this.forget(id);
                this.list.remove(id);
            } else {
                this.dirty.add(id);
                this.rest();
            }
        }
    }

    /** After a failed look nothing is read for a while; the link's state is shown elsewhere. */
    private rest(): void {
        this.restUntil = Date.now() + REST_MS;
    }

    private async refreshSummary(): Promise<void> {
        this.summaryDirty = false;
        this.summaryAt = Date.now();
        try {
            this.summary = await this.api.summary(this.dataset.id);
            this.emit();
            // Counts by stage are up to two seconds old: look once more while anything moves.
            if (isBusy(this.summary)) {
                setTimeout(() => (this.summaryDirty = true), STAGES_MS);
            }
        } catch {
            this.summaryDirty = true;
            this.rest();
        }
    }

    private emit(): void {
        if (this.pendingEmit || this.closed) {
            return;
        }
        this.pendingEmit = true;
        queueMicrotask(() => {
            this.pendingEmit = false;
            for (const l of [...this.listeners]) {
                l();
            }
        });
    }
}

function isBusy(s: Summary): boolean {
    return Object.values(s.stages ?? {}).some(
        (n) => (n["pending"] ?? 0) + (n["running"] ?? 0) + (n["waiting"] ?? 0) > 0,
    );
}

/** The counts by state with their sum, so that what is shown always adds up. */
export function countsOf(s: Summary | null): { total: number; byState: Record<string, number> } {
    const byState: Record<string, number> = {};
    let total = 0;
    for (const [k, v] of Object.entries(s?.files?.byState ?? {})) {
        if (typeof v === "number" && v > 0) {
            byState[k] = v;
            total += v;
        }
    }
    return { total, byState };
}
