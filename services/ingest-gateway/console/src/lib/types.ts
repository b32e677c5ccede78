// SPDX-License-Identifier: Apache-2.0
// Why: the shapes of the public API that this page reads. Only what is used is named, and
// whatever a gateway may leave out is optional: a new field never breaks the page.

export type FileState =
    | "uploading"
    | "processing"
    | "done"
    | "failed"
    | "cancelled"
    | "quarantined";
export const FILE_STATES: readonly FileState[] = [
    "uploading",
    "processing",
    "done",
    "failed",
    "cancelled",
    "quarantined",
];

export type PipelineState = "waiting" | "running" | "done" | "failed" | "skipped" | "cancelled";
export type PipelineName = "main" | "preview" | "thumbnail";

export interface StageError {
    code?: string;
    detail?: string;
    class?: string;
    retryable?: boolean;
    /** The code in plain words, and what helps. */
    explanation?: string;
    advice?: string;
    stage?: string;
    attempts?: number;
}

export interface Pipeline {
    state: PipelineState;
    stage?: string | null;
    attempts?: number;
    pagesDone?: number | null;
    pagesTotal?: number | null;
    queuePosition?: number | null;
    etaSeconds?: number | null;
    retryAt?: string | null;
    error?: StageError | null;
}

export interface FileItem {
    id: string;
    datasetId: string;
    batchId?: string | null;
    name: string;
    size: number;
    mime?: string | null;
    sha256?: string | null;
    version?: number;
    generation?: number;
    state: FileState;
    createdAt: string;
    updatedAt?: string;
    pipelines?: Partial<Record<PipelineName, Pipeline>>;
    artifacts?: {
        text?: { href?: string; method?: string; pages?: number; chars?: number } | null;
        record?: { href?: string; ids?: string[] } | null;
        preview?: { href?: string; pages?: number } | null;
        thumbnail?: { href?: string; width?: number; height?: number } | null;
    };
}

export type ColumnType =
    | "string"
    | "number"
    | "integer"
    | "boolean"
    | "date"
    | "datetime"
    | "money"
    | "enum"
    | "rows";
export const COLUMN_TYPES: readonly ColumnType[] = [
    "string",
    "number",
    "integer",
    "boolean",
    "date",
    "datetime",
    "money",
    "enum",
    "rows",
];

export interface Column {
    id?: string;
    name: string;
    type: ColumnType;
    description?: string;
    required?: boolean;
    enum?: string[];
    currency?: string;
    dateOrder?: string;
    itemColumns?: Column[];
}

export interface Dataset {
    id: string;
    name: string;
    schemaVersion?: number;
    columns?: Column[];
    createdAt?: string;
}

export interface Summary {
    files?: { total?: number; byState?: Partial<Record<FileState, number>> };
    stages?: Record<string, Record<string, number>>;
    approximate?: boolean;
    oldestWaitingSeconds?: number | null;
    etaSeconds?: number | null;
}

export interface BatchSummary {
    id: string;
    total: number;
    accepted: number;
    rejected: number;
    deleted?: number;
    state: "processing" | "done";
    byState: Partial<Record<FileState, number>>;
    etaSeconds?: number | null;
}

export interface Me {
    id: string;
    name: string;
    role: string;
    scopes: string[];
    credential: "key" | "session" | "token";
    csrfToken: string | null;
}

export interface SignInMethods {
    password: boolean;
    oidc: { name: string; href: string } | null;
    passwordMin: number;
    cookie: boolean;
}

export interface SessionInfo {
    id: string;
    method: string;
    address: string;
    agent: string;
    createdAt: string;
    seenAt: string;
    current: boolean;
}

export interface Used {
    used: number;
    limit: number | null;
}

/** Files and bytes as stored now; pages and money of the month (YYYY-MM, UTC). */
export interface Usage {
    month: string;
    files: Used;
    bytes: Used;
    pages: Used;
    money: Used;
}

/** null: as all accounts. */
export type Limit = number | "none" | null;
export type LimitKind = "files" | "bytes" | "pages" | "money";
export type Limits = Record<LimitKind, Limit>;

export interface UserInfo {
    id: string;
    name: string;
    role: string;
    weight: number;
    disabled: boolean;
    /** null when counting took too long. */
    usage: { files: number; bytes: number; inWork: number; deadLetters: number } | null;
}

