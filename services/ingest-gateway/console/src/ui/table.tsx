// SPDX-License-Identifier: Apache-2.0
// Why: the live table. Only the rows on screen exist in the page, so ten thousand cost what thirty
// do; the row count and positions are told to screen readers. All rows have one height.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Api } from "../lib/api";
import type { BlobCache } from "../lib/blobs";
import {
    bytes,
    headline,
    PIPELINE_LABEL,
    PIPELINE_STATE_LABEL,
    pipelineSentence,
    plural,
    reviewHint,
    STATE_LABEL,
    value,
} from "../lib/format";
import { visibleRange } from "../lib/list";
import type { DatasetStore } from "../lib/store";
import type { Column, FileItem, Pipeline, PipelineName } from "../lib/types";
import { useBlob, useMedia } from "./hooks";
import { Icon, type IconName, Spinner } from "./icons";

export const ROW_HEIGHT = 68;
const OVERSCAN = 6;
const PIPELINES: readonly PipelineName[] = ["main", "preview", "thumbnail"];

export interface RowActions {
    open: (f: FileItem) => void;
    retry: (ids: string[]) => void;
    cancel: (ids: string[]) => void;
    remove: (ids: string[]) => void;
}

export function canRetry(f: FileItem): boolean {
    return (
        f.state === "failed" ||
        f.state === "cancelled" ||
        PIPELINES.some((p) => f.pipelines?.[p]?.state === "failed")
    );
}

export function canCancel(f: FileItem): boolean {
    return f.state === "processing" || f.state === "uploading";
}

export function FileTable({
    api,
    blobs,
    store,
    columns,
    selected,
    onSelect,
    actions,
}: {
    api: Api;
    blobs: BlobCache;
    store: DatasetStore;
    columns: Column[];
    selected: ReadonlySet<string>;
    onSelect: (next: Set<string>) => void;
    actions: RowActions;
}) {
    const box = useRef<HTMLDivElement>(null);
    const [view, setView] = useState({ top: 0, height: 600 });
    const lastClicked = useRef<string | null>(null);
    const list = store.list;
    const { start, end } = visibleRange(view.top, view.height, ROW_HEIGHT, list.size, OVERSCAN);
    const ids = list.order.slice(start, end);

    useLayoutEffect(() => {
        const el = box.current;
        if (!el) {
            return;
        }
        let frame = 0;
        const read = () => {
            frame = 0;
            setView((v) =>
                v.top === el.scrollTop && v.height === el.clientHeight
                    ? v
                    : { top: el.scrollTop, height: el.clientHeight },
            );
        };
        const later = () => {
            frame ||= requestAnimationFrame(read);
        };
        read();
        el.addEventListener("scroll", later, { passive: true });
        const size = new ResizeObserver(later);
        size.observe(el);
        return () => {
            cancelAnimationFrame(frame);
            el.removeEventListener("scroll", later);
            size.disconnect();
        };
    }, []);

    // The head of the table covers part of the box, and rows beyond the window ask for nothing.
    const shown = ids.join();
    useEffect(() => store.setVisible(ids), [store, shown]);

    const nearEnd = end >= list.size - 20;
    useEffect(() => {
        if (nearEnd && list.nextCursor !== null && !store.loading && !store.error && list.size > 0 && view.top > 0) {
            void store.loadMore();
        }
    }, [nearEnd, list.size, list.nextCursor, view.top > 0]);

    const toggle = (id: string, on: boolean, range: boolean) => {
        const next = new Set(selected);
        const from = lastClicked.current ? list.order.indexOf(lastClicked.current) : -1;
        const to = list.order.indexOf(id);
        if (range && from >= 0 && to >= 0) {
            for (const x of list.order.slice(Math.min(from, to), Math.max(from, to) + 1)) {
                if (on) {
                    next.add(x);
                } else {
                    next.delete(x);
                }
            }
        } else if (on) {
            next.add(id);
        } else {
            next.delete(id);
        }
        lastClicked.current = id;
        onSelect(next);
    };

    const allSelected = list.size > 0 && selected.size >= list.size && list.order.every((id) => selected.has(id));

    const moveFocus = (e: KeyboardEvent) => {
        if (e.key !== "ArrowDown" && e.key !== "ArrowUp") {
            return;
        }
        const button = e.target instanceof Element ? e.target.closest("button.file-name") : null;
        const row = button?.closest("tr");
        const next = e.key === "ArrowDown" ? row?.nextElementSibling : row?.previousElementSibling;
        const target = next?.querySelector<HTMLElement>("button.file-name");
        if (target) {
            e.preventDefault();
            target.focus();
        }
    };

    const narrow = useMedia("(max-width: 640px)");
    const widths = [
        40,
        narrow ? 210 : 252,
        124,
        268,
        ...columns.map((c) => (c.type === "string" ? 160 : 122)),
        84,
    ];
    const colCount = 4 + columns.length + 1;
    return (
        <div class="table-box" ref={box} tabIndex={-1} aria-busy={store.loading}>
            <table
                class="files"
                style={{ width: `${widths.reduce((a, b) => a + b, 0)}px` }}
                aria-label="Files of the dataset"
                aria-rowcount={list.nextCursor === null ? list.size + 1 : -1}
                onKeyDown={moveFocus}
            >
                <colgroup>
                    {widths.map((w, i) => <col key={i} style={{ width: `${w}px` }} />)}
                </colgroup>
                <thead>
                    <tr aria-rowindex={1}>
                        <th scope="col" class="check-cell">
                            <input
                                type="checkbox"
                                aria-label="Select all loaded files"
                                checked={allSelected}
                                ref={(el) => {
                                    if (el) {
                                        el.indeterminate = selected.size > 0 && !allSelected;
                                    }
                                }}
                                onChange={(e) => onSelect(e.currentTarget.checked ? new Set(list.order) : new Set())}
                            />
                        </th>
                        <th scope="col" class="name-cell">Name</th>
                        <th scope="col">State</th>
                        <th scope="col">Stages</th>
                        {columns.map((c) => (
                            <th scope="col" key={c.id ?? c.name} title={c.description || undefined} class={isNumeric(c) ? "num" : ""}>
                                {c.name}
                                {c.required && <span class="req" title="Required"> *</span>}
                            </th>
                        ))}
                        <th scope="col" class="actions-cell"><span class="sr-only">Actions</span></th>
                    </tr>
                </thead>
                <tbody>
                    {start > 0 && <Spacer height={start * ROW_HEIGHT} span={colCount} />}
                    {ids.map((id, i) => {
                        const f = list.byId.get(id);
                        return f ? (
                            <Row
                                key={id}
                                api={api}
                                blobs={blobs}
                                store={store}
                                file={f}
                                index={start + i}
                                columns={columns}
                                selected={selected.has(id)}
                                onToggle={toggle}
                                actions={actions}
                            />
                        ) : null;
                    })}
                    {end < list.size && <Spacer height={(list.size - end) * ROW_HEIGHT} span={colCount} />}
                </tbody>
            </table>
            {list.nextCursor !== null && list.size > 0 && (
                <div class="more">
                    <button type="button" disabled={store.loadingMore} onClick={() => void store.loadMore()}>
                        {store.loadingMore ? <Spinner /> : <Icon name="down" size={16} />} Load more
                    </button>
                </div>
            )}
        </div>
    );
}

