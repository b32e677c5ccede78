// SPDX-License-Identifier: Apache-2.0
// Why: every failed call becomes one `Problem` with a sentence a person can act on. It never
// shows a bare status number alone, and never hides the request id an operator would ask for.
import type { ProblemBody } from "./types";

export class Problem extends Error {
    readonly status: number;
    readonly code: string;
    readonly requestId: string | undefined;
    readonly errors: { pointer?: string; detail?: string }[];
    readonly retryAfter: number | undefined;

    constructor(status: number, body: ProblemBody, retryAfter?: number) {
        super(sentence(status, body, retryAfter));
        this.name = "Problem";
        this.status = status;
        this.code = body.code ?? "";
        this.requestId = body.requestId;
        this.errors = body.errors ?? [];
        this.retryAfter = retryAfter;
    }
}

const BY_STATUS: Record<number, string> = {
    0: "The server cannot be reached. Check the connection.",
    400: "The server did not understand the request.",
    401: "The key is missing or no longer valid.",
    403: "This key is not allowed to do that.",
    404: "It does not exist any more, or it belongs to someone else.",
    409: "That does not fit the present state.",
    410: "It is no longer available.",
    413: "That is larger than the server accepts.",
    415: "The server does not take this kind of content.",
    422: "Some of the values make no sense.",
    429: "Too many requests at once.",
    500: "The server ran into a fault of its own.",
    502: "The server is not answering at the moment.",
    503: "The server is busy or a part of it is down.",
    504: "The server took too long to answer.",
};

function endSentence(text: string): string {
    const t = text.trim();
    return /[.!?…]$/.test(t) ? t : `${t}.`;
}

function capital(text: string): string {
    return text.charAt(0).toUpperCase() + text.slice(1);
}

export function sentence(status: number, body: ProblemBody, retryAfter?: number): string {
    const fallback = BY_STATUS[status] ?? "The request failed.";
    const said = body.detail?.trim() || body.title?.trim();
    let out = said ? capital(endSentence(said)) : fallback;
    if (retryAfter !== undefined && (status === 429 || status === 503)) {
        out += ` Try again in ${retryAfter} s.`;
    }
    return out;
}

/** Plain words for what a stage reports, for a code that arrives without a detail. */
const BY_CODE: Record<string, string> = {
    empty_file: "The file is empty.",
    file_too_large: "The file is too large.",
    unsupported_type: "This kind of file is not supported.",
    encrypted: "The file is protected by a password.",
    corrupt: "The file is damaged and cannot be read.",
    too_many_pages: "The file has too many pages.",
    too_many_pixels: "The picture is too large.",
    expands_too_much: "The file unpacks to far more than its size; it was stopped for safety.",
    child_crashed: "Reading this file crashed the reader.",
    child_timeout: "Reading this file took too long.",
    crash_loop: "This file stopped its worker several times and was set aside.",
    pages_failed: "Some of the pages could not be read.",
    no_preview: "There is no preview to make it from.",
    input_gone: "The stored file has gone.",
    upload_failed: "The upload did not finish.",
    upload_stale: "The upload was never finished.",
    hash_mismatch: "What arrived differs from what was sent.",
    provider_unavailable: "An outside service is not available; it is tried again later.",
    budget: "The budget for outside services is used up.",
    invalid_schema: "The column list is not valid.",
    invalid_name: "The file name is not allowed.",
    duplicate_name: "Another part of the same upload has this name.",
};

export function plainError(
    error: { code?: string; detail?: string; title?: string } | string | null | undefined,
): string {
    if (!error) {
        return "No reason was given.";
    }
    if (typeof error === "string") {
        return BY_CODE[error] ?? capital(endSentence(error));
    }
    const known = error.code ? BY_CODE[error.code] : undefined;
    if (error.detail?.trim()) {
        return capital(endSentence(error.detail));
    }
    return known ?? capital(endSentence(error.title || error.code || "No reason was given"));
}

export function messageOf(e: unknown): string {
    if (e instanceof Problem) {
        const more = e.errors
            .map((x) => x.detail)
            .filter((d): d is string => Boolean(d))
            .slice(0, 3);
        return more.length > 0 ? `${e.message} ${more.map(endSentence).map(capital).join(" ")}` : e.message;
    }
    return e instanceof Error ? e.message : String(e);
}
