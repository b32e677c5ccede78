// SPDX-License-Identifier: Apache-2.0
// Why: a stand-in for the gateway, for work on the page only: `npm run build && npm run mock`. It
// serves dist/ with the gateway's content policy and plays files through their stages in memory.
// It is no reference for the API: proto-schemas/openapi.yaml is. Any key that starts with dfk_ works, but dfk_wrong….
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const PORT = Number(process.env.PORT ?? 4173);
const SEED = Number(process.env.SEED ?? 40);
const SPEED = Number(process.env.SPEED ?? 1);
const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const CSP =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; " +
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

let clock = Date.now();
function id() {
    const t = (clock++).toString(16).padStart(12, "0");
    const r = randomBytes(10).toString("hex");
    return `${t.slice(0, 8)}-${t.slice(8)}-7${r.slice(0, 3)}-8${r.slice(3, 6)}-${r.slice(6, 18)}`;
}

const datasets = [];
const files = new Map();
const events = [];
const streams = new Set();
let pos = 0;

function emit(event, data) {
    const e = { id: ++pos, event, data };
    events.push(e);
    if (events.length > 5000) {
        events.shift();
    }
    for (const s of streams) {
        s.write(`id: ${e.id}\nevent: ${e.event}\ndata: ${JSON.stringify(e.data)}\n\n`);
    }
}

const now = () => new Date().toISOString();

function addDataset(name, columns) {
    const d = {
        id: id(),
        name,
        schemaVersion: 1,
        columns: columns.map((c, i) => ({ id: `c${i + 1}`, ...c })),
        createdAt: now(),
    };
    datasets.unshift(d);
    return d;
}

function addFile(d, name, size, batchId, pages = 1 + (name.length % 4)) {
    const f = {
        id: id(),
        datasetId: d.id,
        batchId,
        name,
        size,
        mime: "application/pdf",
        sha256: createHash("sha256").update(name).digest("hex"),
        version: 1,
        generation: 1,
        state: "processing",
        createdAt: now(),
        updatedAt: now(),
        pipelines: {
            main: { state: "waiting", stage: "text", attempts: 0, pagesDone: 0, pagesTotal: pages, queuePosition: null, error: null },
            preview: { state: "waiting", stage: "preview", pagesDone: 0, pagesTotal: pages, error: null },
            thumbnail: { state: "waiting", stage: "thumbnail", error: null },
        },
        artifacts: { text: null, record: null, preview: null, thumbnail: null },
        timeline: [],
        pages,
    };
    note(f, "file_created", null, { size });
    files.set(f.id, f);
    return f;
}

function note(f, kind, stage, detail) {
    f.updatedAt = now();
    f.timeline.push({ at: f.updatedAt, kind, stage, detail });
}

function changed(f, kind, stage, detail) {
    note(f, kind, stage, detail);
    emit(kind, { fileId: f.id, datasetId: f.datasetId, batchId: f.batchId, stage, state: f.state, detail });
}

function finish(f) {
    const ends = ["done", "failed", "skipped", "cancelled"];
    if (Object.values(f.pipelines).every((p) => ends.includes(p.state))) {
        f.state = f.pipelines.main.state;
        changed(f, "file_updated", null, { to: f.state });
    }
}

const bad = {
    encrypted: { code: "encrypted", detail: "the PDF is protected by a password", class: "permanent", retryable: false, stage: "text", attempts: 1 },
    broken: { code: "corrupt", detail: "the file ends in the middle of an object", class: "permanent", retryable: false, stage: "text", attempts: 1 },
};

