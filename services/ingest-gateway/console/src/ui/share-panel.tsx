// SPDX-License-Identifier: Apache-2.0
// Why: links by which others download a file without an account. A new link is shown once, and only
// here; afterwards the server knows its digest alone.
import { useCallback, useEffect, useState } from "preact/hooks";
import { type Api, BASE } from "../lib/api";
import { count, plural, time } from "../lib/format";
import { messageOf } from "../lib/problem";
import type { FileItem, ShareLink } from "../lib/types";
import { Spinner } from "./icons";
import { say } from "./toasts";

function ends(link: ShareLink): string {
    if (link.revokedAt) {
        return `revoked ${time(link.revokedAt)}`;
    }
    return link.open ? `until ${time(link.expiresAt)}` : "ended";
}

export function SharePanel({ api, file: f }: { api: Api; file: FileItem }) {
    const [links, setLinks] = useState<ShareLink[] | null>(null);
    const [days, setDays] = useState("30");
    const [downloads, setDownloads] = useState("");
    const [password, setPassword] = useState("");
    const [made, setMade] = useState("");
    const [error, setError] = useState("");
    const [busy, setBusy] = useState(false);

    const load = useCallback(async () => {
        try {
            setLinks(await api.shares(f.id));
        } catch (e) {
            setError(messageOf(e));
        }
    }, [api, f.id]);
    useEffect(() => {
        setLinks(null);
        setMade("");
        void load();
    }, [load]);

    const submit = async (e: Event) => {
        e.preventDefault();
        if (busy) {
            return;
        }
        setBusy(true);
        try {
            const link = await api.createShare(f.id, {
                ...(Number(days) > 0 ? { expiresInDays: Number(days) } : {}),
                ...(Number(downloads) > 0 ? { maxDownloads: Number(downloads) } : {}),
                ...(password ? { password } : {}),
            });
            setMade(link.shareUrl);
            setPassword("");
            setError("");
            await load();
        } catch (x) {
            setError(messageOf(x));
        }
        setBusy(false);
    };
    const copy = async () => {
        try {
            await navigator.clipboard.writeText(made);
            say("The link is copied.");
        } catch {
            say("The browser does not let this page copy; mark the link and copy it.");
        }
    };
    const revoke = async (id: string) => {
        try {
            await api.delete(`${BASE}/files/${f.id}/shares/${id}`);
            say("The link has ended.");
            await load();
        } catch (x) {
            say(messageOf(x));
        }
    };

    return (
        <div class="share">
            <p class="muted">Whoever has a link can download this file, without an account.</p>
            {made && (
                <p class="notice" role="status">
                    The new link, shown only now: <code class="new-link">{made}</code>{" "}
                    <button type="button" class="quiet" onClick={() => void copy()}>Copy</button>
                </p>
            )}
            <form onSubmit={(e) => void submit(e)}>
                <label for="share-days">Days until it ends</label>
                <input id="share-days" type="number" min="1" max="3650" value={days} onInput={(e) => setDays(e.currentTarget.value)} />
                <label for="share-downloads">Downloads at most (empty: any number)</label>
                <input id="share-downloads" type="number" min="1" max="1000000" value={downloads} onInput={(e) => setDownloads(e.currentTarget.value)} />
                <label for="share-password">Password (empty: none)</label>
                <input id="share-password" type="password" autocomplete="new-password" value={password} onInput={(e) => setPassword(e.currentTarget.value)} />
                {error && <p class="error-text" role="alert">{error}</p>}
                <button type="submit" class="primary" aria-disabled={busy}>Make a link</button>
            </form>
            {links === null ? (
                <p class="muted"><Spinner /> Loading…</p>
            ) : links.length === 0 ? (
                <p class="muted">There are no links to this file.</p>
            ) : (
                <ul class="links" aria-label="Links to this file">
                    {links.map((l) => (
                        <li key={l.id} data-share={l.id} data-open={l.open}>
                            <span>
                                {ends(l)}
                                {l.passwordProtected && ", with a password"}
                                {", "}
                                {l.maxDownloads === null ? plural(l.downloads, "download") : `${count(l.downloads)} of ${plural(l.maxDownloads, "download")}`}
                            </span>
                            {l.open && <button type="button" class="quiet" onClick={() => void revoke(l.id)}>Revoke</button>}
                        </li>
                    ))}
                </ul>
            )}
        </div>
    );
}
