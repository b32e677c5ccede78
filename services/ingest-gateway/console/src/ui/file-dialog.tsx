// SPDX-License-Identifier: Apache-2.0
// Why: one file in full: its pages on the left; values, text and history on the right. It stays
// live while the file is being processed.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Api } from "../lib/api";
import type { BlobCache } from "../lib/blobs";
import { pipelineSentence, plural } from "../lib/format";
import { messageOf } from "../lib/problem";
import type { DatasetStore } from "../lib/store";
import type { Cell, Column, FileItem, PreviewPage } from "../lib/types";
import { download } from "./download";
import { AboutPanel, citationOf, RecordPanel, TextPanel, TimelinePanel } from "./file-panels";
import { useModal } from "./hooks";
import { Icon, Spinner } from "./icons";
import { type Citation, PagesView } from "./pages-view";
import { SharePanel } from "./share-panel";
import { canCancel, canRetry, type RowActions, StateBadge } from "./table";

type Tab = "values" | "text" | "timeline" | "share" | "about";
const TABS: readonly { id: Tab; label: string }[] = [
    { id: "values", label: "Values" },
    { id: "text", label: "Text" },
    { id: "timeline", label: "Timeline" },
    { id: "share", label: "Share" },
    { id: "about", label: "About" },
];

export function FileDialog({
    api,
    blobs,
    store,
    fileId,
    columns,
    actions,
    onClose,
    onGo,
}: {
    api: Api;
    blobs: BlobCache;
    store: DatasetStore;
    fileId: string;
    columns: Column[];
    actions: RowActions;
    onClose: () => void;
    onGo: (id: string) => void;
}) {
    const ref = useModal(onClose);
    const [error, setError] = useState("");
    const [tab, setTab] = useState<Tab>("values");
    const [citation, setCitation] = useState<Citation | null>(null);
    const [active, setActive] = useState("");
    const [page, setPage] = useState(1);
    const token = useRef(0);

    useEffect(() => {
        const abort = new AbortController();
        setError("");
        setCitation(null);
        setActive("");
        setPage(1);
        store.watched = store.list.byId.get(fileId) ?? null;
        api.file(fileId, abort.signal).then(
            (f) => store.watch(f),
            (e) => !abort.signal.aborted && setError(messageOf(e)),
        );
        return () => {
            abort.abort();
            store.watched = null;
        };
    }, [fileId]);

    const watched = store.watched?.id === fileId ? store.watched : null;
    const f: FileItem | undefined = watched ?? store.list.byId.get(fileId);
    useEffect(() => {
        store.wantRecord(fileId);
    });

    const index = store.list.order.indexOf(fileId);
    const before = index > 0 ? store.list.order[index - 1] : undefined;
    const after = index >= 0 ? store.list.order[index + 1] : undefined;

    const cite = (record: string, column: string, cell: Cell) => {
        setActive(`${record}/${column}`);
        const c = citationOf(cell, ++token.current);
        setCitation(c);
        setPage(c.page);
        if (c.boxes.length === 0 || !f?.artifacts?.preview) {
            setTab("text"); // nothing to point at on a picture of the page
        }
    };

    const neighbours = useRef({ before, after });
    neighbours.current = { before, after };
    useEffect(() => {
        const onKey = (e: KeyboardEvent) => {
            const typing = e.target instanceof HTMLInputElement || e.target instanceof HTMLTextAreaElement;
            const covered = document.querySelectorAll("dialog[open]").length > 1;
            if (typing || covered || e.ctrlKey || e.metaKey || e.altKey) {
                return;
            }
            const n = neighbours.current;
            const to = e.key === "j" ? n.after : e.key === "k" ? n.before : undefined;
            if (to) {
                onGo(to);
            }
        };
        window.addEventListener("keydown", onKey);
        return () => window.removeEventListener("keydown", onKey);
    }, []);

    return (
        <dialog ref={ref} class="modal file-modal" aria-labelledby="file-title">
            <header class="modal-head">
                <div class="file-heading">
                    <h2 id="file-title" title={f?.name}>{f?.name ?? "File"}</h2>
                    {f && <StateBadge state={f.state} />}
                </div>
                <div class="head-tools">
                    {f && (
                        <>
                            <DownloadButton api={api} file={f} />
                            {canRetry(f) && (
                                <button type="button" class="quiet" onClick={() => actions.retry([f.id])}>
                                    <Icon name="retry" size={16} /> <span class="label">Retry</span>
                                </button>
                            )}
                            {canCancel(f) && (
                                <button type="button" class="quiet" onClick={() => actions.cancel([f.id])}>
                                    <Icon name="stop" size={16} /> <span class="label">Cancel</span>
                                </button>
                            )}
                            <button type="button" class="quiet" onClick={() => actions.remove([f.id])}>
                                <Icon name="trash" size={16} /> <span class="label">Remove</span>
                            </button>
                        </>
                    )}
                    <span class="divider" />
                    <button type="button" class="icon-button" aria-label="Previous file" title="Previous file (k)" disabled={!before} onClick={() => before && onGo(before)}>
                        <Icon name="up" />
                    </button>
                    <button type="button" class="icon-button" aria-label="Next file" title="Next file (j)" disabled={!after} onClick={() => after && onGo(after)}>
                        <Icon name="down" />
                    </button>
                    <button type="button" class="icon-button" aria-label="Close" onClick={onClose}>
                        <Icon name="close" />
                    </button>
                </div>
            </header>
            {!f && store.gone.has(fileId) ? (
                <div class="modal-body"><p class="empty-note" role="status">This file has been removed.</p></div>
            ) : error && !f ? (
                <div class="modal-body"><p class="error-text" role="alert">{error}</p></div>
            ) : !f ? (
                <div class="modal-body"><p class="muted"><Spinner /> Loading…</p></div>
            ) : (
                <div class="file-body">
                    <section class="file-pages" aria-label="Preview">
                        <Preview api={api} blobs={blobs} file={f} citation={citation} onPage={setPage} />
                    </section>
                    <section class="file-side">
                        <Tabs tab={tab} onTab={setTab} />
                        <div class="panel" role="tabpanel" id={`panel-${tab}`} aria-labelledby={`tab-${tab}`} tabIndex={0}>
                            {f.pipelines?.main?.state === "failed" && (
                                <p class="notice bad"><Icon name="alert" size={16} /> {pipelineSentence("main", f.pipelines.main)}</p>
                            )}
                            {tab === "values" && (
                                <RecordPanel file={f} entry={store.recordOf(f.id)} columns={columns} active={active} onCite={cite} />
                            )}
                            {tab === "text" && <TextPanel api={api} file={f} citation={citation} page={page} onPage={setPage} />}
                            {tab === "timeline" && <TimelinePanel api={api} file={f} />}
                            {tab === "share" && <SharePanel api={api} file={f} />}
                            {tab === "about" && <AboutPanel api={api} file={f} />}
                        </div>
                    </section>
                </div>
            )}
        </dialog>
    );
}