function play(f, quiet = false) {
    const steps = [];
    const fail = Object.keys(bad).find((k) => f.name.includes(k));
    const gen = f.generation;
    const m = f.pipelines.main;
    const p = f.pipelines.preview;
    const t = f.pipelines.thumbnail;
    steps.push(() => { m.state = "running"; m.attempts = 1; p.state = "running"; return ["progress", "text", { state: "running", worker: "text-1", attempt: 1 }]; });
    if (fail) {
        steps.push(() => { m.state = "failed"; m.error = bad[fail]; p.state = "failed"; p.error = { ...bad[fail], stage: "preview" }; t.state = "skipped"; t.error = { code: "no_preview", detail: "there is no page to make it from" }; return ["file_updated", "text", { outcome: "failed", reason: bad[fail].detail }]; });
    } else {
        const scan = f.name.includes("scan");
        if (scan) {
            steps.push(() => { m.stage = "ocr"; return ["file_updated", "text", { outcome: "done", pages: f.pages }]; });
        }
        for (let i = 1; i <= f.pages; i++) {
            steps.push(() => { m.pagesDone = i; p.pagesDone = i; return ["progress", scan ? "ocr" : "text", { pagesDone: i }]; });
        }
        steps.push(() => { f.artifacts.text = { href: `/api/v1/files/${f.id}/text`, method: scan ? "ocr" : "native", pages: f.pages, chars: 512 * f.pages }; p.state = "done"; f.artifacts.preview = { href: `/api/v1/files/${f.id}/preview`, pages: f.pages }; m.stage = "ai"; t.state = "running"; return ["file_updated", "preview", { outcome: "done" }]; });
        steps.push(() => { t.state = "done"; f.artifacts.thumbnail = { href: `/api/v1/files/${f.id}/thumbnail`, width: 181, height: 256 }; return ["file_updated", "thumbnail", { outcome: "done" }]; });
        steps.push(() => { m.state = "done"; m.pagesDone = f.pages; f.artifacts.record = { href: `/api/v1/files/${f.id}/record`, ids: [`r-${f.id}`] }; return ["record_updated", "ai", { outcome: "done", backend: "rules" }]; });
    }
    const run = () => {
        if (f.generation !== gen || !files.has(f.id) || f.state !== "processing") {
            return;
        }
        const step = steps.shift();
        if (!step) {
            finish(f);
            return;
        }
        const [kind, stage, detail] = step();
        if (quiet) {
            note(f, kind, stage, detail);
            run();
        } else {
            changed(f, kind, stage, detail);
            setTimeout(run, ((250 + Math.random() * 900) / SPEED));
        }
    };
    if (quiet) {
        run();
    } else {
        setTimeout(run, (300 + Math.random() * 800) / SPEED);
    }
}

function lines(f, page) {
    const n = [...f.id].reduce((a, c) => a + c.charCodeAt(0), 0);
    return [
        "Northwind Paper Supplies Ltd",
        "12 Harbour Road, Bristol",
        "",
        `Invoice number INV-2026-${n}`,
        `Invoice date ${1 + (n % 27)} March 2026`,
        `Page ${page} of ${f.pages}`,
        "",
        "Description Quantity Price",
        "A4 paper, 80 g, box of five 12 312.00",
        "Envelopes, C5, window 4 61.20",
        "",
        `Total EUR ${(n * 1.37).toFixed(2)}`,
    ];
}

const escape = (s) => s.replace(/&/g, "&amp;").replace(/</g, "&lt;");

function svg(f, page, width) {
    const rows = lines(f, page).map((l, i) => `<text x="60" y="${90 + i * 34}" font-size="${i === 0 ? 24 : 16}" font-family="sans-serif" fill="#223">${escape(l)}</text>`);
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${Math.round(width * 1.414)}" viewBox="0 0 700 990"><rect width="700" height="990" fill="#fff"/><rect x="0" y="0" width="700" height="14" fill="#5b7bd5"/>${rows.join("")}</svg>`;
}

function words(f, page) {
    const out = [];
    lines(f, page).forEach((l, i) => {
        const size = i === 0 ? 24 : 16;
        let x = 60;
        for (const w of l.split(" ").filter(Boolean)) {
            const width = w.length * size * 0.52;
            out.push({ text: w, box: [x / 700, (90 + i * 34 - size * 0.8) / 990, (x + width) / 700, (90 + i * 34 + size * 0.25) / 990] });
            x += width + size * 0.28;
        }
    });
    return out;
}

