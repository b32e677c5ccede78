// SPDX-License-Identifier: Apache-2.0
// Why: who is signed in, which dataset and file the address names, and the one event stream of the
// page. A key is kept in the tab's session storage, a sign-in in a cookie no script can read; what is
// refused always leads back to the form.
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Api, BASE, resumeSession, signInMethods } from "../lib/api";
import { BlobCache } from "../lib/blobs";
import { messageOf, Problem } from "../lib/problem";
import { EventLink, type LinkState, type SseMessage } from "../lib/sse";
import type { Dataset, Me, SignInMethods } from "../lib/types";
import { Account } from "./account";
import { DatasetForm } from "./dataset-form";
import { go, useRoute } from "./hooks";
import { Icon, Logo, Spinner } from "./icons";
import { Operations } from "./operations";
import { SignIn } from "./signin";
import { say, Toasts } from "./toasts";
import { Workspace } from "./workspace";

/** How long a tab may be out of sight before it gives its event stream back. */
const HIDDEN_MS = 60_000;

const KEY_NAME = "docfleet.key";

function storedKey(): string {
    try {
        return sessionStorage.getItem(KEY_NAME) ?? "";
    } catch {
        return "";
    }
}

function storeKey(key: string): void {
    try {
        if (key) {
            sessionStorage.setItem(KEY_NAME, key);
        } else {
            sessionStorage.removeItem(KEY_NAME);
        }
    } catch {
        // Storage may be switched off: the key then lives as long as the page.
    }
}

export function App() {
    const [api, setApi] = useState<Api | null>(() => (storedKey() ? new Api(storedKey()) : null));
    const [methods, setMethods] = useState<SignInMethods | null>(null);
    const [datasets, setDatasets] = useState<Dataset[] | null>(null);
    const [note, setNote] = useState("");
    const [error, setError] = useState("");

    // Without a key: is there a session from before?
    useEffect(() => {
        if (api || methods) {
            return;
        }
        signInMethods()
            .then(async (m) => {
                if (m.cookie) {
                    await resumeSession().then(setApi, () => {});
                }
                setMethods(m);
            })
            .catch(() => setMethods({ password: true, oidc: null, passwordMin: 12, cookie: false }));
    }, [api, methods]);

    const signOut = useCallback((why: string) => {
        storeKey("");
        setApi(null);
        setDatasets(null);
        setError("");
        setNote(why);
    }, []);

    useEffect(() => {
        if (!api) {
            return;
        }
        api.onUnauthorized = () => signOut(api.key ? "The key is no longer accepted. Sign in again." : "The sign-in has ended. Sign in again.");
        if (datasets) {
            return;
        }
        const abort = new AbortController();
        api.datasets(abort.signal).then(setDatasets, (e) => {
            if (!abort.signal.aborted && !(e instanceof Problem && e.status === 401)) {
                setError(messageOf(e));
            }
        });
        return () => abort.abort();
    }, [api, datasets, error]);

    let body;
    if (!api && !methods) {
        body = <main class="center"><Spinner size={26} /></main>;
    } else if (!api) {
        body = (
            <SignIn
                note={note}
                methods={methods}
                onSignIn={(a, list) => {
                    storeKey(a.key);
                    setNote("");
                    setDatasets(list);
                    setApi(a);
                }}
            />
        );
    } else if (!datasets) {
        body = (
            <main class="center">
                {error ? (
                    <>
                        <p class="error-text" role="alert">{error}</p>
                        <button type="button" onClick={() => setError("")}>Try again</button>
                        <button type="button" class="quiet" onClick={() => signOut("")}>Sign out</button>
                    </>
                ) : (
                    <Spinner size={26} />
                )}
            </main>
        );
    } else {
        body = <Home api={api} datasets={datasets} onDatasets={setDatasets} onSignOut={() => void leave(api, signOut)} />;
    }
    return (
        <>
            {body}
            <Toasts />
        </>
    );
}

/** Ends the session, here and where it began. */
async function leave(api: Api, signOut: (why: string) => void): Promise<void> {
    api.onUnauthorized = () => {};
    const url = await api.signOut().catch(() => null);
    if (url) {
        location.assign(url);
    } else {
        signOut("");
    }
}

function openStream(api: Api, lastId: string, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (lastId) {
        headers["Last-Event-ID"] = lastId;
    }
    return api.send(`${BASE}/events`, { headers, signal, cache: "no-store" });
}

export interface EventHub {
    onMessage: ((m: SseMessage) => void) | null;
    onGap: (() => void) | null;
}

