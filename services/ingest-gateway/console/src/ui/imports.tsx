// SPDX-License-Identifier: Apache-2.0
// Why: the operator's view of scheduled imports: how each one does, its runs, and the three things that
// are done by hand: a run now, the schedule's pause, an earlier version.
import { Fragment } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import type { Api } from "../lib/api";
import { count, plural, time } from "../lib/format";
import { messageOf } from "../lib/problem";
import type { ImportInfo, ImportRun } from "../lib/types";
import { Spinner } from "./icons";
import { OpsTable, Tag } from "./ops-table";
import { actor } from "./toasts";

const ASK_MS = 5000;
const HEALTH: Record<ImportInfo["health"], [tone: string, text: string]> = {
    new: ["idle", "no run yet"],
    ok: ["good", "well"],
    failing: ["bad", "last run failed"],
};

export function Imports({ api }: { api: Api }) {
    const [imports, setImports] = useState<ImportInfo[] | null>(null);
    const [open, setOpen] = useState("");
    const [error, setError] = useState("");

    const load = useCallback(async () => {
        try {
            setImports(await api.imports());
            setError("");
        } catch (e) {
            setError(messageOf(e));
        }
    }, [api]);
    useEffect(() => {
        void load();
        const t = setInterval(() => !document.hidden && void load(), ASK_MS);
        return () => clearInterval(t);
    }, [load]);

    const act = actor(load);

    return (
        <section class="card ops-card" aria-labelledby="ops-imports">
            <header class="ops-head">
                <h2 id="ops-imports">Imports</h2>
                <span class="muted">{imports && (imports.length === 0 ? "none" : plural(imports.length, "import"))}</span>
            </header>
            {error && <p class="error-text" role="alert">{error}</p>}
            {!imports && !error && <Spinner />}
            {imports && imports.length === 0 && <p class="ops-empty">docfleetctl import create reads the objects under a prefix into a dataset.</p>}
            {imports && imports.length > 0 && (
                <OpsTable columns={["Import", "State", "From", "Schedule", "Next", "Last success", { num: "Version" }]} action="Actions">
                    {imports.map((i) => (
                        <Fragment key={i.id}>
                            <tr data-import={i.id}>
                                <th scope="row">{i.name}</th>
                                <td><ImportState info={i} /></td>
                                <td>{i.source ? `${i.source}: ` : ""}{i.prefix || "all"}</td>
                                <td>{i.schedule ? `${i.schedule.cron} (${i.schedule.timeZone})` : "by hand"}</td>
                                <td>{i.enabled && i.nextAt ? time(i.nextAt) : "–"}</td>
                                <td>{i.lastSuccessAt ? time(i.lastSuccessAt) : "–"}</td>
                                <td class="num">{i.published ? count(i.published.no) : "–"}</td>
                                <td>
                                    <div class="ops-buttons">
                                        <button type="button" aria-label={`Run ${i.name} now`} onClick={() => void act(() => api.runImport(i.id), `A run of ${i.name} is asked for.`)}>Run now</button>
                                        <button
                                            type="button"
                                            aria-label={`${i.enabled ? "Pause" : "Resume"} ${i.name}`}
                                            onClick={() => void act(() => api.setImportEnabled(i.id, !i.enabled), i.enabled ? `${i.name} runs no longer by schedule.` : `${i.name} runs by schedule again.`)}
                                        >
                                            {i.enabled ? "Pause" : "Resume"}
                                        </button>
                                        <button type="button" aria-expanded={open === i.id} aria-label={`Runs of ${i.name}`} onClick={() => setOpen(open === i.id ? "" : i.id)}>Runs</button>
                                    </div>
                                </td>
                            </tr>
                            {open === i.id && (
                                <tr>
                                    <td colSpan={8}>
                                        <Runs
                                            api={api}
                                            info={i}
                                            onShow={(run) => void act(() => api.rollBackImport(i.id, run.id), `Version ${run.no} is shown; the schedule is paused.`)}
                                        />
                                    </td>
                                </tr>
                            )}
                        </Fragment>
                    ))}
                </OpsTable>
            )}
        </section>
    );
}

function ImportState({ info: i }: { info: ImportInfo }) {
    const [tone, text] = i.enabled ? HEALTH[i.health] : (["warn", "paused"] as const);
    return <Tag tone={tone} text={text} />;
}

function Runs({ api, info, onShow }: { api: Api; info: ImportInfo; onShow: (run: ImportRun) => void }) {
    const [runs, setRuns] = useState<ImportRun[] | null>(null);
    const [error, setError] = useState("");

    // The list is asked for again with each look at the import it belongs to.
    useEffect(() => {
        let gone = false;
        api.importRuns(info.id).then(
            (r) => !gone && setRuns(r),
            (e) => !gone && setError(messageOf(e)),
        );
        return () => {
            gone = true;
        };
    }, [api, info]);

    if (error) {
        return <p class="error-text" role="alert">{error}</p>;
    }
    if (!runs) {
        return <Spinner />;
    }
    return runs.length === 0 ? (
        <p class="muted">There was no run yet.</p>
    ) : (
        <ul class="runs" aria-label={`Runs of ${info.name}`}>
            {runs.map((r) => (
                <li key={r.id} data-run={r.no}>
                    <b>{count(r.no)}</b>
                    <span class={r.state === "failed" ? "error-text" : ""}>
                        {r.state}
                        {r.current ? ", shown" : ""}
                        {r.error ? `: ${r.error.detail ?? r.error.code}` : ""}
                    </span>
                    <span class="muted">{time(r.endedAt ?? r.startedAt ?? r.queuedAt)}</span>
                    <span class="muted">{summary(r.counts)}</span>
                    {r.kept && !r.current && <button type="button" aria-label={`Show version ${r.no} of ${info.name}`} onClick={() => onShow(r)}>Show this version</button>}
                </li>
            ))}
        </ul>
    );
}

/** What a run came to, without the counts that are 0. */
function summary(counts: Record<string, number>): string {
    return Object.entries(counts)
        .filter(([, n]) => n > 0)
        .map(([name, n]) => `${count(n)} ${name}`)
        .join(", ");
}