function Spacer({ height, span }: { height: number; span: number }) {
    return (
        <tr class="spacer" aria-hidden="true">
            <td colSpan={span} style={{ height: `${height}px` }} />
        </tr>
    );
}

function isNumeric(c: Column): boolean {
    return c.type === "number" || c.type === "integer" || c.type === "money";
}

function Row({
    api,
    blobs,
    store,
    file: f,
    index,
    columns,
    selected,
    onToggle,
    actions,
}: {
    api: Api;
    blobs: BlobCache;
    store: DatasetStore;
    file: FileItem;
    index: number;
    columns: Column[];
    selected: boolean;
    onToggle: (id: string, on: boolean, range: boolean) => void;
    actions: RowActions;
}) {
    const line = headline(f);
    const entry = store.recordOf(f.id);
    const record = entry?.items?.[0];
    const more = (entry?.items?.length ?? 0) - 1;
    const shift = useRef(false);
    return (
        <tr
            class={selected ? "selected" : ""}
            aria-rowindex={index + 2}
            data-file={f.id}
            data-state={f.state}
        >
            <td class="check-cell">
                <input
                    type="checkbox"
                    aria-label={`Select ${f.name}`}
                    checked={selected}
                    onClick={(e) => {
                        shift.current = e.shiftKey;
                    }}
                    onChange={(e) => onToggle(f.id, e.currentTarget.checked, shift.current)}
                />
            </td>
            <th scope="row" class="name-cell">
                <div class="name-wrap">
                    <Thumb api={api} blobs={blobs} file={f} onOpen={() => actions.open(f)} />
                    <div class="name-text">
                        <button type="button" class="file-name" title={f.name} onClick={() => actions.open(f)}>
                            {f.name}
                        </button>
                        <span class="sub">
                            {bytes(f.size)}
                            {more > 0 && ` · ${plural(more + 1, "record")}`}
                            {record?.needsReview && <span class="review-tag" title="Some values need a look">needs review</span>}
                        </span>
                    </div>
                </div>
            </th>
            <td><StateBadge state={f.state} /></td>
            <td class="stages-cell">
                <div class="pipes">
                    {PIPELINES.map((p) => <Pipe key={p} name={p} pipeline={f.pipelines?.[p]} />)}
                </div>
                {line.text && <div class={`headline ${line.tone}`} title={line.text}>{line.text}</div>}
            </td>
            {columns.map((c) => {
                const v = record?.values?.[c.name];
                const cell = record?.cells?.[c.name];
                const text = value(c, v);
                const hint = record ? reviewHint(cell, c, v) : "";
                return (
                    <td key={c.id ?? c.name} class={isNumeric(c) ? "value num" : "value"} data-column={c.name}>
                        {text ? (
                            <span class="value-text" title={cell?.quote ? `${text}\n“${cell.quote}”` : text}>{text}</span>
                        ) : record ? (
                            <span class="none" title="Not found in the document">–</span>
                        ) : null}
                        {hint && (
                            <span class="hint-dot" title={hint}>
                                <span class="sr-only">{hint}</span>
                            </span>
                        )}
                    </td>
                );
            })}
            <td class="actions-cell">
                {canRetry(f) && <RowButton icon="retry" label={`Retry ${f.name}`} onClick={() => actions.retry([f.id])} />}
                {canCancel(f) && <RowButton icon="stop" label={`Cancel ${f.name}`} onClick={() => actions.cancel([f.id])} />}
                <RowButton icon="trash" label={`Remove ${f.name}`} onClick={() => actions.remove([f.id])} />
            </td>
        </tr>
    );
}

