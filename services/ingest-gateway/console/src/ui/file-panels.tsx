// SPDX-License-Identifier: Apache-2.0
// Why: the panels beside the pages: record values with their evidence, text page by page, the
// timeline, and what is known about the file.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Api } from "../lib/api";
import { bytes, count, inOrder, percent, pipelineSentence, plural, reviewHint, time, timelineDetail, timelineTitle, value } from "../lib/format";
import { messageOf } from "../lib/problem";
import type { RecordEntry } from "../lib/store";
import { evidenceIn, validBox } from "../lib/textlayer";
import type { Cell, Column, FileItem, RecordItem, TextPage, TimelineItem } from "../lib/types";
import { download } from "./download";
import { Icon, Spinner } from "./icons";
import type { Citation } from "./pages-view";
import { Pipe } from "./table";

const BACKEND: Record<string, string> = {
    rules: "labels and patterns, no AI",
    openai: "a language model; every value was checked against the text",
};

export function RecordPanel({
    file,
    entry,
    columns,
    onCite,
    active,
}: {
    file: FileItem;
    entry: RecordEntry | undefined;
    columns: Column[];
    onCite: (record: string, column: string, cell: Cell) => void;
    active: string;
}) {
    if (entry?.error) {
        return <p class="error-text" role="alert">{entry.error}</p>;
    }
    const items = entry?.items;
    if (!items || items.length === 0) {
        if (file.artifacts?.record && !items) {
            return <p class="muted"><Spinner /> Loading…</p>;
        }
        const busy = file.state === "processing" || file.state === "uploading";
        return (
            <p class="empty-note">
                {busy
                    ? "The values appear here as soon as the text has been read."
                    : "There is no record for this file."}
            </p>
        );
    }
    return (
        <>
            {items.map((r, i) => (
                <RecordView
                    key={r.id}
                    record={r}
                    title={items.length > 1 ? `Record ${i + 1} of ${items.length}` : ""}
                    columns={columns}
                    onCite={(c, cell) => onCite(r.id, c, cell)}
                    active={active}
                />
            ))}
        </>
    );
}

function RecordView({
    record: r,
    title,
    columns,
    onCite,
    active,
}: {
    record: RecordItem;
    title: string;
    columns: Column[];
    onCite: (column: string, cell: Cell) => void;
    active: string;
}) {
    const filled = columns.filter((c) => value(c, r.values?.[c.name]) !== "").length;
    return (
        <section class="record" aria-label={title || "Record"}>
            {title && <h3>{title}</h3>}
            {r.needsReview && (
                <p class="notice warn"><Icon name="alert" size={16} /> Some values need a look before they are relied on.</p>
            )}
            <dl class="cells">
                {columns.map((c) => (
                    <CellView
                        key={c.id ?? c.name}
                        column={c}
                        cell={r.cells?.[c.name] ?? null}
                        value={r.values?.[c.name]}
                        active={active === `${r.id}/${c.name}`}
                        onCite={onCite}
                    />
                ))}
            </dl>
            <p class="hint">
                {r.backend && <>Found by <b>{r.backend}</b>{BACKEND[r.backend] ? ` (${BACKEND[r.backend]})` : ""}. </>}
                {count(filled)} of {plural(columns.length, "column")} filled.
            </p>
        </section>
    );
}

function CellView({
    column,
    cell,
    value: v,
    active,
    onCite,
}: {
    column: Column;
    cell: Cell | null;
    value: unknown;
    active: boolean;
    onCite: (column: string, cell: Cell) => void;
}) {
    const text = value(column, v);
    const hint = reviewHint(cell, column, v);
    const cited = cell !== null && text !== "" && typeof cell.page === "number" && cell.page > 0;
    const body = (
        <>
            <span class={text ? "cell-value" : "cell-value none"}>{text || "not found"}</span>
            {text && typeof cell?.confidence === "number" && (
                <span class={`confidence ${hint ? "low" : ""}`} title={`Confidence ${percent(cell.confidence)}`}>
                    {percent(cell.confidence)}
                </span>
            )}
            {cited && <span class="cite-page">p. {cell.page}</span>}
        </>
    );
    return (
        <div class={active ? "cell active" : "cell"} data-column={column.name}>
            <dt>
                {column.name}
                {column.required && <span class="req" title="Required"> *</span>}
            </dt>
            <dd>
                {cited ? (
                    <button
                        type="button"
                        class="cell-button"
                        aria-pressed={active}
                        title="Show where it stands"
                        onClick={() => onCite(column.name, cell)}
                    >
                        {body}
                    </button>
                ) : (
                    <span class="cell-plain">{body}</span>
                )}
                {cell?.quote && text && <q class="quote">{cell.quote}</q>}
                {hint && <span class="cell-hint"><Icon name="alert" size={13} /> {hint}</span>}
                {column.type === "rows" && Array.isArray(v) && v.length > 0 && (
                    <RowsTable columns={column.itemColumns ?? []} rows={v} />
                )}
            </dd>
        </div>
    );
}

