// SPDX-License-Identifier: Apache-2.0
// Why: one dataset: drop zone, counts that act as filters, search, the table, what can be done with
// the chosen rows, and the dialog of one file.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Api } from "../lib/api";
import type { BlobCache } from "../lib/blobs";
import { fromDrop, fromInput } from "../lib/drop";
import { about, count, plural, STAGE_LABEL, STATE_LABEL } from "../lib/format";
import { messageOf } from "../lib/problem";
import { countsOf, DatasetStore } from "../lib/store";
import { type Dataset, FILE_STATES, type FileItem, type Summary } from "../lib/types";
import { type NamedFile, Uploader } from "../lib/upload";
import type { EventHub } from "./app";
import { Confirm, type Question } from "./confirm";
import { download } from "./download";
import { FileDialog } from "./file-dialog";
import { go, useDebounced, useSubscription, useUpdate } from "./hooks";
import { Icon, Spinner } from "./icons";
import { canCancel, canRetry, FileTable, type RowActions } from "./table";
import { complain, say } from "./toasts";
import { UploadPanel } from "./upload-panel";

const AT_ONCE = 4;

/** Runs `act` for each id, a few at a time; returns how many failed and the first reason. */
async function forEachId(
    ids: readonly string[],
    act: (id: string) => Promise<unknown>,
): Promise<{ failed: number; reason: string }> {
    let next = 0;
    let failed = 0;
    let reason = "";
    const worker = async () => {
        for (let id = ids[next++]; id !== undefined; id = ids[next++]) {
            try {
                await act(id);
            } catch (e) {
                failed++;
                reason ||= messageOf(e);
            }
        }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    return { failed, reason };
}

/** Of this page's life: leaving a dataset neither ends its uploads nor forgets their report. */
const uploaders = new Map<string, Uploader>();

function uploaderOf(api: Api, datasetId: string): Uploader {
    const name = `${api.key || api.csrf} ${datasetId}`;
    const uploader = uploaders.get(name) ?? new Uploader(api, () => {}, () => {});
    uploaders.set(name, uploader);
    return uploader;
}

export function Workspace({
    api,
    blobs,
    dataset: listed,
    fileId,
    hub,
}: {
    api: Api;
    blobs: BlobCache;
    dataset: Dataset;
    fileId: string;
    hub: EventHub;
}) {
    const store = useMemo(() => new DatasetStore(api, listed), [api, listed.id]);
    useSubscription(store);
    const update = useUpdate();
    const uploader = useMemo(() => uploaderOf(api, listed.id), [api, listed.id]);
    useEffect(() => {
        uploader.attach(update, (_, accepted, rejected) => {
            store.touchTop();
            if (rejected > 0) {
                say(`${plural(rejected, "file")} refused. The upload report says why.`);
            } else if (accepted > 0) {
                say(`${plural(accepted, "file")} accepted.`);
            }
        });
        return () => uploader.attach(() => {}, () => {});
    }, [uploader, store]);
    const [dataset, setDataset] = useState(listed);
    const [state, setState] = useState("");
    const [search, setSearch] = useState("");
    const q = useDebounced(search.trim(), 250);
    const [selected, setSelected] = useState<Set<string>>(new Set());
    const [everything, setEverything] = useState(false);
    const [question, setQuestion] = useState<Question | null>(null);
    const searchBox = useRef<HTMLInputElement>(null);
    const columns = dataset.columns ?? [];

    useEffect(() => {
        store.open();
        hub.onMessage = (m) => store.onMessage(m);
        hub.onGap = () => store.resync();
        const places = setInterval(() => !document.hidden && store.refreshWaiting(), 5000);
        if (!listed.columns) {
            api.dataset(listed.id).then(setDataset, (e) => complain(messageOf(e)));
        }
        return () => {
            clearInterval(places);
            hub.onMessage = null;
            hub.onGap = null;
            store.close();
        };
    }, [store]);

    useEffect(() => {
        if (store.filter.state !== state || store.filter.q !== q) {
            setSelected(new Set());
            setEverything(false);
            store.setFilter({ state, q });
        }
    }, [state, q]);

    useEffect(() => {
        const leave = (e: BeforeUnloadEvent) => {
            if (uploader.view().active) {
                e.preventDefault();
            }
        };
        const slash = (e: KeyboardEvent) => {
            const t = e.target;
            const typing = t instanceof HTMLInputElement || t instanceof HTMLSelectElement || t instanceof HTMLTextAreaElement;
            if (e.key === "/" && !typing && !document.querySelector("dialog[open]")) {
                e.preventDefault();
                searchBox.current?.focus();
            }
        };
        window.addEventListener("beforeunload", leave);
        window.addEventListener("keydown", slash);
        return () => {
            window.removeEventListener("beforeunload", leave);
            window.removeEventListener("keydown", slash);
        };
    }, [uploader]);

    const addFiles = (files: NamedFile[]) => {
        if (files.length > 0) {
            uploader.add(dataset.id, files);
        }
    };

    const report = (what: string, n: number, r: { failed: number; reason: string }) => {
        if (n > r.failed) {
            say(`${plural(n - r.failed, "file")} ${what}.`);
        }
        if (r.failed > 0) {
            complain(`${plural(r.failed, "file")} could not be ${what}. ${r.reason}`);
        }
    };

    const filterBody = (): Record<string, unknown> => {
        const f: Record<string, unknown> = {};
        if (state) {
            f["state"] = state;
        }
        if (q) {
            f["q"] = q;
        }
        return f;
    };

    const restart = async (id: string) => {
        const known = store.watched?.id === id ? store.watched : store.list.byId.get(id);
        await api.restart(known ?? (await api.file(id)));
    };

    const removeNow = async (ids: string[]) => {
        try {
            await api.remove(dataset.id, ids);
            store.dropRows(ids);
            setSelected((s) => new Set([...s].filter((id) => !ids.includes(id))));
            if (fileId && ids.includes(fileId)) {
                go({ dataset: dataset.id, file: "" });
            }
            say(`${plural(ids.length, "file")} removed.`);
        } catch (e) {
            complain(`Nothing was removed. ${messageOf(e)}`);
            store.resync();
        }
    };

    const removeEverything = async () => {
        try {
            const n = await api.removeMatching(dataset.id, filterBody());
            say(`${plural(n, "file")} removed.`);
        } catch (e) {
            complain(messageOf(e));
        }
        setSelected(new Set());
        setEverything(false);
        void store.reload();
    };

    const retryEverything = async () => {
        try {
            await api.retryMatching(dataset.id, filterBody());
            say("The files were sent to work again.");
        } catch (e) {
            complain(messageOf(e));
        }
        setSelected(new Set());
        setEverything(false);
        store.resync();
    };

    const actions: RowActions = {
        open: (f) => go({ dataset: dataset.id, file: f.id }),
        retry: async (ids) => {
            report("sent to work again", ids.length, await forEachId(ids, restart));
            store.touch(ids);
        },
        cancel: async (ids) => {
            report("cancelled", ids.length, await forEachId(ids, (id) => api.cancel(id)));
            store.touch(ids);
        },
        remove: (ids) => {
            const one = ids.length === 1 ? store.list.byId.get(ids[0] ?? "")?.name : undefined;
            setQuestion({
                title: one ? `Remove “${one}”?` : `Remove ${plural(ids.length, "file")}?`,
                text: "The original, its text, its preview and its record are deleted. This cannot be undone.",
                yes: ids.length === 1 ? "Remove file" : `Remove ${plural(ids.length, "file")}`,
                act: () => void removeNow(ids),
            });
        },
    };

    const counts = countsOf(store.summary);
    const matching = state ? (counts.byState[state] ?? 0) : counts.total;
    const chosen = [...selected].map((id) => store.list.byId.get(id)).filter((f): f is FileItem => f !== undefined);
    const retryable = chosen.filter(canRetry).map((f) => f.id);
    const cancellable = chosen.filter(canCancel).map((f) => f.id);
    const empty = !store.loading && !store.error && store.list.size === 0;

    return (
        <main class="workspace">
            <h1 class="sr-only">{dataset.name}</h1>
            <DropZone onFiles={addFiles} compact={!empty || Boolean(state || q)} name={dataset.name} />
            <UploadPanel api={api} uploader={uploader} />
            <div class="toolbar">
                <StateFilter counts={counts} state={state} onState={setState} />
                <span class="gap" />
                {(counts.byState["done"] ?? 0) > 0 && (
                    <button
                        type="button"
                        class="quiet"
                        title="All records of this dataset as comma-separated values"
                        onClick={() => void download(api, api.csvPath(dataset.id), `${dataset.name}.csv`, 0)}
                    >
                        <Icon name="download" size={16} /> CSV
                    </button>
                )}
                <div class="field-with-icon search">
                    <Icon name="search" size={16} />
                    <input
                        ref={searchBox}
                        type="search"
                        aria-label="Search by file name"
                        placeholder="Search names  ( / )"
                        value={search}
                        onInput={(e) => setSearch(e.currentTarget.value)}
                    />
                </div>
            </div>
            <StageStrip summary={store.summary} />
            {chosen.length > 0 && (
                <div class="selection" role="toolbar" aria-label="Selected files">
                    <b>{everything ? `All ${count(matching)} files selected` : `${plural(chosen.length, "file")} selected`}</b>
                    {!everything && !q && store.list.nextCursor !== null && selected.size === store.list.size && matching > selected.size && (
                        <button type="button" class="link" onClick={() => setEverything(true)}>
                            Select all {count(matching)}
                        </button>
                    )}
                    <span class="gap" />
                    {everything && state === "failed" && (
                        <button type="button" class="quiet" onClick={() => void retryEverything()}>
                            <Icon name="retry" size={16} /> Retry
                        </button>
                    )}
                    {!everything && (
                        <>
                            <button type="button" class="quiet" disabled={retryable.length === 0} onClick={() => actions.retry(retryable)}>
                                <Icon name="retry" size={16} /> Retry
                            </button>
                            <button type="button" class="quiet" disabled={cancellable.length === 0} onClick={() => actions.cancel(cancellable)}>
                                <Icon name="stop" size={16} /> Cancel
                            </button>
                        </>
                    )}
                    <button
                        type="button"
                        class="quiet danger-text"
                        onClick={() =>
                            everything
                                ? setQuestion({
                                      title: `Remove all ${count(matching)} files?`,
                                      text: "Originals, text, previews and records are deleted. This cannot be undone.",
                                      yes: `Remove ${count(matching)} files`,
                                      act: () => void removeEverything(),
                                  })
                                : actions.remove(chosen.map((f) => f.id))
                        }
                    >
                        <Icon name="trash" size={16} /> Remove
                    </button>
                    <button type="button" class="icon-button" aria-label="Clear selection" onClick={() => { setSelected(new Set()); setEverything(false); }}>
                        <Icon name="close" size={16} />
                    </button>
                </div>
            )}
            {store.error && (
                <div class="notice bad" role="alert">
                    <Icon name="alert" size={16} /> <span>{store.error}</span>
                    <button type="button" class="quiet" onClick={() => void store.reload()}>Try again</button>
                </div>
            )}
            {empty ? (
                <div class="empty">
                    {state || q ? (
                        <>
                            <p>No file matches.</p>
                            <button type="button" onClick={() => { setState(""); setSearch(""); }}>Show all files</button>
                        </>
                    ) : (
                        <p class="muted">
                            {columns.length > 0
                                ? `Each document becomes a row with ${columns.map((c) => c.name).slice(0, 6).join(", ")}${columns.length > 6 ? " …" : "."}`
                                : "This dataset has no columns: documents get text, preview and thumbnail only."}
                        </p>
                    )}
                </div>
            ) : store.loading && store.list.size === 0 ? (
                <div class="empty"><Spinner size={26} /></div>
            ) : (
                <FileTable
                    api={api}
                    blobs={blobs}
                    store={store}
                    columns={columns}
                    selected={selected}
                    onSelect={(s) => { setSelected(s); setEverything(false); }}
                    actions={actions}
                />
            )}
            {fileId && (
                <FileDialog
                    api={api}
                    blobs={blobs}
                    store={store}
                    fileId={fileId}
                    columns={columns}
                    actions={actions}
                    onClose={() => go({ dataset: dataset.id, file: "" })}
                    onGo={(id) => go({ dataset: dataset.id, file: id }, true)}
                />
            )}
            {question && <Confirm question={question} onClose={() => setQuestion(null)} />}
        </main>
    );
}

function StateFilter({
    counts,
    state,
    onState,
}: {
    counts: { total: number; byState: Record<string, number> };
    state: string;
    onState: (s: string) => void;
}) {
    const always = ["processing", "done", "failed"];
    const shown = FILE_STATES.filter((s) => always.includes(s) || s === state || (counts.byState[s] ?? 0) > 0);
    const chip = (id: string, label: string, n: number) => (
        <button key={id} type="button" class={`chip ${id || "all"}`} aria-pressed={state === id} onClick={() => onState(id)}>
            {id && <span class="dot" aria-hidden="true" />}
            {label} <b>{count(n)}</b>
        </button>
    );
    return (
        <div class="chips" role="group" aria-label="Filter by state">
            {chip("", "All", counts.total)}
            {shown.map((s) => chip(s, STATE_LABEL[s], counts.byState[s] ?? 0))}
        </div>
    );
}

/** What the fleet is doing for this dataset right now; nothing when it rests. */
function StageStrip({ summary }: { summary: Summary | null }) {
    const parts: string[] = [];
    for (const [stage, n] of Object.entries(summary?.stages ?? {})) {
        const running = n["running"] ?? 0;
        const waiting = n["pending"] ?? 0;
        const outside = n["waiting"] ?? 0;
        if (running + waiting + outside > 0) {
            const bits = [
                running > 0 ? `${count(running)} running` : "",
                outside > 0 ? `${count(outside)} at a provider` : "",
                waiting > 0 ? `${count(waiting)} waiting` : "",
            ];
            parts.push(`${STAGE_LABEL[stage] ?? stage}: ${bits.filter(Boolean).join(", ")}`);
        }
    }
    const eta = about(summary?.etaSeconds);
    if (parts.length > 0 && eta) {
        parts.push(`all done in ${eta}`);
    }
    return parts.length > 0 ? <p class="stage-strip">{parts.map((p) => <span key={p}>{p}</span>)}</p> : null;
}

function DropZone({ onFiles, compact, name }: { onFiles: (f: NamedFile[]) => void; compact: boolean; name: string }) {
    const [over, setOver] = useState(false);
    const files = useRef<HTMLInputElement>(null);
    const folder = useRef<HTMLInputElement>(null);
    const latest = useRef(onFiles);
    latest.current = onFiles;

    useEffect(() => {
        let depth = 0;
        const has = (e: DragEvent) => e.dataTransfer?.types.includes("Files") ?? false;
        const enter = (e: DragEvent) => {
            if (has(e)) {
                e.preventDefault();
                depth++;
                setOver(true);
            }
        };
        const leave = (e: DragEvent) => {
            if (has(e) && --depth <= 0) {
                depth = 0;
                setOver(false);
            }
        };
        const hover = (e: DragEvent) => {
            if (has(e)) {
                e.preventDefault();
            }
        };
        const drop = (e: DragEvent) => {
            depth = 0;
            setOver(false);
            if (!has(e) || !e.dataTransfer) {
                return;
            }
            e.preventDefault();
            void fromDrop(e.dataTransfer).then(({ files: found, skipped }) => {
                if (skipped.length > 0) {
                    complain(`${plural(skipped.length, "item")} could not be read, among them ${skipped[0]}.`);
                }
                latest.current(found);
            });
        };
        window.addEventListener("dragenter", enter);
        window.addEventListener("dragleave", leave);
        window.addEventListener("dragover", hover);
        window.addEventListener("drop", drop);
        folder.current?.setAttribute("webkitdirectory", "");
        return () => {
            window.removeEventListener("dragenter", enter);
            window.removeEventListener("dragleave", leave);
            window.removeEventListener("dragover", hover);
            window.removeEventListener("drop", drop);
        };
    }, []);

    const take = (e: Event & { currentTarget: HTMLInputElement }) => {
        onFiles(fromInput(e.currentTarget.files));
        e.currentTarget.value = "";
    };

    return (
        <section class={compact ? "drop compact" : "drop"} aria-label="Add files">
            <div class="drop-text">
                <Icon name="upload" size={compact ? 20 : 34} />
                <p>
                    <b>Drop files or folders here</b>
                    <span class="muted"> to add them to “{name}”</span>
                </p>
            </div>
            <div class="drop-buttons">
                <button type="button" class="primary" onClick={() => files.current?.click()}>
                    <Icon name="file" size={16} /> Choose files
                </button>
                <button type="button" onClick={() => folder.current?.click()}>
                    <Icon name="folder" size={16} /> Choose a folder
                </button>
            </div>
            <input ref={files} class="sr-only" id="file-input" type="file" multiple tabIndex={-1} aria-hidden="true" onChange={take} />
            <input ref={folder} class="sr-only" id="folder-input" type="file" multiple tabIndex={-1} aria-hidden="true" onChange={take} />
            {over && (
                <div class="drop-over" aria-hidden="true">
                    <div><Icon name="upload" size={44} /><p>Drop to add to “{name}”</p></div>
                </div>
            )}
        </section>
    );
}
