// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { FileList, visibleRange } from "../src/lib/list";
import type { FileItem } from "../src/lib/types";

function f(id: string, more: Partial<FileItem> = {}): FileItem {
    return { id, datasetId: "d", name: id, size: 1, state: "processing", createdAt: "2026-01-01T00:00:00Z", ...more };
}

function made(ids: string[], next: string | null): FileList {
    const l = new FileList();
    l.replace({ items: ids.map((x) => f(x)), nextCursor: next });
    return l;
}

function whole(l: FileList): void {
    assert.equal(new Set(l.order).size, l.order.length, "no doubles");
    assert.deepEqual([...l.byId.keys()].sort(), [...l.order].sort(), "order and files agree");
}

test("a page that overlaps is appended without doubles", () => {
    const l = made(["9", "8"], "8");
    l.append({ items: [f("8"), f("7")], nextCursor: "7" });
    assert.deepEqual(l.order, ["9", "8", "7"]);
    assert.equal(l.nextCursor, "7");
    whole(l);
});

test("new files come in front and deeper pages stay", () => {
    const l = made(["5", "4", "3", "2"], "2");
    assert.equal(l.mergeTop([f("7"), f("6"), f("5")], "5"), true);
    assert.deepEqual(l.order, ["7", "6", "5", "4", "3", "2"]);
    assert.equal(l.nextCursor, "2");
    whole(l);
});

test("rows that the top page should hold and does not are gone", () => {
    const l = made(["5", "4", "3", "2"], "2");
    assert.equal(l.mergeTop([f("6"), f("5"), f("3")], "3"), true);
    assert.deepEqual(l.order, ["6", "5", "3", "2"]);
    whole(l);
});

test("a top page that reaches nothing known asks for more", () => {
    const l = made(["2", "1"], null);
    assert.equal(l.mergeTop([f("9"), f("8")], "8"), false);
    assert.deepEqual(l.order, ["2", "1"]);
    assert.equal(l.mergeTop([f("9"), f("8"), f("7"), f("2")], "2"), true);
    assert.deepEqual(l.order, ["9", "8", "7", "2", "1"]);
    assert.equal(l.nextCursor, null);
    whole(l);
});

test("a page that reaches the end is the whole truth", () => {
    const l = made(["5", "4", "3"], null);
    assert.equal(l.mergeTop([f("6"), f("4")], null), true);
    assert.deepEqual(l.order, ["6", "4"]);
    const none = made(["5"], null);
    assert.equal(none.mergeTop([], null), true);
    assert.deepEqual(none.order, []);
    whole(none);
});

test("the cursor moves on when the top page goes deeper than the list", () => {
    const l = made(["5", "4"], "4");
    assert.equal(l.mergeTop([f("5"), f("4"), f("3")], "3"), true);
    assert.deepEqual(l.order, ["5", "4", "3"]);
    assert.equal(l.nextCursor, "3");
    whole(l);
});

test("an older look at a file never replaces a newer one", () => {
    const l = new FileList();
    l.append({ items: [f("1", { state: "done", updatedAt: "2026-01-01T00:00:02Z", generation: 1 })] });
    l.update(f("1", { state: "processing", updatedAt: "2026-01-01T00:00:01Z", generation: 1 }));
    assert.equal(l.at(0)?.state, "done");
    l.mergeTop([f("1", { state: "processing", updatedAt: "2026-01-01T00:00:01Z", generation: 1 })], null);
    assert.equal(l.at(0)?.state, "done");
    l.update(f("1", { state: "processing", updatedAt: "2026-01-01T00:00:01Z", generation: 2 }));
    assert.equal(l.at(0)?.state, "processing");
    assert.equal(l.update(f("2")), false);
});

test("removal keeps list and files together", () => {
    const l = made(["3", "2", "1"], null);
    assert.equal(l.remove("2"), true);
    assert.equal(l.remove("2"), false);
    l.removeMany(new Set(["1", "x"]));
    assert.deepEqual(l.order, ["3"]);
    whole(l);
});

test("only rows near the window exist", () => {
    assert.deepEqual(visibleRange(0, 600, 60, 10_000, 5), { start: 0, end: 16 });
    assert.deepEqual(visibleRange(60_000, 600, 60, 10_000, 5), { start: 995, end: 1016 });
    assert.deepEqual(visibleRange(600_000, 600, 60, 10_000, 5), { start: 9995, end: 10_000 });
    assert.deepEqual(visibleRange(9_999_999, 600, 60, 3, 5), { start: 2, end: 3 });
    assert.deepEqual(visibleRange(0, 0, 60, 0, 5), { start: 0, end: 0 });
});
