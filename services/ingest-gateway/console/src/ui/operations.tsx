// SPDX-License-Identifier: Apache-2.0
// Why: the operator's page: how the stages do, what was given up and why, and the buttons that help.
// Whatever changes letters asks the gateway for a dry run first and shows what it would do.
import { useCallback, useEffect, useState } from "preact/hooks";
import type { Api } from "../lib/api";
import { bytes, count, plural, STAGE_LABEL, time } from "../lib/format";
import { messageOf } from "../lib/problem";
import type { DeadLetter, LetterAnswer, LetterGroup, Me, StageInfo } from "../lib/types";
import { useModal } from "./hooks";
import { Icon, Spinner } from "./icons";
import { Imports } from "./imports";
import { OpsTable, Tag } from "./ops-table";
import { actor, say } from "./toasts";
import { Users } from "./users";

const ASK_MS = 3000;

type Filter = Record<string, string>;

export function Operations({ api, me }: { api: Api; me: Me }) {
    const [stages, setStages] = useState<StageInfo[] | null>(null);
    const [groups, setGroups] = useState<LetterGroup[] | null>(null);
    const [error, setError] = useState("");
    const [chosen, setChosen] = useState<LetterGroup | null>(null);
    const [version, setVersion] = useState(0);

    const load = useCallback(
        async (signal?: AbortSignal) => {
            try {
                const [s, g] = await Promise.all([api.stages(signal), api.letterGroups(signal)]);
                setStages(s);
                setGroups(g);
                setError("");
            } catch (e) {
                if (!signal?.aborted) {
                    setError(messageOf(e));
                }
            }
        },
        [api],
    );

    useEffect(() => {
        const abort = new AbortController();
        void load(abort.signal);
        const t = setInterval(() => !document.hidden && void load(abort.signal), ASK_MS);
        return () => {
            clearInterval(t);
            abort.abort();
        };
    }, [load]);

    const pause = (s: StageInfo) =>
        actor(load)(
            () => api.setPaused(s.stage, !s.paused),
            s.paused ? `${label(s.stage)} goes on.` : `${label(s.stage)} is paused; what runs comes to its end.`,
        );

    const total = (groups ?? []).reduce((n, g) => n + g.letters, 0);
    return (
        <main class="ops">
            <h1>Operations</h1>
            {error && <p class="notice bad" role="alert"><Icon name="alert" size={16} /> {error}</p>}
            <section class="card ops-card" aria-labelledby="ops-stages">
                <h2 id="ops-stages">Stages</h2>
                {stages ? <Stages stages={stages} onPause={(s) => void pause(s)} /> : <Spinner />}
            </section>
            <section class="card ops-card" aria-labelledby="ops-letters">
                <header class="ops-head">
                    <h2 id="ops-letters">Given up</h2>
                    <span class="muted">{groups && (total === 0 ? "nothing" : plural(total, "unit"))}</span>
                </header>
                {!groups && <Spinner />}
                {groups && total === 0 && (
                    <p class="ops-empty"><Icon name="check" size={18} /> No work was given up. Files that fail for a reason of their own show up here, too.</p>
                )}
                {groups && total > 0 && (
                    <div class="ops-letters">
                        <ul class="group-list">
                            {groups.map((g) => (
                                <li key={`${g.stage} ${g.reason} ${g.class}`}>
                                    <button type="button" class="group" aria-pressed={same(g, chosen)} onClick={() => setChosen(same(g, chosen) ? null : g)}>
                                        <span class="group-count">{count(g.letters)}</span>
                                        <span class="group-text">
                                            <b>{capital(g.explanation)}</b>
                                            <span class="muted small-text">{label(g.stage)} · {g.reason} · {g.class}</span>
                                        </span>
                                    </button>
                                </li>
                            ))}
                        </ul>
                        <Letters
                            key={`${chosen ? `${chosen.stage} ${chosen.reason} ${chosen.class}` : "all"} ${version}`}
                            api={api}
                            group={chosen}
                            onChanged={() => {
                                setVersion((v) => v + 1);
                                void load();
                            }}
                        />
                    </div>
                )}
            </section>
            <Imports api={api} />
            {me.scopes.includes("admin") && <Users api={api} me={me} />}
        </main>
    );
}

function same(a: LetterGroup, b: LetterGroup | null): boolean {
    return b !== null && a.stage === b.stage && a.reason === b.reason && a.class === b.class;
}

function label(stage: string): string {
    return STAGE_LABEL[stage] ?? stage;
}

function capital(s: string): string {
    return s.slice(0, 1).toUpperCase() + s.slice(1);
}

function known(n: number | null | undefined, digits = 0): string {
    return n === null || n === undefined ? "–" : digits > 0 ? n.toFixed(digits) : count(n);
}

