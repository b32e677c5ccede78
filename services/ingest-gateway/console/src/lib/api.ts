// SPDX-License-Identifier: Apache-2.0
// Why: the one place that talks to the gateway. A call carries the key in a header, or the browser adds
// the cookie of a sign-in, and then a call that changes something has the CSRF token. Every refusal
// becomes a `Problem`. It refuses to send either to any origin but the page's own.
import { Problem } from "./problem";
import type {
    BatchSummary,
    Column,
    Dataset,
    DeadLetter,
    FileItem,
    ImportInfo,
    ImportRun,
    KeyInfo,
    LetterAnswer,
    LetterGroup,
    Limits,
    Me,
    Page,
    PageWords,
    PipelineName,
    PreviewPage,
    ProblemBody,
    RecordItem,
    SessionInfo,
    ShareLink,
    SignInMethods,
    StageInfo,
    Summary,
    TextPage,
    TimelineItem,
    Usage,
    UserInfo,
} from "./types";

export const BASE = "/api/v1";

export interface FileFilter {
    state: string;
    q: string;
}

/** A random UUID; `crypto.randomUUID` exists only on https and localhost. */
export function uuid(): string {
    if (typeof crypto.randomUUID === "function") {
        return crypto.randomUUID();
    }
    const b = crypto.getRandomValues(new Uint8Array(16));
    b[6] = ((b[6] ?? 0) & 0x0f) | 0x40;
    b[8] = ((b[8] ?? 0) & 0x3f) | 0x80;
    const hex = Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export function parseRetryAfter(value: string | null): number | undefined {
    const n = value === null ? Number.NaN : Number(value);
    return Number.isFinite(n) && n >= 0 ? n : undefined;
}

export function problemFromText(status: number, text: string, retryAfter?: number): Problem {
    let body: ProblemBody = {};
    try {
        const parsed: unknown = JSON.parse(text);
        if (parsed !== null && typeof parsed === "object") {
            body = parsed as ProblemBody;
        }
    } catch {
        // Not JSON (a proxy's page, an empty body): the status alone decides the sentence.
    }
    return new Problem(status, body, retryAfter);
}

function query(params: Record<string, string | number | null | undefined>): string {
    const q = new URLSearchParams();
    for (const [k, v] of Object.entries(params)) {
        if (v !== null && v !== undefined && v !== "") {
            q.set(k, String(v));
        }
    }
    const s = q.toString();
    return s ? `?${s}` : "";
}

const enc = encodeURIComponent;

/** From which stages a cancelled file is run again. */
export function restartFrom(f: FileItem): string[] {
    const cancelled = (p: PipelineName) => f.pipelines?.[p]?.state === "cancelled";
    const stages: string[] = [];
    if (cancelled("main")) {
        stages.push("text");
    }
    if (cancelled("preview")) {
        stages.push("preview");
    }
    // Of a document the thumbnail follows its preview; of a picture it stands alone.
    if (cancelled("thumbnail") && (!cancelled("preview") || f.mime?.startsWith("image/"))) {
        stages.push("thumbnail");
    }
    return stages.length > 0 ? stages : ["text"];
}

/** How a sign-in is proven: an API key, or "" for the browser's cookie and its CSRF token. */
export interface Credential {
    key: string;
    csrf: string;
}

export function credentialHeaders(c: Credential, method: string): Record<string, string> {
    if (c.key) {
        return { Authorization: `Bearer ${c.key}` };
    }
    return method === "GET" || method === "HEAD" ? {} : { "X-CSRF-Token": c.csrf };
}

/** Ways to sign in, asked before anybody is; `cookie`: the browser has one of a session. */
export async function signInMethods(): Promise<SignInMethods> {
    const res = await fetch(`${BASE}/auth/methods`, { credentials: "same-origin", cache: "no-store" });
    return (await res.json()) as SignInMethods;
}

export async function passwordSignIn(name: string, password: string): Promise<Api> {
    const api = new Api("");
    const me = await api.post<Me>(`${BASE}/auth/login`, { name, password });
    return new Api("", me.csrfToken ?? "");
}

/** With the cookie that is there; a `Problem` with status 401 when it counts no longer. */
export async function resumeSession(): Promise<Api> {
    const me = await new Api("").me();
    return new Api("", me.csrfToken ?? "");
}

export class Api {
    readonly key: string;
    csrf: string;
    /** Called once for any 401, so that the page can return to the sign-in form. */
    onUnauthorized: () => void = () => {};

    constructor(key: string, csrf = "") {
        this.key = key;
        this.csrf = csrf;
    }

    async send(path: string, init: RequestInit = {}): Promise<Response> {
        const url = new URL(path, location.origin);
        if (url.origin !== location.origin) {
            throw new Error("The server named an address outside this site; it was not opened.");
        }
        const headers = new Headers(init.headers);
        for (const [name, value] of Object.entries(credentialHeaders(this, init.method ?? "GET"))) {
            headers.set(name, value);
        }
        let res: Response;
        try {
            res = await fetch(url, { ...init, headers, credentials: this.key ? "omit" : "same-origin", cache: init.cache ?? "no-cache" });
        } catch (e) {
            if (e instanceof DOMException && e.name === "AbortError") {
                throw e;
            }
            throw new Problem(0, {});
        }
        if (!res.ok) {
            const text = await res.text().catch(() => "");
            if (res.status === 401) {
                this.onUnauthorized();
            }
            throw problemFromText(res.status, text, parseRetryAfter(res.headers.get("Retry-After")));
        }
        return res;
    }

    async get<T>(path: string, signal?: AbortSignal): Promise<T> {
        const res = await this.send(path, {
            headers: { Accept: "application/json" },
            ...(signal ? { signal } : {}),
        });
        return (await res.json()) as T;
    }

    async post<T>(path: string, body: unknown, idempotencyKey = uuid()): Promise<T> {
        const res = await this.send(path, {
            method: "POST",
            headers: {
                "Content-Type": "application/json",
                Accept: "application/json",
                "Idempotency-Key": idempotencyKey,
            },
            body: JSON.stringify(body ?? {}),
        });
        const text = await res.text();
        return (text ? JSON.parse(text) : null) as T;
    }

    private async change<T>(method: "PATCH" | "PUT", path: string, body: unknown): Promise<T> {
        const res = await this.send(path, {
            method,
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify(body),
        });
        const text = await res.text();
        return (text ? JSON.parse(text) : null) as T;
    }

    /** All datasets, up to 2,000 of them. */
    async datasets(signal?: AbortSignal): Promise<Dataset[]> {
        const all: Dataset[] = [];
        let cursor: string | null | undefined;
        for (let i = 0; i < 10; i++) {
            const page: Page<Dataset> = await this.get(
                `${BASE}/datasets${query({ limit: 200, cursor })}`,
                signal,
            );
            all.push(...page.items);
            cursor = page.nextCursor;
            if (!cursor) {
                break;
            }
        }
        return all;
    }

    dataset(id: string, signal?: AbortSignal): Promise<Dataset> {
        return this.get(`${BASE}/datasets/${enc(id)}`, signal);
    }

    createDataset(body: { name: string; columns: Column[] }, idempotencyKey: string): Promise<Dataset> {
        return this.post(`${BASE}/datasets`, body, idempotencyKey);
    }

    summary(datasetId: string, signal?: AbortSignal): Promise<Summary> {
        return this.get(`${BASE}/datasets/${enc(datasetId)}/summary`, signal);
    }

    files(
        datasetId: string,
        filter: FileFilter,
        limit: number,
        cursor: string | null,
        signal?: AbortSignal,
    ): Promise<Page<FileItem>> {
        const q = query({ state: filter.state, q: filter.q, limit, cursor });
        return this.get(`${BASE}/datasets/${enc(datasetId)}/files${q}`, signal);
    }

    file(id: string, signal?: AbortSignal): Promise<FileItem> {
        return this.get(`${BASE}/files/${enc(id)}`, signal);
    }

    async records(fileId: string, signal?: AbortSignal): Promise<RecordItem[]> {
        const page: Page<RecordItem> = await this.get(`${BASE}/files/${enc(fileId)}/record`, signal);
        return page.items ?? [];
    }

    preview(fileId: string, signal?: AbortSignal): Promise<{ pages: PreviewPage[]; total?: number }> {
        return this.get(`${BASE}/files/${enc(fileId)}/preview`, signal);
    }

    words(href: string, signal?: AbortSignal): Promise<PageWords> {
        return this.get(href, signal);
    }

    textPages(fileId: string, signal?: AbortSignal): Promise<{ pages: TextPage[] }> {
        return this.get(`${BASE}/files/${enc(fileId)}/text`, signal);
    }

    async text(fileId: string, page: number, signal?: AbortSignal): Promise<string> {
        const res = await this.send(`${BASE}/files/${enc(fileId)}/text${query({ page })}`, {
            headers: { Accept: "text/plain" },
            ...(signal ? { signal } : {}),
        });
        return res.text();
    }

    timeline(fileId: string, signal?: AbortSignal): Promise<Page<TimelineItem>> {
        return this.get(`${BASE}/files/${enc(fileId)}/timeline`, signal);
    }

    async blob(path: string, signal?: AbortSignal): Promise<Blob> {
        const res = await this.send(path, { cache: "default", ...(signal ? { signal } : {}) });
        return res.blob();
    }

    me(signal?: AbortSignal): Promise<Me> {
        return this.get(`${BASE}/auth/me`, signal);
    }

    /** Ends the session; the address at the issuer where the browser signs out, too, or null. */
    async signOut(): Promise<string | null> {
        if (this.key) {
            return null;
        }
        return (await this.post<{ logoutUrl: string | null }>(`${BASE}/auth/logout`, {})).logoutUrl;
    }

    signOutEverywhere(): Promise<unknown> {
        return this.post(`${BASE}/auth/logout-all`, {});
    }

    async changePassword(current: string, wanted: string): Promise<void> {
        const me = await this.post<Me>(`${BASE}/auth/password`, { current, new: wanted });
        this.csrf = me.csrfToken ?? "";
    }

    async sessions(signal?: AbortSignal): Promise<SessionInfo[]> {
        return (await this.get<Page<SessionInfo>>(`${BASE}/auth/sessions`, signal)).items;
    }

    async usage(signal?: AbortSignal): Promise<Usage> {
        return this.get<Usage>(`${BASE}/usage`, signal);
    }

    async keys(signal?: AbortSignal): Promise<KeyInfo[]> {
        return (await this.get<Page<KeyInfo>>(`${BASE}/api-keys`, signal)).items;
    }

    createKey(body: { name: string; scopes: string[]; expiresInDays?: number }): Promise<KeyInfo & { key: string }> {
        return this.post(`${BASE}/api-keys`, body);
    }

    async shares(fileId: string): Promise<ShareLink[]> {
        return (await this.get<Page<ShareLink>>(`${BASE}/files/${enc(fileId)}/shares${query({ limit: 200 })}`)).items;
    }

    createShare(fileId: string, body: { expiresInDays?: number; maxDownloads?: number; password?: string }): Promise<{ id: string; shareUrl: string }> {
        return this.post(`${BASE}/files/${enc(fileId)}/share`, body);
    }

    async delete(path: string): Promise<void> {
        await this.send(path, { method: "DELETE" });
    }

    batch(id: string, signal?: AbortSignal): Promise<BatchSummary> {
        return this.get(`${BASE}/batches/${enc(id)}/summary`, signal);
    }

    receiptPath(batchId: string, format: "csv" | "json"): string {
        return `${BASE}/batches/${enc(batchId)}/receipt${query({ format })}`;
    }

    async stages(signal?: AbortSignal): Promise<StageInfo[]> {
        return (await this.get<Page<StageInfo>>(`${BASE}/admin/stages`, signal)).items;
    }

    setPaused(stage: string, paused: boolean): Promise<StageInfo> {
        return this.post(`${BASE}/admin/stages/${enc(stage)}/${paused ? "pause" : "resume"}`, {});
    }

    async imports(signal?: AbortSignal): Promise<ImportInfo[]> {
        return (await this.get<Page<ImportInfo>>(`${BASE}/imports${query({ limit: 200 })}`, signal)).items;
    }

    async importRuns(id: string): Promise<ImportRun[]> {
        return (await this.get<Page<ImportRun>>(`${BASE}/imports/${enc(id)}/runs${query({ limit: 20 })}`)).items;
    }

    runImport(id: string): Promise<ImportRun> {
        return this.post(`${BASE}/imports/${enc(id)}/run`, {});
    }

    async setImportEnabled(id: string, enabled: boolean): Promise<void> {
        await this.change("PATCH", `${BASE}/imports/${enc(id)}`, { enabled });
    }

    rollBackImport(id: string, runId: string): Promise<unknown> {
        return this.post(`${BASE}/imports/${enc(id)}/runs/${enc(runId)}/rollback`, {});
    }

    users(cursor: string | null): Promise<Page<UserInfo>> {
        return this.get(`${BASE}/admin/users${query({ limit: 50, cursor })}`);
    }

    createUser(body: { name: string; role: string }): Promise<UserInfo> {
        return this.post(`${BASE}/admin/users`, body);
    }

    changeUser(id: string, body: { role?: string; weight?: number; disabled?: boolean }): Promise<UserInfo> {
        return this.change("PATCH", `${BASE}/admin/users/${enc(id)}`, body);
    }

    async setPassword(id: string, password: string): Promise<void> {
        await this.change("PUT", `${BASE}/admin/users/${enc(id)}/password`, { password });
    }

    async endSessions(id: string): Promise<void> {
        await this.delete(`${BASE}/admin/users/${enc(id)}/sessions`);
    }

    /** Of an account, or without one of all that have none of their own. */
    async limits(id?: string): Promise<{ limits: Limits; usage?: Usage }> {
        return this.get(id ? `${BASE}/admin/users/${enc(id)}/quota` : `${BASE}/admin/quota`);
    }

    async setLimits(limits: Limits, id?: string): Promise<void> {
        await this.change("PUT", id ? `${BASE}/admin/users/${enc(id)}/quota` : `${BASE}/admin/quota`, limits);
    }

    async letterGroups(signal?: AbortSignal): Promise<LetterGroup[]> {
        return (await this.get<Page<LetterGroup>>(`${BASE}/admin/dead-letters/groups`, signal)).items;
    }

    letters(filter: Record<string, string>, cursor: string | null, signal?: AbortSignal): Promise<Page<DeadLetter>> {
        return this.get(`${BASE}/admin/dead-letters${query({ ...filter, limit: 50, cursor })}`, signal);
    }

    changeLetters(verb: "replay" | "discard", filter: Record<string, string>, dryRun: boolean): Promise<LetterAnswer> {
        return this.post(`${BASE}/admin/dead-letters/${verb}`, { filter, dryRun, limit: 10_000 });
    }

    csvPath(datasetId: string): string {
        return `${BASE}/datasets/${enc(datasetId)}/records${query({ format: "csv" })}`;
    }

    contentPath(fileId: string): string {
        return `${BASE}/files/${enc(fileId)}/content`;
    }

    thumbnailPath(fileId: string, size: 64 | 256 | 512): string {
        return `${BASE}/files/${enc(fileId)}/thumbnail${query({ size })}`;
    }

    private retry(fileId: string, from?: string): Promise<{ retried?: number } | null> {
        return this.post(`${BASE}/files/${enc(fileId)}/retry`, from ? { from } : {});
    }

    /**
     * Puts what failed to work again. What was cancelled has no unit left to repeat, so each
     * cancelled pipeline is run anew; a re-run keeps those going that were started before it.
     */
    async restart(f: FileItem): Promise<void> {
        if (f.state !== "cancelled") {
            const answer = await this.retry(f.id);
            if (answer?.retried === 0) {
                await this.retry(f.id, "text");
            }
            return;
        }
        for (const from of restartFrom(f)) {
            await this.retry(f.id, from);
        }
    }

    retryMatching(datasetId: string, filter: Record<string, unknown>): Promise<unknown> {
        return this.post(`${BASE}/datasets/${enc(datasetId)}/files/retry`, { filter });
    }

    cancel(fileId: string): Promise<unknown> {
        return this.post(`${BASE}/files/${enc(fileId)}/cancel`, {});
    }

    /** Removes the files named; the gateway takes them by the hundred. */
    async remove(datasetId: string, ids: string[]): Promise<number> {
        let removed = 0;
        for (let i = 0; i < ids.length; i += 200) {
            const answer = await this.post<{ removed?: number }>(
                `${BASE}/datasets/${enc(datasetId)}/files/remove`,
                { ids: ids.slice(i, i + 200) },
            );
            removed += answer?.removed ?? 0;
        }
        return removed;
    }

    async removeMatching(datasetId: string, filter: Record<string, unknown>): Promise<number> {
        const answer = await this.post<{ removed?: number }>(
            `${BASE}/datasets/${enc(datasetId)}/files/remove`,
            { filter },
        );
        return answer?.removed ?? 0;
    }
}
