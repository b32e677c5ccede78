// SPDX-License-Identifier: Apache-2.0
// Why: what one may do with one's own account: the password, where one is signed in, the keys. A new
// key is shown once, and only here.
import { useCallback, useEffect, useState } from "preact/hooks";
import { type Api, BASE } from "../lib/api";
import { messageOf } from "../lib/problem";
import { bytes, count } from "../lib/format";
import type { KeyInfo, Me, SessionInfo, Usage, Used } from "../lib/types";
import { Spinner } from "./icons";
import { actor, complain, say } from "./toasts";

const day = (t: string | null) => (t ? t.slice(0, 16).replace("T", " ") : "never");

export function Account({ api, onLeft }: { api: Api; onLeft: () => void }) {
    const [me, setMe] = useState<Me | null>(null);
    const [sessions, setSessions] = useState<SessionInfo[]>([]);
    const [keys, setKeys] = useState<KeyInfo[]>([]);
    const [usage, setUsage] = useState<Usage | null>(null);
    const [error, setError] = useState("");

    const load = useCallback(async () => {
        try {
            setMe(await api.me());
            setSessions(await api.sessions());
            setKeys(await api.keys());
            setUsage(await api.usage());
        } catch (e) {
            setError(messageOf(e));
        }
    }, [api]);
    useEffect(() => void load(), [load]);

    const act = actor(load);

    if (!me) {
        return (
            <main class="center">
                {error ? <p class="error-text" role="alert">{error}</p> : <Spinner size={26} />}
            </main>
        );
    }
    return (
        <main class="account">
            <h1>{me.name}</h1>
            <p class="muted">Role {me.role}, may {me.scopes.join(", ")}.</p>
            {usage && <UsageTable usage={usage} />}
            {me.credential === "session" && <PasswordForm api={api} />}
            <section class="card" aria-labelledby="sessions-title">
                <h2 id="sessions-title">Signed in</h2>
                <table>
                    <thead><tr><th>Since</th><th>Last seen</th><th>From</th><th>With</th><th /></tr></thead>
                    <tbody>
                        {sessions.map((s) => (
                            <tr key={s.id} data-session={s.id}>
                                <td>{day(s.createdAt)}</td>
                                <td>{day(s.seenAt)}</td>
                                <td>{s.address}</td>
                                <td class="agent" title={s.agent}>{s.agent.slice(0, 60)}</td>
                                <td>
                                    {s.current ? (
                                        "this one"
                                    ) : (
                                        <button type="button" onClick={() => void act(() => api.delete(`${BASE}/auth/sessions/${s.id}`), "That session has ended.")}>
                                            End
                                        </button>
                                    )}
                                </td>
                            </tr>
                        ))}
                    </tbody>
                </table>
                <button
                    type="button"
                    onClick={() => void api.signOutEverywhere().then(api.key ? () => load() : onLeft, (e) => complain(messageOf(e)))}
                >
                    Sign out everywhere
                </button>
            </section>
            <Keys api={api} me={me} keys={keys} reload={load} revoke={(id) => void act(() => api.delete(`${BASE}/api-keys/${id}`), "The key is revoked.")} />
        </main>
    );
}

const money = (n: number) => n.toFixed(2);

function UsageTable({ usage }: { usage: Usage }) {
    const rows: [string, Used, (n: number) => string][] = [
        ["Files", usage.files, count],
        ["Stored", usage.bytes, bytes],
        [`Pages read in ${usage.month}`, usage.pages, count],
        [`Paid services in ${usage.month}`, usage.money, money],
    ];
    return (
        <section class="card" aria-labelledby="usage-title">
            <h2 id="usage-title">Usage</h2>
            <table>
                <thead><tr><th>What</th><th>Used</th><th>Limit</th><th /></tr></thead>
                <tbody>
                    {rows.map(([what, used, show]) => (
                        <tr key={what}>
                            <td>{what}</td>
                            <td>{show(used.used)}</td>
                            <td>{used.limit === null ? "none" : show(used.limit)}</td>
                            <td>
                                {used.limit !== null && (
                                    <meter aria-label={`${what}, part of the limit`} min={0} max={Math.max(used.limit, used.used, 1e-6)} high={used.limit * 0.9} value={used.used} />
                                )}
                            </td>
                        </tr>
                    ))}
                </tbody>
            </table>
        </section>
    );
}

