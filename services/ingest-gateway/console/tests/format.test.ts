// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { restartFrom } from "../src/lib/api";
import { checkColumns, draft, enumValues, pointerToKey, toColumn } from "../src/lib/columns";
import { bytes, headline, inOrder, pipelineSentence, reviewHint, timelineDetail, timelineTitle, value } from "../src/lib/format";
import { limitText, parseLimit } from "../src/lib/limits";
import { messageOf, plainError, Problem } from "../src/lib/problem";
import { countsOf } from "../src/lib/store";
import { evidenceIn, findQuote, placeWords } from "../src/lib/textlayer";
import type { FileItem } from "../src/lib/types";

test("sizes are short", () => {
    assert.equal(bytes(0), "0 B");
    assert.equal(bytes(1234), "1.2 KB");
    assert.equal(bytes(5e9), "5.0 GB");
    assert.equal(bytes(undefined), "–");
});

test("values of every type become text", () => {
    assert.equal(value({ type: "money" }, { amount: "12.50", currency: "EUR" }), "12.50 EUR");
    assert.equal(value({ type: "boolean" }, false), "No");
    assert.equal(value({ type: "rows" }, [{}, {}]), "2 rows");
    assert.equal(value({ type: "rows" }, { count: 900, href: "/x" }), "900 rows");
    assert.equal(value({ type: "number" }, 0), "0");
    assert.equal(value({ type: "string" }, null), "");
    assert.equal(value({ type: "datetime" }, "2026-01-02T03:04:05Z"), "2026-01-02 03:04:05 UTC");
});

test("hints say why a cell needs a look", () => {
    assert.match(reviewHint({ confidence: 0.5, status: "ok" }, undefined, "x"), /50 %/);
    assert.equal(reviewHint({ confidence: 0.5, status: "corrected" }, undefined, "x"), "");
    assert.match(reviewHint(null, { name: "a", type: "string", required: true }, null), /Required/);
    assert.equal(reviewHint(null, { name: "a", type: "string" }, null), "");
    assert.equal(reviewHint({ confidence: 0, status: "empty" }, { name: "a", type: "rows" }, []), "");
});

test("problems are sentences", () => {
    const p = new Problem(422, { detail: "the column list is not valid", errors: [{ detail: "too many values" }] });
    assert.equal(messageOf(p), "The column list is not valid. Too many values.");
    assert.match(new Problem(503, {}, 7).message, /Try again in 7 s/);
    assert.equal(plainError({ code: "encrypted" }), "The file is protected by a password.");
    assert.equal(plainError("file_too_large"), "The file is too large.");
    assert.equal(plainError(null), "No reason was given.");
});

test("a row says what matters most", () => {
    const f: FileItem = {
        id: "1", datasetId: "d", name: "a", size: 1, state: "processing", createdAt: "",
        pipelines: { main: { state: "running", stage: "ocr", pagesDone: 3, pagesTotal: 12 } },
    };
    assert.equal(headline(f).text, "Reading pictures of text · 3 of 12 pages");
    assert.equal(pipelineSentence("main", f.pipelines?.main), "Data: reading pictures of text, 3 of 12 pages");
    assert.equal(
        headline({ ...f, state: "done", pipelines: { main: { state: "done" }, preview: { state: "failed", error: { code: "corrupt" } } } }).tone,
        "warn",
    );
});

test("counts add up", () => {
    assert.deepEqual(countsOf({ files: { total: 99, byState: { done: 2, failed: 1, cancelled: 0 } } }), {
        total: 3,
        byState: { done: 2, failed: 1 },
    });
    assert.equal(countsOf(null).total, 0);
});

test("columns are checked and sent as the contract says", () => {
    const cols = [draft("A"), draft("a"), draft("", "date"), draft("E", "enum"), draft("R", "rows", { items: [draft("")] })];
    assert.equal(checkColumns(cols).size, 4);
    assert.deepEqual(enumValues("paid, open,,paid\nlate"), ["paid", "open", "late"]);
    assert.deepEqual(toColumn(draft(" M ", "money", { currency: "eur", required: true })), {
        name: "M", type: "money", required: true, currency: "EUR",
    });
    assert.equal(pointerToKey(cols, "/columns/4/itemColumns/0/name"), cols[4]?.items[0]?.key);
    assert.equal(pointerToKey(cols, "/name"), undefined);
});