function cell(f, page, line, quote, confidence, status = "ok") {
    const y = 90 + line * 34;
    return { confidence, page, span: [10, 10 + quote.length], boxes: [[180 / 700, (y - 14) / 990, 330 / 700, (y + 5) / 990]], quote, status };
}

function record(f) {
    const l = lines(f, 1);
    const d = datasets.find((x) => x.id === f.datasetId);
    const values = {};
    const cells = {};
    for (const c of d?.columns ?? []) {
        const n = c.name.toLowerCase();
        if (n.includes("number")) { values[c.name] = l[3].slice(15); cells[c.name] = cell(f, 1, 3, l[3], 0.97); }
        else if (c.type === "date" && !n.includes("due")) { values[c.name] = `2026-03-${l[4].split(" ")[2].padStart(2, "0")}`; cells[c.name] = cell(f, 1, 4, l[4], 0.95); }
        else if (n.includes("supplier")) { values[c.name] = l[0]; cells[c.name] = cell(f, 1, 0, l[0], 0.66); }
        else if (n.includes("total")) { values[c.name] = { amount: l[11].split(" ")[2], currency: "EUR" }; cells[c.name] = cell(f, 1, 11, l[11], f.name.includes("scan") ? 0.58 : 0.93); }
        else if (c.type === "rows") { values[c.name] = [{ description: "A4 paper, 80 g, box of five", quantity: 12, price: { amount: "312.00", currency: "EUR" } }, { description: "Envelopes, C5, window", quantity: 4, price: { amount: "61.20", currency: "EUR" } }]; cells[c.name] = cell(f, 1, 8, "A4 paper", 0.9); }
        else { values[c.name] = null; cells[c.name] = { confidence: null, page: null, span: null, boxes: null, quote: null, status: "empty" }; }
    }
    return { id: `r-${f.id}`, fileId: f.id, version: 1, generation: f.generation, backend: "rules", values, cells, needsReview: f.name.includes("scan"), completeness: 0.67 };
}

const pub = (f) => {
    const { timeline: _t, pages: _p, ...rest } = f;
    return rest;
};

function json(res, status, body) {
    const text = JSON.stringify(body);
    res.writeHead(status, { "Content-Type": status >= 400 ? "application/problem+json" : "application/json", "Cache-Control": "no-store" });
    res.end(text);
}

const problem = (res, status, code, detail, errors) =>
    json(res, status, { type: "about:blank", title: code, status, detail, code, requestId: id(), errors });

async function body(req) {
    const parts = [];
    for await (const c of req) {
        parts.push(c);
    }
    return Buffer.concat(parts);
}

function parseMultipart(buffer, type) {
    const boundary = /boundary=(\S+)/.exec(type ?? "")?.[1] ?? "";
    const text = buffer.toString("latin1");
    return text.split(`--${boundary}`).slice(1, -1).map((part) => {
        const end = part.indexOf("\r\n\r\n");
        const name = /filename="([^"]*)"/.exec(part.slice(0, end))?.[1] ?? "";
        return { name: Buffer.from(name, "latin1").toString("utf8"), size: part.length - end - 6 };
    });
}

function select(datasetId, q) {
    const states = (q.get("state") ?? "").split(",").filter(Boolean);
    const text = (q.get("q") ?? "").toLowerCase();
    return [...files.values()]
        .filter((f) => f.datasetId === datasetId && (states.length === 0 || states.includes(f.state)) && f.name.toLowerCase().includes(text))
        .sort((a, b) => (a.id < b.id ? 1 : -1));
}

function summary(datasetId) {
    const byState = { uploading: 0, processing: 0, done: 0, failed: 0, cancelled: 0, quarantined: 0 };
    const stages = {};
    let total = 0;
    for (const f of files.values()) {
        if (f.datasetId !== datasetId) { continue; }
        total++;
        byState[f.state]++;
        for (const p of Object.values(f.pipelines)) {
            if (p.state === "running" || p.state === "waiting") {
                stages[p.stage] ??= { pending: 0, running: 0 };
                stages[p.stage][p.state === "running" ? "running" : "pending"]++;
            }
        }
    }
    return { files: { total, byState }, stages };
}