function PasswordForm({ api }: { api: Api }) {
    const [current, setCurrent] = useState("");
    const [wanted, setWanted] = useState("");
    const [error, setError] = useState("");

    const submit = async (e: Event) => {
        e.preventDefault();
        try {
            await api.changePassword(current, wanted);
            setCurrent("");
            setWanted("");
            setError("");
            say("The password is changed. Other sessions have ended.");
        } catch (x) {
            setError(messageOf(x));
        }
    };
    return (
        <form class="card" onSubmit={(e) => void submit(e)} aria-labelledby="password-title">
            <h2 id="password-title">Password</h2>
            <label for="current">Present password</label>
            <input id="current" type="password" autocomplete="current-password" value={current} onInput={(e) => setCurrent(e.currentTarget.value)} />
            <label for="wanted">New password</label>
            <input id="wanted" type="password" autocomplete="new-password" value={wanted} onInput={(e) => setWanted(e.currentTarget.value)} />
            {error && <p class="error-text" role="alert">{error}</p>}
            <button type="submit">Change password</button>
        </form>
    );
}

function Keys({ api, me, keys, reload, revoke }: { api: Api; me: Me; keys: KeyInfo[]; reload: () => Promise<void>; revoke: (id: string) => void }) {
    const [name, setName] = useState("");
    const [scopes, setScopes] = useState<string[]>(["read"]);
    const [days, setDays] = useState("90");
    const [made, setMade] = useState("");
    const [error, setError] = useState("");

    const submit = async (e: Event) => {
        e.preventDefault();
        try {
            const n = Number(days);
            const key = await api.createKey({ name, scopes, ...(n > 0 ? { expiresInDays: n } : {}) });
            setMade(key.key);
            setName("");
            setError("");
            await reload();
        } catch (x) {
            setError(messageOf(x));
        }
    };
    return (
        <section class="card" aria-labelledby="keys-title">
            <h2 id="keys-title">API keys</h2>
            <table>
                <thead><tr><th>Name</th><th>May</th><th>Made</th><th>Ends</th><th>Last used</th><th /></tr></thead>
                <tbody>
                    {keys.map((k) => (
                        <tr key={k.id} data-key={k.id}>
                            <td>{k.name || k.id}</td>
                            <td>{k.scopes.join(", ")}</td>
                            <td>{day(k.createdAt)}</td>
                            <td>{day(k.expiresAt)}</td>
                            <td>{day(k.lastUsedAt)}</td>
                            <td><button type="button" aria-label={`Revoke ${k.name || k.id}`} onClick={() => revoke(k.id)}>Revoke</button></td>
                        </tr>
                    ))}
                </tbody>
            </table>
            {made && (
                <p class="notice" role="status">
                    The new key, shown only now: <code class="new-key">{made}</code>
                </p>
            )}
            <form onSubmit={(e) => void submit(e)}>
                <label for="key-name">Name of the key</label>
                <input id="key-name" type="text" maxLength={100} value={name} onInput={(e) => setName(e.currentTarget.value)} />
                <fieldset>
                    <legend>It may</legend>
                    {me.scopes.map((s) => (
                        <label key={s}>
                            <input
                                type="checkbox"
                                checked={scopes.includes(s)}
                                onChange={(e) => setScopes(e.currentTarget.checked ? [...scopes, s] : scopes.filter((x) => x !== s))}
                            />{" "}
                            {s}
                        </label>
                    ))}
                </fieldset>
                <label for="key-days">Days until it ends</label>
                <input id="key-days" type="number" min="1" max="3650" value={days} onInput={(e) => setDays(e.currentTarget.value)} />
                {error && <p class="error-text" role="alert">{error}</p>}
                <button type="submit">Make a key</button>
            </form>
        </section>
    );
}
