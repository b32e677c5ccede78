// SPDX-License-Identifier: Apache-2.0
// Why: numbers, times, stages and values as a person reads them. Pure functions only.
import { plainError } from "./problem";
import type { Cell, Column, FileItem, FileState, Pipeline, PipelineName, TimelineItem } from "./types";

export function bytes(n: number | null | undefined): string {
    if (n === null || n === undefined || !Number.isFinite(n)) {
        return "–";
    }
    const units = ["B", "KB", "MB", "GB", "TB"];
    let v = n;
    let u = 0;
    while (v >= 1000 && u < units.length - 1) {
        v /= 1000;
        u++;
    }
    return `${u === 0 || v >= 99.95 ? Math.round(v) : v.toFixed(1)} ${units[u]}`;
}

const NUMBER = new Intl.NumberFormat("en");

export function count(n: number | null | undefined): string {
    return n === null || n === undefined ? "–" : NUMBER.format(n);
}

export function plural(n: number, one: string, many = `${one}s`): string {
    return `${count(n)} ${n === 1 ? one : many}`;
}

const TIME = new Intl.DateTimeFormat(undefined, {
    year: "numeric",
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
});

export function time(s: string | null | undefined): string {
    const t = Date.parse(s ?? "");
    return Number.isFinite(t) ? TIME.format(t) : "–";
}

export function percent(x: number): string {
    return `${Math.round(x * 100)} %`;
}

export const STATE_LABEL: Record<FileState, string> = {
    uploading: "Uploading",
    processing: "Processing",
    done: "Done",
    failed: "Failed",
    cancelled: "Cancelled",
    quarantined: "Quarantined",
};

export const PIPELINE_LABEL: Record<PipelineName, string> = {
    main: "Data",
    preview: "Preview",
    thumbnail: "Thumbnail",
};

export const PIPELINE_STATE_LABEL: Record<string, string> = {
    waiting: "waiting",
    running: "running",
    done: "done",
    failed: "failed",
    skipped: "not applicable",
    cancelled: "cancelled",
};

export const STAGE_LABEL: Record<string, string> = {
    scan: "Virus scan",
    text: "Reading text",
    ocr: "Reading pictures of text",
    ai: "Finding values",
    preview: "Drawing preview",
    thumbnail: "Making thumbnail",
    clean: "Cleaning up",
};

export function stageLabel(stage: string | null | undefined): string {
    if (!stage) {
        return "";
    }
    return STAGE_LABEL[stage] ?? stage;
}

export function pages(p: Pipeline): string {
    if (!p.pagesTotal || p.pagesTotal < 1) {
        return "";
    }
    const done = p.pagesDone ?? 0;
    if (p.state === "done" && done >= p.pagesTotal) {
        return plural(p.pagesTotal, "page");
    }
    return `${count(done)} of ${plural(p.pagesTotal, "page")}`;
}

/** "about 40 s", "about 3 min", "about 2 h": as exact as an estimate is. */
export function about(seconds: number | null | undefined): string {
    if (seconds === null || seconds === undefined || !Number.isFinite(seconds) || seconds < 0) {
        return "";
    }
    if (seconds < 5) {
        return "a moment";
    }
    if (seconds < 90) {
        return `about ${Math.max(10, Math.round(seconds / 10) * 10)} s`;
    }
    return seconds < 5400 ? `about ${Math.round(seconds / 60)} min` : `about ${Math.round(seconds / 3600)} h`;
}

/** Where waiting work stands, with a leading separator; empty when nobody knows. */
export function placeInQueue(p: Pipeline, separator: string): string {
    if (p.retryAt) {
        const seconds = Math.max(0, (Date.parse(p.retryAt) - Date.now()) / 1000);
        return `${separator}again in ${about(seconds)}`;
    }
    if (p.queuePosition === 0) {
        return `${separator}next`;
    }
    if (!p.queuePosition) {
        return "";
    }
    const eta = about(p.etaSeconds);
    return `${separator}place ${count(p.queuePosition)}${eta ? `, ${eta}` : ""}`;
}