function age(seconds: number | null | undefined): string {
    if (seconds === null || seconds === undefined) {
        return "–";
    }
    return seconds < 120 ? `${count(seconds)} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

function Stages({ stages, onPause }: { stages: StageInfo[]; onPause: (s: StageInfo) => void }) {
    return (
        <OpsTable columns={["Stage", "State", { num: "Waiting" }, { num: "Out" }, { num: "Oldest" }, { num: "Per second" }, { num: "Busy slots" }, { num: "Workers" }, { num: "Given up" }]} action="Action">
            {stages.map((s) => (
                <tr key={s.stage}>
                    <th scope="row">{label(s.stage)}</th>
                    <td><StageState stage={s} /></td>
                    <td class="num">{known(s.waiting)}</td>
                    <td class="num">{known(s.out)}{s.credit ? <span class="muted"> / {count(s.credit)}</span> : null}</td>
                    <td class="num">{age(s.oldestSeconds)}</td>
                    <td class="num">{known(s.ratePerSecond, 1)}</td>
                    <td class="num">{count(s.workers.busy)}<span class="muted"> / {count(s.workers.slots)}</span></td>
                    <td class="num">{count(s.workers.live)}</td>
                    <td class="num">{s.deadLetters > 0 ? <b class="error-text">{count(s.deadLetters)}</b> : "0"}</td>
                    <td class="num">
                        <button type="button" onClick={() => onPause(s)} aria-label={`${s.paused ? "Resume" : "Pause"} ${label(s.stage)}`}>
                            {s.paused ? "Resume" : "Pause"}
                        </button>
                    </td>
                </tr>
            ))}
        </OpsTable>
    );
}

function StageState({ stage: s }: { stage: StageInfo }) {
    const [tone, text] = s.paused
        ? ["warn", s.pauseHolds ? "paused" : "pausing"]
        : s.workers.live === 0
          ? [s.depth > 0 ? "bad" : "idle", "no worker"]
          : s.workers.breakersOpen > 0
            ? ["bad", "breaker open"]
            : s.workers.busy > 0 || (s.waiting ?? 0) > 0
              ? ["busy", "at work"]
              : ["good", "idle"];
    return <Tag tone={tone} text={text} />;
}

function Letters({ api, group, onChanged }: { api: Api; group: LetterGroup | null; onChanged: () => void }) {
    const [items, setItems] = useState<DeadLetter[] | null>(null);
    const [cursor, setCursor] = useState<string | null>(null);
    const [error, setError] = useState("");
    const [open, setOpen] = useState("");
    const [ask, setAsk] = useState<{ verb: "replay" | "discard"; filter: Filter } | null>(null);
    const filter: Filter = group ? { stage: group.stage, reason: group.reason, class: group.class } : {};

    const load = async (from: string | null, signal?: AbortSignal) => {
        try {
            const page = await api.letters(filter, from, signal);
            setItems((old) => (from ? [...(old ?? []), ...page.items] : page.items));
            setCursor(page.nextCursor ?? null);
        } catch (e) {
            if (!signal?.aborted) {
                setError(messageOf(e));
            }
        }
    };
    useEffect(() => {
        const abort = new AbortController();
        void load(null, abort.signal);
        return () => abort.abort();
    }, []);

    return (
        <div class="letter-side">
            <div class="letter-head">
                <div>
                    <h3>{group ? capital(group.explanation) : "All of them"}</h3>
                    {group && <p class="muted small-text">What helps: {group.advice}.</p>}
                </div>
                <span class="gap" />
                <button type="button" onClick={() => setAsk({ verb: "discard", filter })}><Icon name="close" size={16} /> Discard…</button>
                <button type="button" class="primary" onClick={() => setAsk({ verb: "replay", filter })}><Icon name="retry" size={16} /> Replay…</button>
            </div>
            {error && <p class="notice bad" role="alert">{error}</p>}
            {!items && !error && <Spinner />}
            <ul class="letter-list">
                {(items ?? []).map((d) => (
                    <li key={d.id} class="letter">
                        <button type="button" class="letter-line" aria-expanded={open === d.id} onClick={() => setOpen(open === d.id ? "" : d.id)}>
                            <span class="letter-name">{d.fileName ?? "removed file"}</span>
                            <span class="muted small-text">
                                {label(d.stage)}{d.unit > 0 && `, part ${d.unit}`} · {plural(d.attempts, "attempt")} · {time(d.lastAt)}
                            </span>
                            <span class="letter-error">{d.lastError}</span>
                        </button>
                        {open === d.id && (
                            <Evidence letter={d} onAsk={(verb) => setAsk({ verb, filter: { id: d.id } })} />
                        )}
                    </li>
                ))}
            </ul>
            {cursor && <button type="button" class="quiet" onClick={() => void load(cursor)}>Show more</button>}
            {ask && (
                <Change
                    api={api}
                    verb={ask.verb}
                    filter={ask.filter}
                    onClose={() => setAsk(null)}
                    onDone={() => {
                        setAsk(null);
                        onChanged();
                    }}
                />
            )}
        </div>
    );
}

function Evidence({ letter: d, onAsk }: { letter: DeadLetter; onAsk: (verb: "replay" | "discard") => void }) {
    const input = d.evidence?.input;
    const child = d.child ?? {};
    const rows: [string, string][] = [
        ["Counted", `${plural(d.attempts, "attempt")}, ${plural(d.failures, "failure")}, ${plural(d.crashes, "lost worker")}, ${plural(d.outageRetries, "outage")}`],
        ["First, last", `${time(d.firstAt)} – ${time(d.lastAt)}`],
        ["Child", Object.entries(child).map(([k, v]) => (k === "maxRss" ? `largest memory ${bytes(Number(v))}` : `${k} ${String(v)}`)).join(", ")],
        ["Input", input?.key ? `${input.key} (${bytes(input.bytes)}, ${input.kind ?? "?"}, version ${input.version ?? 1})` : ""],
        ["ETag", input?.etag ?? ""],
        ["Worker", d.evidence?.worker ?? ""],
        ["Program", d.evidence?.codeVersion ?? ""],
        ["Trace", d.evidence?.trace ?? ""],
        ["Replay of", d.replayOf ?? ""],
        ["File", `${d.fileId}, generation ${d.generation}`],
        ["User", d.userId ?? ""],
        ["Letter", d.id],
    ];
    return (
        <div class="evidence">
            <p>{capital(d.explanation)}. <span class="muted">What helps: {d.advice}.</span></p>
            <dl>
                {rows.filter(([, v]) => v !== "").map(([k, v]) => (
                    <div key={k}><dt>{k}</dt><dd class="mono">{v}</dd></div>
                ))}
            </dl>
            <div class="evidence-foot">
                <button type="button" disabled={!d.replayable} title={d.replayable ? "" : "Removed, or run again since"} onClick={() => onAsk("replay")}>
                    <Icon name="retry" size={16} /> Replay this one…
                </button>
                <button type="button" class="quiet danger-text" onClick={() => onAsk("discard")}>Discard this one…</button>
            </div>
        </div>
    );
}

/** First what would happen, then the button that does it. */
function Change({ api, verb, filter, onClose, onDone }: { api: Api; verb: "replay" | "discard"; filter: Filter; onClose: () => void; onDone: () => void }) {
    const ref = useModal(onClose);
    const [dry, setDry] = useState<LetterAnswer | null>(null);
    const [done, setDone] = useState(0);
    const [busy, setBusy] = useState(false);
    const [error, setError] = useState("");
    useEffect(() => {
        api.changeLetters(verb, filter, true).then(setDry, (e) => setError(messageOf(e)));
    }, []);
    const n = verb === "replay" ? (dry?.replayable ?? 0) : (dry?.matched ?? 0);

    const act = async () => {
        setBusy(true);
        let sum = 0;
        try {
            for (let more = true; more; ) {
                const answer = await api.changeLetters(verb, filter, false);
                sum += answer.replayed ?? answer.discarded ?? 0;
                setDone(sum);
                more = answer.more;
            }
            say(verb === "replay" ? `${plural(sum, "unit")} went back to work.` : `${plural(sum, "letter")} closed.`);
            onDone();
        } catch (e) {
            setError(messageOf(e));
            setBusy(false);
        }
    };

    return (
        <dialog ref={ref} class="modal confirm-modal change-modal" aria-labelledby="change-title">
            <div class="modal-body">
                <h2 id="change-title">{verb === "replay" ? "Send back to work" : "Close for good"}</h2>
                {error && <p class="notice bad" role="alert">{error}</p>}
                {!dry && !error && <p><Spinner /> Looking at what would happen…</p>}
                {dry && (
                    <>
                        <p>
                            {verb === "replay"
                                ? `${plural(n, "unit")} of ${count(dry.matched)} would go back to work, behind what people are waiting for, with fresh counters.`
                                : `${plural(n, "letter")} would be closed. Their files stay failed.`}
                            {verb === "replay" && n < dry.matched && " The others belong to files that were removed or run again since."}
                        </p>
                        <ul class="change-groups">
                            {(dry.groups ?? []).slice(0, 6).map((g) => (
                                <li key={`${g.stage} ${g.reason}`}><b>{count(verb === "replay" ? g.replayable : g.letters)}</b> {label(g.stage)}: {g.explanation}</li>
                            ))}
                        </ul>
                        {(dry.examples ?? []).length > 0 && (
                            <p class="hint">For example {(dry.examples ?? []).slice(0, 3).map((e) => e.fileName ?? "a removed file").join(", ")}</p>
                        )}
                    </>
                )}
            </div>
            <footer class="modal-foot">
                <button type="button" autofocus onClick={onClose}>Leave as it is</button>
                <button type="button" class={verb === "replay" ? "primary" : "danger"} disabled={!dry || n === 0 || busy} onClick={() => void act()}>
                    {busy ? <><Spinner /> {count(done)}</> : verb === "replay" ? `Replay ${count(n)}` : `Discard ${count(n)}`}
                </button>
            </footer>
        </dialog>
    );
}