function Tabs({ tab, onTab }: { tab: Tab; onTab: (t: Tab) => void }) {
    const move = (e: KeyboardEvent) => {
        const by = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : 0;
        if (by === 0) {
            return;
        }
        e.preventDefault();
        const at = TABS.findIndex((t) => t.id === tab);
        const next = TABS[(at + by + TABS.length) % TABS.length];
        if (next) {
            onTab(next.id);
            document.getElementById(`tab-${next.id}`)?.focus();
        }
    };
    return (
        <div class="tabs" role="tablist" aria-label="About this file" onKeyDown={move}>
            {TABS.map((t) => (
                <button
                    key={t.id}
                    id={`tab-${t.id}`}
                    type="button"
                    role="tab"
                    aria-selected={t.id === tab}
                    aria-controls={`panel-${t.id}`}
                    tabIndex={t.id === tab ? 0 : -1}
                    onClick={() => onTab(t.id)}
                >
                    {t.label}
                </button>
            ))}
        </div>
    );
}

function Preview({
    api,
    blobs,
    file: f,
    citation,
    onPage,
}: {
    api: Api;
    blobs: BlobCache;
    file: FileItem;
    citation: Citation | null;
    onPage: (p: number) => void;
}) {
    const [pages, setPages] = useState<PreviewPage[] | null>(null);
    const [error, setError] = useState("");
    const pipeline = f.pipelines?.preview;
    const ready = Boolean(f.artifacts?.preview);
    const key = `${f.id}:${f.version ?? 0}:${f.generation ?? 0}`;
    useEffect(() => {
        if (!ready) {
            setPages(null);
            return;
        }
        const abort = new AbortController();
        setError("");
        api.preview(f.id, abort.signal).then(
            (p) => setPages(p.pages ?? []),
            (e) => !abort.signal.aborted && setError(messageOf(e)),
        );
        return () => abort.abort();
    }, [key, ready, f.artifacts?.preview?.pages]);

    if (error) {
        return <div class="no-preview"><Icon name="alert" size={28} /><p>{error}</p></div>;
    }
    if (ready && pages === null) {
        return <div class="no-preview"><Spinner size={26} /></div>;
    }
    if (pages && pages.length > 0) {
        return <PagesView key={key} api={api} blobs={blobs} pages={pages} contentKey={key} citation={citation} onPage={onPage} />;
    }
    const live = pipeline?.state === "running" || pipeline?.state === "waiting";
    return (
        <div class="no-preview">
            {live ? <Spinner size={26} /> : <Icon name={pipeline?.state === "failed" ? "alert" : "file"} size={28} />}
            <p>{live ? `The preview is being drawn${pipeline.pagesTotal ? ` (${plural(pipeline.pagesTotal, "page")})` : ""}.` : pipelineSentence("preview", pipeline)}</p>
        </div>
    );
}

function DownloadButton({ api, file: f }: { api: Api; file: FileItem }) {
    const [busy, setBusy] = useState(false);
    const get = async () => {
        if (busy) {
            return;
        }
        setBusy(true);
        await download(api, api.contentPath(f.id), f.name, f.size);
        setBusy(false);
    };
    return (
        <button type="button" class="quiet" aria-disabled={busy} onClick={() => void get()}>
            {busy ? <Spinner size={16} /> : <Icon name="download" size={16} />} <span class="label">Download</span>
        </button>
    );
}
