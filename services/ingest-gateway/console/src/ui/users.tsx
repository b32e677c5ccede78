// SPDX-License-Identifier: Apache-2.0
// Why: what an administrator does by hand to accounts: make one, change its role and its share, set its
// limits, end its sessions, lock it. Limits of one's own account are set here, too; its role is not.
import { Fragment } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import type { Api } from "../lib/api";
import { bytes, count } from "../lib/format";
import { limitText, parseLimit } from "../lib/limits";
import { messageOf } from "../lib/problem";
import type { LimitKind, Limits, Me, Usage, UserInfo } from "../lib/types";
import { Icon, Spinner } from "./icons";
import { OpsTable, Tag } from "./ops-table";
import { actor } from "./toasts";

const ROLES = ["user", "operator", "admin"];
const KINDS: [kind: LimitKind, label: string][] = [
    ["files", "Files"],
    ["bytes", "Stored"],
    ["pages", "Pages a month"],
    ["money", "Money a month"],
];
const DEFAULTS = "default"; // which row is open: an account's id, or this

export function Users({ api, me }: { api: Api; me: Me }) {
    const [users, setUsers] = useState<UserInfo[] | null>(null);
    const [cursor, setCursor] = useState<string | null>(null);
    const [open, setOpen] = useState("");
    const [error, setError] = useState("");

    const load = useCallback(
        async (from: string | null = null) => {
            try {
                const page = await api.users(from);
                setUsers((old) => (from ? [...(old ?? []), ...page.items] : page.items));
                setCursor(page.nextCursor ?? null);
                setError("");
            } catch (e) {
                setError(messageOf(e));
            }
        },
        [api],
    );
    useEffect(() => void load(), [load]);

    /** The others stay as they are, and so do the pages that were asked for. */
    const changed = (u: UserInfo) => setUsers((old) => (old ?? []).map((x) => (x.id === u.id ? u : x)));

    const made = (u: UserInfo) => {
        setUsers((old) => [u, ...(old ?? [])]);
        setOpen(u.id);
    };

    return (
        <section class="card ops-card" aria-labelledby="ops-users">
            <header class="ops-head">
                <h2 id="ops-users">Accounts</h2>
                <span class="gap" />
                <button type="button" aria-expanded={open === DEFAULTS} onClick={() => setOpen(open === DEFAULTS ? "" : DEFAULTS)}>Limits of all</button>
            </header>
            {error && <p class="error-text" role="alert">{error}</p>}
            {open === DEFAULTS && <LimitForm api={api} name="all accounts" />}
            {!users && !error && <Spinner />}
            {users && (
                <OpsTable columns={["Name", "Role", "State", { num: "Share" }, { num: "Files" }, { num: "Stored" }, { num: "In work" }, { num: "Given up" }]} action="Action">
                    {users.map((u) => (
                        <Fragment key={u.id}>
                            <tr data-user={u.id}>
                                <th scope="row">{u.name}</th>
                                <td>{u.role}</td>
                                <td><Tag tone={u.disabled ? "bad" : "good"} text={u.disabled ? "locked" : "open"} /></td>
                                <td class="num">{u.weight}</td>
                                <td class="num">{count(u.usage?.files)}</td>
                                <td class="num">{bytes(u.usage?.bytes)}</td>
                                <td class="num">{count(u.usage?.inWork)}</td>
                                <td class="num">{count(u.usage?.deadLetters)}</td>
                                <td class="num">
                                    <button type="button" aria-expanded={open === u.id} aria-label={`Change ${u.name}`} onClick={() => setOpen(open === u.id ? "" : u.id)}>Change</button>
                                </td>
                            </tr>
                            {open === u.id && (
                                <tr>
                                    <td colSpan={9}>
                                        <div class="user-forms">
                                            <UserForm api={api} user={u} own={me.id === u.id} onChanged={changed} />
                                            <LimitForm api={api} name={u.name} id={u.id} />
                                        </div>
                                    </td>
                                </tr>
                            )}
                        </Fragment>
                    ))}
                </OpsTable>
            )}
            {cursor && <button type="button" class="quiet" onClick={() => void load(cursor)}>Show more</button>}
            <NewUser api={api} onMade={made} />
        </section>
    );
}

