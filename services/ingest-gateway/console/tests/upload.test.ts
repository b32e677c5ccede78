// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { File } from "node:buffer";
import { test } from "node:test";
import { multipartBody, planBatches, quoteName } from "../src/lib/upload";

const file = (name: string, size = 1) => ({ name, size });

test("batches keep to their limits and lose nothing", () => {
    const files = Array.from({ length: 450 }, (_, i) => file(`f${i}`));
    const b = planBatches(files, 200, 1e9);
    assert.deepEqual(b.map((x) => x.length), [200, 200, 50]);
    assert.deepEqual(b.flat(), files);
});

test("large files go alone, small ones share", () => {
    const b = planBatches([file("a", 60), file("b", 60), file("c", 500), file("d", 30)], 200, 100);
    for (const batch of b) {
        const size = batch.reduce((n, x) => n + x.size, 0);
        assert.ok(size <= 100 || batch.length === 1);
    }
    assert.equal(b.flat().length, 4);
});

test("no two parts of one request share a name", () => {
    const b = planBatches([file("x"), file("x"), file("y"), file("x")], 200, 1e9);
    assert.equal(b.flat().length, 4);
    for (const batch of b) {
        assert.equal(new Set(batch.map((f) => f.name)).size, batch.length);
    }
});

test("names cannot break out of their header", () => {
    assert.equal(quoteName('a"b\r\nc.txt'), "a%22b%0D%0Ac.txt");
});

test("the body is the same bytes every time", async () => {
    const files = [new File(["one"], "a.txt", { type: "text/plain" }), new File(["two"], 'q"\u00e4.bin', { type: "weird" })];
    const text = await multipartBody("B", files as unknown as globalThis.File[]).text();
    assert.equal(
        text,
        '--B\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\none\r\n' +
            '--B\r\nContent-Disposition: form-data; name="file"; filename="q%22\u00e4.bin"\r\nContent-Type: application/octet-stream\r\n\r\ntwo\r\n' +
            "--B--\r\n",
    );
    assert.equal(text, await multipartBody("B", files as unknown as globalThis.File[]).text());
});