/** One sentence on a pipeline: what it does, how far it is, or why it ended. */
export function pipelineSentence(name: PipelineName, p: Pipeline | undefined): string {
    const label = PIPELINE_LABEL[name];
    if (!p) {
        return `${label}: not known yet`;
    }
    const at = pages(p);
    const stage = name === "main" ? stageLabel(p.stage) : "";
    switch (p.state) {
        case "waiting": {
            const place = placeInQueue(p, ", ");
            return `${label}: waiting${stage ? ` for “${stage.toLowerCase()}”` : ""}${place}`;
        }
        case "running":
            return `${label}: ${(stage || "running").toLowerCase()}${at ? `, ${at}` : ""}`;
        case "done":
            return `${label}: done${at ? `, ${at}` : ""}`;
        case "failed":
            return `${label}: failed${stage ? ` at “${stage.toLowerCase()}”` : ""}. ${plainError(p.error)}`;
        case "skipped":
            return `${label}: not made. ${p.error ? plainError(p.error) : "It does not apply to this kind of file."}`;
        case "cancelled":
            return `${label}: cancelled`;
        default:
            return `${label}: ${String(p.state)}`;
    }
}

/** The one line that matters most in a table row. */
export function headline(f: FileItem): { text: string; tone: "plain" | "bad" | "warn" } {
    const main = f.pipelines?.main;
    if (f.state === "uploading") {
        return { text: "Upload not finished yet", tone: "plain" };
    }
    if (f.state === "quarantined") {
        return { text: "Set aside by the virus scan", tone: "bad" };
    }
    if (main?.state === "failed") {
        return { text: plainError(main.error), tone: "bad" };
    }
    if (main?.state === "running") {
        const at = pages(main);
        return { text: `${stageLabel(main.stage) || "Running"}${at ? ` · ${at}` : ""}`, tone: "plain" };
    }
    if (main?.state === "waiting") {
        const place = placeInQueue(main, " · ");
        return { text: `Waiting: ${(stageLabel(main.stage) || "next stage").toLowerCase()}${place}`, tone: "plain" };
    }
    for (const name of ["preview", "thumbnail"] as const) {
        const p = f.pipelines?.[name];
        if (p?.state === "failed") {
            return { text: `No ${name}: ${plainError(p.error)}`, tone: "warn" };
        }
        if (p?.state === "running" || p?.state === "waiting") {
            const at = pages(p);
            return { text: `${stageLabel(name)}${at ? ` · ${at}` : ""}`, tone: "plain" };
        }
    }
    if (f.state === "cancelled") {
        return { text: "Stopped on request", tone: "plain" };
    }
    const text = f.artifacts?.text;
    if (text?.pages) {
        const how =
            text.method === "ocr" || text.method === "textract"
                ? " · read from pictures"
                : text.method === "mixed"
                  ? " · partly read from pictures"
                  : "";
        return { text: `${plural(text.pages, "page")}${how}`, tone: "plain" };
    }
    return { text: "", tone: "plain" };
}

function scalar(v: unknown): string {
    if (v === null || v === undefined) {
        return "";
    }
    if (typeof v === "boolean") {
        return v ? "Yes" : "No";
    }
    if (typeof v === "object") {
        return JSON.stringify(v);
    }
    return String(v);
}

/** A value as text; an empty string means that nothing was found. */
export function value(column: Pick<Column, "type"> | undefined, v: unknown): string {
    if (v === null || v === undefined || v === "") {
        return "";
    }
    if (Array.isArray(v)) {
        return v.length === 0 ? "" : plural(v.length, "row");
    }
    if (typeof v === "object") {
        const o = v as Record<string, unknown>;
        if ("amount" in o) {
            const cur = o["currency"];
            return `${scalar(o["amount"])}${typeof cur === "string" && cur ? ` ${cur}` : ""}`;
        }
        if (typeof o["count"] === "number") {
            return plural(o["count"], "row");
        }
        return scalar(v);
    }
    if (column?.type === "datetime" && typeof v === "string") {
        return v.replace("T", " ").replace(/(\.\d+)?Z$/, " UTC");
    }
    return scalar(v);
}

export const REVIEW_BELOW = 0.8;

/** Why a person should look at a cell, or an empty string. */
export function reviewHint(cell: Cell | null | undefined, column?: Column, v?: unknown): string {
    const status = cell?.status;
    if (status === "conflict") {
        return "Different values were found; please check.";
    }
    if (status === "ungrounded") {
        return "A value was proposed but is not in the text, so it was left out.";
    }
    if (value(column, v) === "") {
        return column?.required ? "Required, but not found in the document." : "";
    }
    if (status !== "corrected" && typeof cell?.confidence === "number" && cell.confidence < REVIEW_BELOW) {
        return `Only ${percent(cell.confidence)} sure; please check.`;
    }
    return "";
}