function UserForm({ api, user: u, own, onChanged }: { api: Api; user: UserInfo; own: boolean; onChanged: (u: UserInfo) => void }) {
    const [weight, setWeight] = useState(String(u.weight));
    const [password, setPassword] = useState("");
    const act = actor();
    const change = (body: { role?: string; weight?: number; disabled?: boolean }, done: string) =>
        act(async () => onChanged(await api.changeUser(u.id, body)), done);

    return (
        <div class="user-form">
            <label>
                Role
                <select
                    aria-label={`Role of ${u.name}`}
                    value={u.role}
                    disabled={own}
                    title={own ? "Nobody changes his own role" : "Its sessions end"}
                    onChange={(e) => void change({ role: e.currentTarget.value }, `${u.name} is ${e.currentTarget.value} now.`)}
                >
                    {ROLES.map((r) => <option key={r} value={r}>{r}</option>)}
                </select>
            </label>
            <form
                onSubmit={(e) => {
                    e.preventDefault();
                    void change({ weight: Number(weight) }, `${u.name} has a share of ${weight}.`);
                }}
            >
                <label>
                    Share
                    <input type="number" min="0.001" max="1000" step="any" required value={weight} onInput={(e) => setWeight(e.currentTarget.value)} />
                </label>
                <button type="submit">Set share</button>
            </form>
            <form
                onSubmit={(e) => {
                    e.preventDefault();
                    void act(async () => {
                        await api.setPassword(u.id, password);
                        setPassword("");
                    }, `${u.name} has a new password; its sessions have ended.`);
                }}
            >
                <label>
                    New password
                    <input type="password" autocomplete="new-password" required maxLength={1024} value={password} onInput={(e) => setPassword(e.currentTarget.value)} />
                </label>
                <button type="submit">Set password</button>
            </form>
            <div class="ops-buttons">
                <button type="button" onClick={() => void act(() => api.endSessions(u.id), `${u.name} is signed out everywhere.`)}>End sessions</button>
                <button type="button" class={u.disabled ? "" : "danger"} disabled={own} onClick={() => void change({ disabled: !u.disabled }, u.disabled ? `${u.name} is open again.` : `${u.name} is locked.`)}>
                    {u.disabled ? "Unlock" : "Lock"}
                </button>
            </div>
        </div>
    );
}

/** Limits of one account, or without `id` of all that have none of their own. */
function LimitForm({ api, id, name }: { api: Api; id?: string; name: string }) {
    const [texts, setTexts] = useState<Record<LimitKind, string> | null>(null);
    const [usage, setUsage] = useState<Usage | null>(null);
    const [error, setError] = useState("");

    const load = async () => {
        try {
            const answer = await api.limits(id);
            setUsage(answer.usage ?? null);
            setTexts(Object.fromEntries(KINDS.map(([k]) => [k, limitText(k, answer.limits[k])])) as Record<LimitKind, string>);
        } catch (e) {
            setError(messageOf(e));
        }
    };
    useEffect(() => void load(), [api, id]);

    const submit = (e: Event) => {
        e.preventDefault();
        const limits: Partial<Limits> = {};
        for (const [kind, label] of KINDS) {
            const limit = parseLimit(kind, texts?.[kind] ?? "");
            if (limit === undefined) {
                setError(`${label}: a number${kind === "bytes" ? ", as in 50 GiB" : ""}, “none”, or nothing.`);
                return;
            }
            limits[kind] = limit;
        }
        setError("");
        void actor(load)(() => api.setLimits(limits as Limits, id), `The limits of ${name} are set.`);
    };

    if (!texts) {
        return error ? <p class="error-text" role="alert">{error}</p> : <Spinner />;
    }
    return (
        <form class="limit-form" onSubmit={submit} aria-label={`Limits of ${name}`}>
            {KINDS.map(([kind, label]) => (
                <label key={kind}>
                    {label}
                    <input
                        type="text"
                        maxLength={24}
                        placeholder={id ? "as all" : "none"}
                        value={texts[kind]}
                        onInput={(e) => setTexts({ ...texts, [kind]: e.currentTarget.value })}
                    />
                    {usage && <span class="hint">{kind === "bytes" ? bytes(usage.bytes.used) : kind === "money" ? usage.money.used.toFixed(2) : count(usage[kind].used)} used</span>}
                </label>
            ))}
            <button type="submit">Set limits</button>
            {error && <p class="error-text" role="alert">{error}</p>}
        </form>
    );
}

function NewUser({ api, onMade }: { api: Api; onMade: (u: UserInfo) => void }) {
    const [name, setName] = useState("");
    const [role, setRole] = useState("user");

    const submit = (e: Event) => {
        e.preventDefault();
        void actor()(async () => {
            const u = await api.createUser({ name, role });
            setName("");
            onMade({ ...u, disabled: false, usage: null });
        }, `${name} has an account. It needs a password, or a key, to be used.`);
    };
    return (
        <form class="new-user" onSubmit={submit} aria-label="New account">
            <input type="text" aria-label="Name of the new account" placeholder="Name" required maxLength={100} value={name} onInput={(e) => setName(e.currentTarget.value)} />
            <select aria-label="Role of the new account" value={role} onChange={(e) => setRole(e.currentTarget.value)}>
                {ROLES.map((r) => <option key={r} value={r}>{r}</option>)}
            </select>
            <button type="submit"><Icon name="plus" size={16} /> New account</button>
        </form>
    );
}