const idempotent = new Map();

async function api(req, res, url) {
    const parts = url.pathname.split("/").slice(3).map(decodeURIComponent);
    const q = url.searchParams;
    if (!/^Bearer dfk_(?!wrong)/.test(req.headers.authorization ?? "")) {
        return problem(res, 401, "unauthorized", "the key is not known");
    }
    const [a, b, c, e] = parts;
    if (a === "events") {
        res.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
        res.write(": hello\n\n");
        const last = Number(req.headers["last-event-id"] ?? Number.NaN);
        for (const ev of events) {
            if (ev.id > last) {
                res.write(`id: ${ev.id}\nevent: ${ev.event}\ndata: ${JSON.stringify(ev.data)}\n\n`);
            }
        }
        streams.add(res);
        const beat = setInterval(() => res.write(": beat\n\n"), 15_000);
        req.on("close", () => { streams.delete(res); clearInterval(beat); });
        return;
    }
    if (a === "datasets" && !b) {
        if (req.method === "POST") {
            const d = JSON.parse(await body(req));
            const key = req.headers["idempotency-key"];
            if (d.name === "refuse") {
                return problem(res, 422, "invalid_schema", "the column list is not valid", [{ pointer: "/columns/0/name", detail: "this name is reserved" }]);
            }
            const made = idempotent.get(key) ?? addDataset(d.name, d.columns);
            idempotent.set(key, made);
            return json(res, 201, made);
        }
        return json(res, 200, { items: datasets, nextCursor: null });
    }
    if (a === "datasets") {
        const d = datasets.find((x) => x.id === b);
        if (!d) { return problem(res, 404, "not_found", "no such dataset"); }
        if (!c) { return json(res, 200, d); }
        if (c === "summary") { return json(res, 200, summary(b)); }
        if (c === "records") {
            res.writeHead(200, { "Content-Type": "text/csv; charset=utf-8" });
            return res.end("file\r\n" + select(b, q).map((f) => f.name).join("\r\n"));
        }
        if (c === "files" && !e && req.method === "GET") {
            const limit = Math.min(200, Number(q.get("limit") ?? 50));
            const all = select(b, q);
            const cursor = q.get("cursor");
            const from = cursor ? all.findIndex((f) => f.id < cursor) : 0;
            const items = from < 0 ? [] : all.slice(from, from + limit);
            const more = from >= 0 && from + limit < all.length;
            return json(res, 200, { items: items.map(pub), nextCursor: more ? items[items.length - 1].id : null });
        }
        if (c === "files" && !e) {
            const found = parseMultipart(await body(req), req.headers["content-type"]);
            const batch = id();
            const out = found.map((p) => {
                if (p.size <= 0) { return { name: p.name, error: { code: "empty_file", detail: "the file is empty" } }; }
                const f = addFile(d, p.name, p.size, batch);
                changed(f, "file_created", null, {});
                play(f);
                return { id: f.id, name: f.name, size: f.size, sha256: f.sha256, state: f.state };
            });
            const rejected = out.filter((x) => x.error).length;
            return json(res, 202, { batch: { id: batch, total: out.length, accepted: out.length - rejected, rejected }, files: out });
        }
        if (c === "files" && e === "remove") {
            const r = JSON.parse(await body(req));
            const ids = r.ids ?? select(b, new URLSearchParams(r.filter)).map((f) => f.id);
            let n = 0;
            for (const x of ids) {
                if (files.delete(x)) { n++; emit("file_deleted", { fileId: x, datasetId: b }); }
            }
            return json(res, 202, { removed: n });
        }
    }
    if (a === "files") {
        const f = files.get(b);
        if (!f) { return problem(res, 404, "not_found", "no such file"); }
        if (!c) { return json(res, 200, pub(f)); }
        if (c === "record") { return json(res, 200, { items: f.artifacts.record ? [record(f)] : [] }); }
        if (c === "timeline") { return json(res, 200, { items: f.timeline }); }
        if (c === "text") {
            const page = Number(q.get("page") ?? 0);
            if (!page && (req.headers.accept ?? "").includes("json")) {
                return json(res, 200, { pages: Array.from({ length: f.pages }, (_, i) => ({ page: i + 1, chars: 260, engine: f.name.includes("scan") ? "ocr" : "native" })) });
            }
            res.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" });
            return res.end(lines(f, page || 1).join("\n"));
        }
        if (c === "preview" && !e) {
            return json(res, 200, { total: f.pages, pages: Array.from({ length: f.pages }, (_, i) => ({ page: i + 1, width: 1240, height: 1754, href: `/api/v1/files/${f.id}/preview/${i + 1}.webp`, textHref: `/api/v1/files/${f.id}/words?page=${i + 1}` })) });
        }
        if (c === "words") {
            const page = Number(q.get("page") ?? 1);
            return json(res, 200, { page, width: 1240, height: 1754, words: words(f, page) });
        }
        if (c === "preview" || c === "thumbnail") {
            res.writeHead(200, { "Content-Type": "image/svg+xml" });
            return res.end(svg(f, c === "preview" ? parseInt(e, 10) : 1, c === "preview" ? 1240 : 181));
        }
        if (c === "content") {
            res.writeHead(200, { "Content-Type": "application/pdf" });
            return res.end(lines(f, 1).join("\n"));
        }
        if (c === "retry") {
            f.generation++;
            f.state = "processing";
            f.name = f.name.replace(/broken|encrypted/, "fixed");
            f.pipelines = { main: { state: "waiting", stage: "text", pagesDone: 0, pagesTotal: f.pages, error: null }, preview: { state: "waiting", stage: "preview", pagesDone: 0, pagesTotal: f.pages, error: null }, thumbnail: { state: "waiting", stage: "thumbnail", error: null } };
            changed(f, "file_updated", "text", { reason: "retry" });
            play(f);
            return json(res, 202, {});
        }
        if (c === "cancel") {
            f.generation++;
            f.state = "cancelled";
            for (const p of Object.values(f.pipelines)) {
                if (p.state === "running" || p.state === "waiting") { p.state = "cancelled"; }
            }
            changed(f, "file_updated", null, { to: "cancelled" });
            return json(res, 202, {});
        }
    }
    return problem(res, 404, "not_found", "no such path");
}

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml" };