test("words lie over their boxes and copy with blanks", () => {
    const placed = placeWords(
        [
            { text: "Total", box: [0.1, 0.1, 0.2, 0.12] },
            { text: "9.00", box: [0.21, 0.1, 0.3, 0.12] },
            { text: "bad", box: [0.3, 0.1, 0.2, 0.12] },
            { text: "Next", box: [0.1, 0.2, 0.2, 0.22] },
        ],
        1000,
        2000,
        (t) => t.length * 50,
    );
    assert.deepEqual(placed.map((w) => w.text), ["Total ", "9.00", "Next"]);
    assert.deepEqual(placed.map((w) => w.lineEnd), [false, true, true]);
    assert.ok(Math.abs((placed[0]?.stretch ?? 0) - 1) < 1e-9);
});

test("a quote is found across line breaks and never as a pattern", () => {
    assert.deepEqual(findQuote("x Total\n  (EUR) 9", "Total (EUR)"), [2, 15]);
    assert.equal(findQuote("abc", "a.c"), null);
    assert.equal(findQuote("abc", " "), null);
});

test("a cancelled file is run again from what was cancelled", () => {
    const f = (main: string, preview: string, thumbnail: string, mime = "application/pdf") =>
        ({ mime, pipelines: { main: { state: main }, preview: { state: preview }, thumbnail: { state: thumbnail } } }) as FileItem;
    assert.deepEqual(restartFrom(f("cancelled", "cancelled", "cancelled")), ["text", "preview"]);
    assert.deepEqual(restartFrom(f("cancelled", "done", "done")), ["text"]);
    assert.deepEqual(restartFrom(f("cancelled", "cancelled", "cancelled", "image/png")), ["text", "preview", "thumbnail"]);
    assert.deepEqual(restartFrom(f("cancelled", "done", "cancelled")), ["text", "thumbnail"]);
});

test("the timeline reads as sentences", () => {
    const at = "2026-01-01T00:00:00Z";
    const run = { at, kind: "file_updated", stage: "text", detail: { datasetId: "d", state: "running", unit: 0, attempt: 1, worker: "text-1" } };
    assert.deepEqual(timelineTitle(run), { text: "Reading text: started", bad: false });
    assert.equal(timelineDetail(run), "worker text-1");
    const fail = { at, kind: "file_updated", stage: "ocr", detail: { state: "failed", unit: 2, attempt: 3, error: { code: "encrypted" } } };
    assert.deepEqual(timelineTitle(fail), { text: "Reading pictures of text: failed", bad: true });
    assert.equal(timelineDetail(fail), "part 2 · attempt 3 · The file is protected by a password.");
    assert.equal(
        timelineDetail({ at, kind: "file_updated", stage: "ai", detail: { state: "done", detail: { backend: "rules", needsReview: false, completeness: 1, pages: 2 } } }),
        "backend rules · 2 pages",
    );
    const early = { at, kind: "file_updated", detail: { final: true } };
    const late = { at: "2026-01-01T00:00:01Z", kind: "file_updated", stage: "ai" };
    assert.deepEqual(inOrder([late, early, run]), [run, early, late]);
    assert.equal(timelineTitle({ at, kind: "file_updated", detail: { state: "done", final: true } }).text, "File done");
    assert.equal(timelineTitle({ at, kind: "file_updated", detail: { state: "cancelled", action: "cancel" } }).text, "Cancelled on request");
    assert.equal(timelineDetail({ at, kind: "file_updated", stage: "text", detail: { reason: "worker_lost" } }), "reason worker lost");
});

test("evidence is the span when it agrees with the quote", () => {
    const text = "\u{1F600} Total 9 and Total 9";
    assert.deepEqual(evidenceIn(text, "Total 9", [14, 21]), [15, 22]);
    assert.deepEqual(evidenceIn(text, "Total 9", [14, 99]), [3, 10]);
    assert.deepEqual(evidenceIn(text, "Total 9", null), [3, 10]);
    assert.deepEqual(evidenceIn(text, "the line: Total 9 and", [2, 9]), [3, 10]);
    assert.equal(evidenceIn(text, "", null), null);
});

test("limits are read as people write them, and written so that they are read again", () => {
    assert.equal(parseLimit("bytes", "50 GiB"), 50 * 2 ** 30);
    assert.equal(parseLimit("bytes", "1.5gb"), 1.5e9);
    assert.equal(parseLimit("files", "10,000"), 10_000);
    assert.equal(parseLimit("files", " "), null);
    assert.equal(parseLimit("money", "None"), "none");
    assert.equal(parseLimit("money", "12.5"), 12.5);
    for (const [kind, text] of [["files", "1.5"], ["pages", "5 GB"], ["bytes", "-1"], ["bytes", "1e9"], ["bytes", "99999 TiB"], ["money", "1 €"]] as const) {
        assert.equal(parseLimit(kind, text), undefined, text);
    }
    for (const limit of [0, 1, 1000, 1024, 50 * 2 ** 30, 2 ** 40, "none", null] as const) {
        assert.equal(parseLimit("bytes", limitText("bytes", limit)), limit);
    }
});
