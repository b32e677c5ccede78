// SPDX-License-Identifier: Apache-2.0
// Why: asks for the API key and tries it before anything else is shown.
import { useState } from "preact/hooks";
import { Api } from "../lib/api";
import { messageOf, Problem } from "../lib/problem";
import type { Dataset } from "../lib/types";
import { Icon, Logo, Spinner } from "./icons";

export function SignIn({
    note,
    onSignIn,
}: {
    note: string;
    onSignIn: (api: Api, datasets: Dataset[]) => void;
}) {
    const [key, setKey] = useState("");
    const [busy, setBusy] = useState(false);
    const [error, setError] = useState("");

    const submit = async (e: Event) => {
        e.preventDefault();
        const trimmed = key.trim();
        if (!trimmed) {
            setError("Enter a key.");
            return;
        }
        if (!/^[\x21-\x7e]+$/.test(trimmed)) {
            setError("A key has no blanks and no special characters. Was it copied whole?");
            return;
        }
        setBusy(true);
        setError("");
        try {
            const api = new Api(trimmed);
            onSignIn(api, await api.datasets());
        } catch (x) {
            setBusy(false);
            setError(
                x instanceof Problem && x.status === 401
                    ? "This key is not known here. Was it copied whole?"
                    : messageOf(x),
            );
        }
    };

    return (
        <main class="signin">
            <form class="card" onSubmit={submit} noValidate>
                <div class="brand">
                    <Logo />
                    <h1>docfleet</h1>
                </div>
                <p class="muted">Documents in, dataset rows out. Sign in with an API key.</p>
                {note && !error && <p class="notice" role="status">{note}</p>}
                <label for="key">API key</label>
                <div class="field-with-icon">
                    <Icon name="key" />
                    <input
                        id="key"
                        type="password"
                        name="api-key"
                        autocomplete="off"
                        spellcheck={false}
                        autofocus
                        placeholder="dfk_…"
                        value={key}
                        aria-invalid={error ? "true" : undefined}
                        aria-describedby={error ? "key-error" : "key-hint"}
                        onInput={(e) => setKey(e.currentTarget.value)}
                    />
                </div>
                {error ? (
                    <p id="key-error" class="error-text" role="alert">{error}</p>
                ) : (
                    <p id="key-hint" class="hint">The key stays in this tab and is forgotten when the tab is closed.</p>
                )}
                <button class="primary wide" type="submit" disabled={busy}>
                    {busy && <Spinner />} Sign in
                </button>
            </form>
        </main>
    );
}