export function typeLabel(type: string): string {
    return type === "rows" ? "rows (a table)" : type;
}

const KIND_WORDS: Record<string, string> = {
    file_created: "File accepted",
    file_updated: "File changed",
    file_deleted: "File removed",
    progress: "Progress",
    record_updated: "Record written",
    batch_updated: "Batch changed",
    dead_letter: "Given up",
};

const ACTION_WORDS: Record<string, string> = {
    retry: "Retry asked for",
    rerun: "Run again",
    cancel: "Cancelled on request",
};

const STEP_WORDS: Record<string, string> = {
    waiting: "waiting again",
    pending: "waiting",
    dispatched: "handed out",
    running: "started",
    done: "done",
    failed: "failed",
    cancelled: "cancelled",
    skipped: "not needed",
};

/** What happened, in a few words, and whether it was bad news. */
export function timelineTitle(t: TimelineItem): { text: string; bad: boolean } {
    const d = t.detail ?? {};
    const state = typeof d["state"] === "string" ? d["state"] : "";
    const action = typeof d["action"] === "string" ? d["action"] : "";
    const bad = state === "failed" || t.kind === "dead_letter" || Boolean(d["error"]);
    if (t.kind === "file_created") {
        return { text: "File accepted", bad: false };
    }
    if (action) {
        return { text: ACTION_WORDS[action] ?? action, bad: false };
    }
    if (d["final"] === true) {
        return { text: `File ${(STATE_LABEL[state as FileState] ?? state).toLowerCase()}`, bad: state === "failed" };
    }
    const stage = stageLabel(t.stage);
    if (stage) {
        const step = STEP_WORDS[state] ?? state;
        const kind = KIND_WORDS[t.kind] ?? t.kind.replace(/_/g, " ");
        if (t.kind === "record_updated" || t.kind === "dead_letter") {
            return { text: `${stage}: ${kind.toLowerCase()}`, bad };
        }
        return { text: step ? `${stage}: ${step}` : `${stage}: ${kind.toLowerCase()}`, bad };
    }
    return { text: KIND_WORDS[t.kind] ?? t.kind.replace(/_/g, " "), bad };
}

/** By time; what ends a file comes last among what happened at once. */
export function inOrder(items: readonly TimelineItem[]): TimelineItem[] {
    const rank = (t: TimelineItem) => (t.kind === "file_created" ? -1 : t.detail?.["final"] === true ? 1 : 0);
    return items
        .map((t, i) => ({ t, i, at: Date.parse(t.at) }))
        .sort((a, b) => a.at - b.at || rank(a.t) - rank(b.t) || a.i - b.i)
        .map((x) => x.t);
}

/** Said by the title, or of no use to a reader. */
const SILENT = new Set(["datasetId", "batchId", "fileId", "userId", "state", "action", "final", "ends", "name", "completeness"]);

export function timelineDetail(t: TimelineItem): string {
    const parts: string[] = [];
    const inner = t.detail?.["detail"];
    const all = { ...t.detail, ...(inner !== null && typeof inner === "object" ? inner : {}), detail: null };
    for (const [k, v] of Object.entries(all) as [string, unknown][]) {
        if (SILENT.has(k) || v === null || v === undefined || v === "") {
            continue;
        }
        if (k === "error") {
            parts.push(plainError(v as { code?: string; detail?: string }));
        } else if (k === "unit") {
            if (v !== 0) {
                parts.push(`part ${String(v)}`);
            }
        } else if (k === "attempt" || k === "attempts") {
            if (v !== 1) {
                parts.push(`attempt ${String(v)}`);
            }
        } else if (k === "needsReview") {
            if (v === true) {
                parts.push("needs review");
            }
        } else if ((k === "pages" || k === "chars") && typeof v === "number") {
            parts.push(plural(v, k === "pages" ? "page" : "character"));
        } else if (k === "units") {
            parts.push(`split into ${String(v)} parts`);
        } else if (typeof v === "object") {
            const flat = Object.entries(v as object).filter(([, x]) => x !== null && typeof x !== "object");
            parts.push(...flat.map(([n, x]) => `${words(n)} ${String(x)}`));
        } else {
            parts.push(`${words(k)} ${words(String(v))}`);
        }
    }
    return parts.join(" · ");
}

function words(camel: string): string {
    return /^[A-Za-z_]+$/.test(camel)
        ? camel.replace(/([a-z])([A-Z])/g, "$1 $2").replace(/_/g, " ").toLowerCase()
        : camel;
}