export interface ImportInfo {
    id: string;
    name: string;
    source: string | null;
    prefix: string;
    schedule: { cron: string; timeZone: string } | null;
    enabled: boolean;
    health: "new" | "ok" | "failing";
    nextAt: string | null;
    lastSuccessAt: string | null;
    published: { runId: string; no: number } | null;
}

export interface ImportRun {
    id: string;
    no: number;
    state: string;
    error: { code: string; detail: string | null } | null;
    counts: Record<string, number>;
    queuedAt: string;
    startedAt: string | null;
    endedAt: string | null;
    current: boolean;
    kept: boolean;
}

export interface ShareLink {
    id: string;
    fileId: string;
    createdAt: string;
    expiresAt: string;
    revokedAt: string | null;
    lastDownloadAt: string | null;
    downloads: number;
    maxDownloads: number | null;
    passwordProtected: boolean;
    open: boolean;
}

export interface KeyInfo {
    id: string;
    name: string;
    scopes: string[];
    createdAt: string;
    expiresAt: string | null;
    lastUsedAt: string | null;
}

export interface StageInfo {
    stage: string;
    depth: number;
    waiting?: number | null;
    out?: number | null;
    users?: number | null;
    ratePerSecond?: number | null;
    credit?: number | null;
    oldestSeconds?: number | null;
    paused: boolean;
    pauseHolds: boolean;
    workers: { live: number; slots: number; busy: number; breakersOpen: number };
    deadLetters: number;
}

export interface LetterGroup {
    stage: string;
    reason: string;
    class: string;
    explanation: string;
    advice: string;
    letters: number;
    replayable: number;
}

export interface DeadLetter {
    id: string;
    fileId: string;
    fileName?: string | null;
    stage: string;
    unit: number;
    generation: number;
    reason: string;
    explanation: string;
    advice: string;
    class: string;
    attempts: number;
    failures: number;
    crashes: number;
    outageRetries: number;
    lastError: string;
    firstAt: string;
    lastAt: string;
    state: string;
    replayable: boolean;
    userId?: string;
    child?: Record<string, unknown> | null;
    replayOf?: string | null;
    actor?: string | null;
    evidence?: {
        input?: { key?: string | null; etag?: string | null; bytes?: number | null; kind?: string | null; version?: number };
        worker?: string | null;
        codeVersion?: string | null;
        trace?: string | null;
    };
}

export interface LetterAnswer {
    matched: number;
    replayable: number;
    replayed?: number;
    discarded?: number;
    more: boolean;
    groups?: LetterGroup[];
    examples?: DeadLetter[];
}

export type Box = [number, number, number, number];

export interface Cell {
    confidence?: number | null;
    page?: number | null;
    span?: [number, number] | null;
    boxes?: Box[] | null;
    quote?: string | null;
    status?: "ok" | "empty" | "ungrounded" | "conflict" | "corrected" | string;
}

export interface RecordItem {
    id: string;
    fileId: string;
    version?: number;
    generation?: number;
    backend?: string;
    values?: Record<string, unknown>;
    cells?: Record<string, Cell | null>;
    needsReview?: boolean;
    completeness?: number;
}

export interface PreviewPage {
    page: number;
    width: number;
    height: number;
    href: string;
    textHref?: string | null;
}

export interface Word {
    text: string;
    box: Box;
}

export interface PageWords {
    page: number;
    width: number;
    height: number;
    words: Word[];
}

export interface TextPage {
    page: number;
    chars?: number;
    engine?: string;
}

export interface TimelineItem {
    at: string;
    kind: string;
    stage?: string | null;
    detail?: Record<string, unknown> | null;
}

export interface Page<T> {
    items: T[];
    nextCursor?: string | null;
}

export interface UploadPart {
    id?: string;
    name: string;
    size?: number;
    state?: FileState;
    error?: { code?: string; detail?: string; title?: string } | string | null;
}

export interface UploadAnswer {
    batch?: { id: string; total: number; accepted: number; rejected: number };
    files?: UploadPart[];
}

export interface ProblemBody {
    type?: string;
    title?: string;
    status?: number;
    detail?: string;
    code?: string;
    requestId?: string;
    errors?: { pointer?: string; detail?: string }[];
}

/** What one message of the event stream says. */
export interface ChangeEvent {
    fileId?: string;
    datasetId?: string;
    batchId?: string;
    stage?: string;
    state?: string;
    detail?: unknown;
}
