// SPDX-License-Identifier: Apache-2.0
// Why: EventSource cannot send the Authorization header, so the stream is read with fetch. The
// parser takes text cut at any point; the connection keeps the last id it saw and never asks for
// less. It refuses to grow without bound: a line or message over the limit ends the connection.

export interface SseMessage {
    event: string;
    data: string;
    id: string;
}

const MAX_PENDING = 1 << 20;

export class SseParser {
    /** The id of the last message that arrived whole; a cut message does not count. */
    lastId = "";
    retryMs: number | undefined;
    private nextId = "";
    private rest = "";
    private started = false;
    private skipLf = false;
    private event = "";
    private data: string[] = [];
    private dataSize = 0;
    private readonly emit: (m: SseMessage) => void;

    constructor(emit: (m: SseMessage) => void, lastId = "") {
        this.emit = emit;
        this.lastId = lastId;
        this.nextId = lastId;
    }

    push(chunk: string): void {
        let text = chunk;
        if (!this.started && text.length > 0) {
            this.started = true;
            if (text.charCodeAt(0) === 0xfeff) {
                text = text.slice(1);
            }
        }
        if (this.skipLf && text.length > 0) {
            this.skipLf = false;
            if (text[0] === "\n") {
                text = text.slice(1);
            }
        }
        text = this.rest + text;
        let start = 0;
        for (let i = start; i < text.length; i++) {
            const c = text[i];
            if (c !== "\n" && c !== "\r") {
                continue;
            }
            this.line(text.slice(start, i));
            if (c === "\r") {
                if (i + 1 === text.length) {
                    this.skipLf = true;
                } else if (text[i + 1] === "\n") {
                    i++;
                }
            }
            start = i + 1;
        }
        this.rest = text.slice(start);
        if (this.rest.length + this.dataSize > MAX_PENDING) {
            throw new Error("event stream message too large");
        }
    }

    private line(line: string): void {
        if (line === "") {
            this.dispatch();
            return;
        }
        const colon = line.indexOf(":");
        if (colon === 0) {
            return; // a comment, sent to keep the connection alive
        }
        const field = colon < 0 ? line : line.slice(0, colon);
        let value = colon < 0 ? "" : line.slice(colon + 1);
        if (value.startsWith(" ")) {
            value = value.slice(1);
        }
        if (field === "event") {
            this.event = value;
        } else if (field === "data") {
            this.data.push(value);
            this.dataSize += value.length;
        } else if (field === "id" && !value.includes("\0")) {
            this.nextId = value;
        } else if (field === "retry" && /^\d+$/.test(value)) {
            this.retryMs = Number(value);
        }
    }

    private dispatch(): void {
        const data = this.data.join("\n");
        const any = this.data.length > 0;
        const event = this.event || "message";
        this.event = "";
        this.data = [];
        this.dataSize = 0;
        this.lastId = this.nextId;
        // `reset` is a control message and may come without data.
        if (any || event === "reset") {
            this.emit({ event, data, id: this.lastId });
        }
    }
}

export type LinkState = "connecting" | "live" | "waiting" | "stopped";

export interface EventLinkOptions {
    open: (lastId: string, signal: AbortSignal) => Promise<Response>;
    onMessage: (m: SseMessage) => void;
    /** `resumed` is false when events may have been missed and lists must be read again. */
    onLive: (resumed: boolean) => void;
    onState: (s: LinkState) => void;
    /** True if trying again cannot help (the key was refused). */
    isFinal?: (e: unknown) => boolean;
    random?: () => number;
    silenceMs?: number;
}

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 30_000;

/** The wait before try number n (0 is the first), without jitter. */
export function backoff(n: number, first = FIRST_WAIT): number {
    return Math.min(LONGEST_WAIT, first * 2 ** Math.min(n, 10));
}

export class EventLink {
    private readonly o: EventLinkOptions;
    private lastId = "";
    private tries = 0;
    private firstWait = FIRST_WAIT;
    private stopped = false;
    private abort: AbortController | null = null;
    private wake: (() => void) | null = null;
    private held = false;
    private release: (() => void) | null = null;

    constructor(o: EventLinkOptions) {
        this.o = o;
    }

    start(): void {
        void this.run();
    }

    stop(): void {
        this.stopped = true;
        this.abort?.abort();
        this.wake?.();
        this.release?.();
        this.o.onState("stopped");
    }

    /**
     * Gives the connection back while nobody looks (browsers allow six to one server, over all
     * tabs); released, it goes on from the last id.
     */
    hold(on: boolean): void {
        if (this.held === on) {
            return;
        }
        this.held = on;
        if (on) {
            this.abort?.abort();
        } else {
            this.tries = 0;
            this.wake?.();
            this.release?.();
        }
    }

    /** Tries at once, for instance when the browser says that it is online again. */
    poke(): void {
        this.wake?.();
    }

    private async run(): Promise<void> {
        while (!this.stopped) {
            if (this.held) {
                await new Promise<void>((resolve) => {
                    this.release = resolve;
                });
                this.release = null;
                continue;
            }
            this.o.onState(this.tries === 0 ? "connecting" : "waiting");
            try {
                await this.once();
            } catch (e) {
                if (this.stopped) {
                    return;
                }
                if (this.o.isFinal?.(e)) {
                    this.stopped = true;
                    this.o.onState("stopped");
                    return;
                }
            }
            if (this.stopped) {
                return;
            }
            if (this.held) {
                continue;
            }
            const wait = backoff(this.tries, this.firstWait) * (0.5 + (this.o.random ?? Math.random)() / 2);
            this.tries++;
            this.o.onState("waiting");
            await new Promise<void>((resolve) => {
                const t = setTimeout(resolve, wait);
                this.wake = () => {
                    clearTimeout(t);
                    resolve();
                };
            });
            this.wake = null;
        }
    }

    private async once(): Promise<void> {
        const abort = new AbortController();
        this.abort = abort;
        const silence = this.o.silenceMs ?? 45_000;
        let watch = setTimeout(() => abort.abort(), silence);
        const alive = () => {
            clearTimeout(watch);
            watch = setTimeout(() => abort.abort(), silence);
        };
        try {
            const asked = this.lastId;
            const res = await this.o.open(asked, abort.signal);
            if (!res.body) {
                throw new Error("the event stream has no body");
            }
            alive();
            this.o.onState("live");
            this.o.onLive(asked !== "");
            const parser = new SseParser((m) => {
                this.tries = 0;
                this.lastId = m.id;
                this.o.onMessage(m);
            }, asked);
            const reader = res.body.getReader();
            const decoder = new TextDecoder();
            for (;;) {
                const { done, value } = await reader.read();
                if (done) {
                    break;
                }
                alive();
                parser.push(decoder.decode(value, { stream: true }));
                this.tries = 0;
                this.lastId = parser.lastId;
                if (parser.retryMs !== undefined) {
                    this.firstWait = Math.min(LONGEST_WAIT, Math.max(100, parser.retryMs));
                }
            }
        } finally {
            clearTimeout(watch);
            abort.abort();
        }
    }
}