function RowsTable({ columns, rows }: { columns: Column[]; rows: unknown[] }) {
    const names =
        columns.length > 0
            ? columns
            : Object.keys((rows[0] ?? {}) as object).map((name): Column => ({ name, type: "string" }));
    return (
        <div class="rows-box" tabIndex={0} role="region" aria-label="Rows found">
            <table>
                <thead>
                    <tr>{names.map((c) => <th key={c.name} scope="col">{c.name}</th>)}</tr>
                </thead>
                <tbody>
                    {rows.slice(0, 200).map((row, i) => (
                        <tr key={i}>
                            {names.map((c) => (
                                <td key={c.name}>{value(c, (row as Record<string, unknown> | null)?.[c.name]) || "–"}</td>
                            ))}
                        </tr>
                    ))}
                </tbody>
            </table>
        </div>
    );
}

const ENGINE: Record<string, string> = {
    native: "taken from the file",
    ocr: "read from the picture",
    tesseract: "read from the picture by Tesseract",
    textract: "read from the picture by Amazon Textract",
};

export function TextPanel({
    api,
    file,
    citation,
    page,
    onPage,
}: {
    api: Api;
    file: FileItem;
    citation: Citation | null;
    page: number;
    onPage: (page: number) => void;
}) {
    const [pages, setPages] = useState<TextPage[] | null>(null);
    const [text, setText] = useState<{ page: number; text: string } | null>(null);
    const marked = useRef<HTMLElement>(null);
    const [error, setError] = useState("");
    const has = Boolean(file.artifacts?.text);
    const version = `${file.version ?? 0}:${file.generation ?? 0}:${file.artifacts?.text?.chars ?? 0}`;
    const numbers = (pages ?? []).map((p) => p.page);
    const shown = numbers.includes(page) ? page : (numbers[0] ?? 1);

    useEffect(() => {
        if (!has) {
            return;
        }
        const abort = new AbortController();
        setError("");
        api.textPages(file.id, abort.signal).then(
            (r) => setPages(r.pages?.length ? r.pages : [{ page: 1 }]),
            (e) => !abort.signal.aborted && setError(messageOf(e)),
        );
        return () => abort.abort();
    }, [has, file.id, version]);

    useEffect(() => {
        if (!pages) {
            return;
        }
        const abort = new AbortController();
        api.text(file.id, shown, abort.signal).then(
            (t) => setText({ page: shown, text: t }),
            (e) => !abort.signal.aborted && setError(messageOf(e)),
        );
        return () => abort.abort();
    }, [pages, shown]);

    useEffect(() => {
        marked.current?.scrollIntoView({ block: "nearest" });
    }, [citation, text]);

    if (error) {
        return <p class="error-text" role="alert">{error}</p>;
    }
    if (!has) {
        return (
            <p class="empty-note">
                {file.state === "processing" ? "The text appears here once it has been read." : "No text was found in this file."}
            </p>
        );
    }
    const info = pages?.find((p) => p.page === shown);
    const at = numbers.indexOf(shown);
    const body = text?.page === shown ? text.text : null;
    const mark = body !== null && citation?.page === shown ? evidenceIn(body, citation.quote, citation.span) : null;
    return (
        <div class="text-panel">
            <div class="text-bar">
                <button type="button" class="icon-button" aria-label="Previous text page" disabled={at <= 0} onClick={() => onPage(numbers[at - 1] ?? 1)}>
                    <Icon name="left" size={16} />
                </button>
                <span class="nowrap">Page {shown} of {count(numbers.length)}</span>
                <button type="button" class="icon-button" aria-label="Next text page" disabled={at >= numbers.length - 1} onClick={() => onPage(numbers[at + 1] ?? 1)}>
                    <Icon name="right" size={16} />
                </button>
                <span class="gap" />
                <span class="muted small-text">
                    {info?.engine ? (ENGINE[info.engine] ?? info.engine) : ""}
                    {typeof info?.chars === "number" && ` · ${plural(info.chars, "character")}`}
                </span>
            </div>
            {body === null ? (
                <p class="muted"><Spinner /> Loading…</p>
            ) : body.trim() === "" ? (
                <p class="empty-note">This page has no text.</p>
            ) : (
                <pre class="page-text" tabIndex={0} aria-label={`Text of page ${shown}`}>
                    {mark ? (
                        <>
                            {body.slice(0, mark[0])}
                            <mark ref={marked}>{body.slice(mark[0], mark[1])}</mark>
                            {body.slice(mark[1])}
                        </>
                    ) : (
                        body
                    )}
                </pre>
            )}
        </div>
    );
}

