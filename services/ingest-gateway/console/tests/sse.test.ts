// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff, EventLink, type SseMessage, SseParser } from "../src/lib/sse";

function parse(chunks: string[]): { messages: SseMessage[]; parser: SseParser } {
    const messages: SseMessage[] = [];
    const parser = new SseParser((m) => messages.push(m));
    for (const c of chunks) {
        parser.push(c);
    }
    return { messages, parser };
}

const STREAM = "\ufeff: hi\r\nid: 7\r\nevent: file_created\r\ndata: {\"a\":1}\r\n\r\nretry: 250\ndata: x\ndata:y\n\nid: 9\revent: progress\rdata: z\r\r";

test("a stream gives the same messages however it is cut", () => {
    const whole = parse([STREAM]).messages;
    assert.deepEqual(whole, [
        { event: "file_created", data: '{"a":1}', id: "7" },
        { event: "message", data: "x\ny", id: "7" },
        { event: "progress", data: "z", id: "9" },
    ]);
    for (let size = 1; size < STREAM.length; size++) {
        const chunks = [];
        for (let i = 0; i < STREAM.length; i += size) {
            chunks.push(STREAM.slice(i, i + size));
        }
        assert.deepEqual(parse(chunks).messages, whole, `chunks of ${size}`);
    }
});

test("the id of a message that was cut off does not count", () => {
    const { messages, parser } = parse(["id: 1\ndata: a\n\nid: 2\ndata: b\n"]);
    assert.equal(messages.length, 1);
    assert.equal(parser.lastId, "1");
});

test("comments and empty messages are silent, reset needs no data", () => {
    const { messages, parser } = parse([": beat\n\n", "event: progress\n\n", "event: reset\n\n", "retry: 90\n\n"]);
    assert.deepEqual(messages.map((m) => m.event), ["reset"]);
    assert.equal(parser.retryMs, 90);
});

test("an endless line is refused", () => {
    assert.throws(() => parse(["data: ", "x".repeat(2 << 20)]));
});

test("the wait doubles up to half a minute", () => {
    assert.equal(backoff(0), 1000);
    assert.equal(backoff(3), 8000);
    assert.equal(backoff(50), 30_000);
});

function body(text: string): Response {
    return new Response(text);
}

test("the link comes back with the last id and stops on a refused key", async () => {
    const asked: string[] = [];
    const got: string[] = [];
    const live: boolean[] = [];
    const states: string[] = [];
    await new Promise<void>((resolve) => {
        const link = new EventLink({
            open: (lastId) => {
                asked.push(lastId);
                if (asked.length === 1) {
                    return Promise.resolve(body("retry: 100\nid: 5\nevent: progress\ndata: {}\n\nid: 6\ndata: cut"));
                }
                if (asked.length === 2) {
                    return Promise.reject(new Error("down"));
                }
                if (asked.length === 3) {
                    return Promise.resolve(body("id: 8\nevent: progress\ndata: {}\n\n"));
                }
                return Promise.reject(new Error("401"));
            },
            onMessage: (m) => got.push(m.id),
            onLive: (r) => live.push(r),
            onState: (s) => {
                states.push(s);
                if (s === "stopped") {
                    resolve();
                }
            },
            isFinal: (e) => e instanceof Error && e.message === "401",
            random: () => 0,
        });
        link.start();
    });
    assert.deepEqual(asked, ["", "5", "5", "8"]);
    assert.deepEqual(got, ["5", "8"]);
    assert.deepEqual(live, [false, true]);
    assert.equal(states[states.length - 1], "stopped");
});

test("a held link gives its connection back and goes on from the last id", async () => {
    const asked: string[] = [];
    let cut = 0;
    const link = new EventLink({
        open: (lastId, signal) => {
            asked.push(lastId);
            const stream = new ReadableStream<Uint8Array>({
                start(c) {
                    c.enqueue(new TextEncoder().encode("id: 3\nevent: progress\ndata: {}\n\n"));
                    signal.addEventListener("abort", () => {
                        cut++;
                        c.error(new Error("aborted"));
                    });
                },
            });
            return Promise.resolve(new Response(stream));
        },
        onMessage: () => link.hold(true),
        onLive: () => {},
        onState: () => {},
    });
    link.start();
    await new Promise((r) => setTimeout(r, 50));
    assert.deepEqual(asked, [""]);
    assert.equal(cut, 1);
    link.hold(false);
    await new Promise((r) => setTimeout(r, 50));
    assert.deepEqual(asked, ["", "3"]);
    link.stop();
});