function RowButton({ icon, label, onClick }: { icon: IconName; label: string; onClick: () => void }) {
    return (
        <button type="button" class="icon-button" aria-label={label} title={label} onClick={onClick}>
            <Icon name={icon} size={17} />
        </button>
    );
}

export function StateBadge({ state }: { state: FileItem["state"] }) {
    const busy = state === "processing" || state === "uploading";
    return (
        <span class={`badge ${state}`}>
            {busy ? <Spinner size={12} /> : <span class="dot" aria-hidden="true" />}
            {STATE_LABEL[state] ?? state}
        </span>
    );
}

const PIPE_ICON: Record<string, IconName> = {
    waiting: "clock",
    done: "check",
    failed: "alert",
    skipped: "minus",
    cancelled: "stop",
};

export function Pipe({ name, pipeline }: { name: PipelineName; pipeline: Pipeline | undefined }) {
    const state = pipeline?.state ?? "waiting";
    const sentence = pipelineSentence(name, pipeline);
    const total = pipeline?.pagesTotal ?? 0;
    const part = state === "running" && total > 0 ? Math.min(1, (pipeline?.pagesDone ?? 0) / total) : 0;
    return (
        <span class={`pipe ${state}`} title={sentence}>
            {state === "running" ? <Spinner size={12} /> : <Icon name={PIPE_ICON[state] ?? "clock"} size={13} />}
            <span aria-hidden="true">{PIPELINE_LABEL[name]}</span>
            <span class="sr-only">
                {PIPELINE_LABEL[name]} {PIPELINE_STATE_LABEL[state] ?? state}
            </span>
            {part > 0 && <span class="pipe-bar" style={{ width: `${part * 100}%` }} aria-hidden="true" />}
        </span>
    );
}

function extension(name: string): string {
    const dot = name.lastIndexOf(".");
    const ext = dot > 0 ? name.slice(dot + 1) : "";
    return /^[A-Za-z0-9]{1,5}$/.test(ext) ? ext.toLowerCase() : "";
}

function Thumb({ api, blobs, file, onOpen }: { api: Api; blobs: BlobCache; file: FileItem; onOpen: () => void }) {
    const has = Boolean(file.artifacts?.thumbnail);
    const path = useMemo(() => (has ? api.thumbnailPath(file.id, 256) : null), [has, file.id]);
    const { url } = useBlob(blobs, path, `thumb:${file.id}:${file.version ?? 0}:${file.generation ?? 0}`);
    return (
        <button type="button" class="thumb" tabIndex={-1} aria-hidden="true" onClick={onOpen}>
            {url ? <img src={url} alt="" draggable={false} /> : <span class="ext">{extension(file.name) || <Icon name="file" />}</span>}
        </button>
    );
}