export function TimelinePanel({ api, file }: { api: Api; file: FileItem }) {
    const [items, setItems] = useState<TimelineItem[] | null>(null);
    const [error, setError] = useState("");
    useEffect(() => {
        const abort = new AbortController();
        api.timeline(file.id, abort.signal).then(
            (r) => setItems(inOrder(r.items ?? [])),
            (e) => !abort.signal.aborted && setError(messageOf(e)),
        );
        return () => abort.abort();
    }, [file.id, file.updatedAt, file.state]);
    if (error) {
        return <p class="error-text" role="alert">{error}</p>;
    }
    if (!items) {
        return <p class="muted"><Spinner /> Loading…</p>;
    }
    const first = Date.parse(items[0]?.at ?? "");
    return (
        <ol class="timeline">
            {items.map((t, i) => {
                const ms = Date.parse(t.at) - first;
                const title = timelineTitle(t);
                const detail = timelineDetail(t);
                return (
                    <li key={i}>
                        <time dateTime={t.at} title={time(t.at)}>
                            {i === 0 || !Number.isFinite(ms) ? time(t.at) : `+${(ms / 1000).toFixed(ms < 10_000 ? 2 : 0)} s`}
                        </time>
                        <span class={title.bad ? "timeline-what bad" : "timeline-what"}>{title.text}</span>
                        {detail && <span class="timeline-detail">{detail}</span>}
                    </li>
                );
            })}
        </ol>
    );
}

export function AboutPanel({ api, file: f }: { api: Api; file: FileItem }) {
    return (
        <div class="about">
            <ul class="pipe-list">
                {(["main", "preview", "thumbnail"] as const).map((p) => (
                    <li key={p}>
                        <Pipe name={p} pipeline={f.pipelines?.[p]} />
                        <span>
                            {pipelineSentence(p, f.pipelines?.[p])}
                            {f.pipelines?.[p]?.state === "failed" && f.pipelines?.[p]?.error?.advice && (
                                <span class="muted"> What helps: {f.pipelines[p]?.error?.advice}.</span>
                            )}
                        </span>
                    </li>
                ))}
            </ul>
            <dl class="facts">
                <dt>Size</dt>
                <dd>{bytes(f.size)}</dd>
                <dt>Type</dt>
                <dd>{f.mime ?? "not known"}</dd>
                <dt>Added</dt>
                <dd>{time(f.createdAt)}</dd>
                <dt>Changed</dt>
                <dd>{time(f.updatedAt)}</dd>
                <dt>Version</dt>
                <dd>{f.version ?? 1}, run {f.generation ?? 1}</dd>
                <dt>SHA-256</dt>
                <dd class="mono">{f.sha256 ?? "–"}</dd>
                <dt>Id</dt>
                <dd class="mono">{f.id}</dd>
                {f.batchId && (
                    <>
                        <dt>Upload</dt>
                        <dd>
                            <button type="button" class="link" onClick={() => void download(api, api.receiptPath(f.batchId ?? "", "csv"), `receipt-${(f.batchId ?? "").slice(-8)}.csv`, 0)}>
                                Receipt of all its files
                            </button>
                        </dd>
                    </>
                )}
            </dl>
        </div>
    );
}

export function citationOf(cell: Cell, token: number): Citation {
    return {
        page: cell.page ?? 1,
        boxes: (cell.boxes ?? []).filter(validBox),
        quote: cell.quote ?? "",
        span: cell.span ?? null,
        token,
    };
}