function page(res, url) {
    let path = normalize(join(DIST, url.pathname));
    if (!path.startsWith(DIST) || url.pathname.endsWith("/")) { path = join(DIST, "index.html"); }
    if (!existsSync(path)) { res.writeHead(404).end("not found"); return; }
    res.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "application/octet-stream", "Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff" });
    createReadStream(path).pipe(res);
}

const invoices = addDataset("Supplier invoices", [
    { name: "Invoice number", type: "string", required: true },
    { name: "Invoice date", type: "date", required: true },
    { name: "Supplier", type: "string" },
    { name: "Total", type: "money", required: true },
    { name: "Due date", type: "date" },
    { name: "Lines", type: "rows", itemColumns: [{ name: "description", type: "string" }, { name: "quantity", type: "number" }, { name: "price", type: "money" }] },
]);
if (process.env.EMPTY) { datasets.length = 0; }
for (let i = 0; i < SEED && !process.env.EMPTY; i++) {
    const kind = i % 17 === 3 ? "scan" : i % 23 === 5 ? "encrypted" : i % 29 === 7 ? "broken" : "invoice";
    const f = addFile(invoices, `${kind}-${String(i + 1).padStart(5, "0")}.pdf`, 4000 + ((i * 7919) % 900000), "seed");
    play(f, i < SEED - 3);
}

createServer((req, res) => {
    const url = new URL(req.url ?? "/", "http://localhost");
    if (url.pathname.startsWith("/api/v1/")) {
        api(req, res, url).catch((e) => { console.error(e); res.headersSent ? res.end() : problem(res, 500, "internal", "mock fault"); });
    } else {
        page(res, url);
    }
}).listen(PORT, "127.0.0.1", () => console.log(`mock gateway on http://127.0.0.1:${PORT}, key dfk_demo`));