function Home({
    api,
    datasets,
    onDatasets,
    onSignOut,
}: {
    api: Api;
    datasets: Dataset[];
    onDatasets: (d: Dataset[]) => void;
    onSignOut: () => void;
}) {
    const route = useRoute();
    const [link, setLink] = useState<LinkState>("connecting");
    const [making, setMaking] = useState(false);
    const [me, setMe] = useState<Me | null>(null);
    const operator = me?.scopes.includes("operate");
    const blobs = useMemo(() => new BlobCache(api), [api]);
    const hub = useRef<EventHub>({ onMessage: null, onGap: null });

    useEffect(() => {
        const events = new EventLink({
            open: (lastId, signal) => openStream(api, lastId, signal),
            onMessage: (m) => hub.current.onMessage?.(m),
            onLive: (resumed) => {
                if (!resumed) {
                    hub.current.onGap?.();
                }
            },
            onState: setLink,
            isFinal: (e) => e instanceof Problem && (e.status === 401 || e.status === 403),
        });
        events.start();
        const online = () => events.poke();
        let hiding: ReturnType<typeof setTimeout> | undefined;
        const seen = () => {
            clearTimeout(hiding);
            if (document.hidden) {
                hiding = setTimeout(() => events.hold(true), HIDDEN_MS);
            } else {
                events.hold(false);
            }
        };
        window.addEventListener("online", online);
        document.addEventListener("visibilitychange", seen);
        return () => {
            clearTimeout(hiding);
            window.removeEventListener("online", online);
            document.removeEventListener("visibilitychange", seen);
            events.stop();
            blobs.clear();
        };
    }, [api]);

    // Without the stream the page still moves on, only more slowly.
    useEffect(() => {
        if (link === "live") {
            return;
        }
        const t = setInterval(() => !document.hidden && hub.current.onGap?.(), 5000);
        return () => clearInterval(t);
    }, [link]);

    const current = datasets.find((d) => d.id === route.dataset);
    useEffect(() => {
        const first = datasets[0];
        if (!route.dataset && !route.operations && !route.account && first) {
            go({ dataset: first.id, file: "" }, true);
        }
    }, [route.dataset, route.operations, route.account, datasets]);

    useEffect(() => {
        const abort = new AbortController();
        api.me(abort.signal).then(
            setMe,
            () => {}, // an operator's button less; whatever is wrong shows elsewhere
        );
        return () => abort.abort();
    }, [api]);

    return (
        <div class="app">
            <header class="topbar">
                <a class="brand" href="#/" onClick={(e) => { e.preventDefault(); go({ dataset: current?.id ?? "", file: "" }); }}>
                    <Logo /> <span>docfleet</span>
                </a>
                {datasets.length > 0 && (
                    <label class="dataset-choice">
                        <span class="sr-only">Dataset</span>
                        <Icon name="table" size={16} />
                        <select
                            aria-label="Dataset"
                            value={current?.id ?? ""}
                            onChange={(e) => go({ dataset: e.currentTarget.value, file: "" })}
                        >
                            {!current && <option value="">{route.operations ? "Datasets" : "Choose a dataset"}</option>}
                            {datasets.map((d) => <option key={d.id} value={d.id}>{d.name}</option>)}
                        </select>
                    </label>
                )}
                <button type="button" class="quiet" onClick={() => setMaking(true)}>
                    <Icon name="plus" size={16} /> <span class="label">New dataset</span>
                </button>
                <span class="gap" />
                {operator && (
                    <button type="button" class="quiet" aria-pressed={route.operations === true} onClick={() => go({ dataset: "", file: "", operations: true })}>
                        <Icon name="gauge" size={16} /> <span class="label">Operations</span>
                    </button>
                )}
                <button type="button" class="quiet" aria-pressed={route.account === true} onClick={() => go({ dataset: "", file: "", account: true })}>
                    <Icon name="key" size={16} /> <span class="label">Account</span>
                </button>
                <LinkBadge state={link} />
                <button type="button" class="quiet" onClick={onSignOut}>
                    <Icon name="out" size={16} /> <span class="label">Sign out</span>
                </button>
            </header>
            {route.operations && me && operator ? (
                <Operations api={api} me={me} />
            ) : route.account ? (
                <Account api={api} onLeft={onSignOut} />
            ) : current ? (
                <Workspace key={current.id} api={api} blobs={blobs} dataset={current} fileId={route.file} hub={hub.current} />
            ) : (
                <main class="center">
                    <div class="welcome card">
                        <Icon name="table" size={32} />
                        <h1>{datasets.length === 0 ? "Make your first dataset" : "Choose a dataset"}</h1>
                        <p class="muted">
                            A dataset is a table with columns you name. Each document dropped into it becomes a row.
                        </p>
                        {route.dataset && datasets.length > 0 && (
                            <p class="notice" role="status">The dataset in the address does not exist, or it is not yours.</p>
                        )}
                        <button type="button" class="primary" onClick={() => setMaking(true)}>
                            <Icon name="plus" size={16} /> New dataset
                        </button>
                    </div>
                </main>
            )}
            {making && (
                <DatasetForm
                    api={api}
                    onClose={() => setMaking(false)}
                    onCreated={(d) => {
                        setMaking(false);
                        onDatasets([d, ...datasets.filter((x) => x.id !== d.id)]);
                        go({ dataset: d.id, file: "" });
                        say(`Dataset “${d.name}” created.`);
                    }}
                />
            )}
        </div>
    );
}

function LinkBadge({ state }: { state: LinkState }) {
    const text =
        state === "live"
            ? "Live"
            : state === "connecting"
              ? "Connecting…"
              : state === "waiting"
                ? "Reconnecting…"
                : "Not live";
    return (
        <span
            class={`link-badge ${state}`}
            role="status"
            title={state === "live" ? "Changes appear by themselves" : "Changes are looked up every few seconds"}
        >
            <span class="dot" aria-hidden="true" /> <span class="label">{text}</span>
        </span>
    );
}
