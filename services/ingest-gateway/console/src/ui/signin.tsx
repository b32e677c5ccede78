// SPDX-License-Identifier: Apache-2.0
// Why: asks who somebody is, by password, by API key or at the issuer, and tries it before anything
// else is shown.
import { useState } from "preact/hooks";
import { Api, passwordSignIn } from "../lib/api";
import { messageOf, Problem } from "../lib/problem";
import type { Dataset, SignInMethods } from "../lib/types";
import { useRoute } from "./hooks";
import { Icon, Logo, Spinner } from "./icons";

type Mode = "password" | "key";

/** What was used last in this tab, so that who signs out finds the same form. */
let lastMode: Mode = "password";

const FAILED: Record<string, string> = {
    not_provisioned: "You are known there, but have no account here. Ask an administrator.",
    disabled: "This account is disabled.",
    oidc_denied: "The sign-in was cancelled.",
    bad_state: "That sign-in was begun elsewhere or too long ago. Try again.",
    oidc_unavailable: "The sign-in service does not answer. Try again later.",
    oidc_failed: "The sign-in failed. Try again.",
};

export function SignIn({
    note,
    methods,
    onSignIn,
}: {
    note: string;
    methods: SignInMethods | null;
    onSignIn: (api: Api, datasets: Dataset[]) => void;
}) {
    const [mode, setMode] = useState<Mode>(lastMode);
    const [key, setKey] = useState("");
    const [name, setName] = useState("");
    const [password, setPassword] = useState("");
    const [busy, setBusy] = useState(false);
    const [error, setError] = useState("");
    const failed = useRoute().failed;
    const told = note || (failed === undefined ? "" : (FAILED[failed] ?? FAILED["oidc_failed"] ?? ""));

    const attempt = async (signIn: () => Promise<Api>, refused: string) => {
        setBusy(true);
        setError("");
        try {
            const api = await signIn();
            const datasets = await api.datasets();
            lastMode = mode;
            onSignIn(api, datasets);
        } catch (x) {
            setBusy(false);
            setError(x instanceof Problem && x.status === 401 ? refused : messageOf(x));
        }
    };

    const submit = (e: Event) => {
        e.preventDefault();
        if (mode === "password") {
            if (!name || !password) {
                setError("Enter a name and a password.");
                return;
            }
            void attempt(() => passwordSignIn(name, password), "The name or the password is wrong.");
            return;
        }
        const trimmed = key.trim();
        if (!trimmed) {
            setError("Enter a key.");
        } else if (!/^[\x21-\x7e]+$/.test(trimmed)) {
            setError("A key has no blanks and no special characters. Was it copied whole?");
        } else {
            void attempt(async () => new Api(trimmed), "This key is not known here. Was it copied whole?");
        }
    };

    return (
        <main class="signin">
            <form class="card" onSubmit={submit} noValidate>
                <div class="brand">
                    <Logo />
                    <h1>docfleet</h1>
                </div>
                <p class="muted">Documents in, dataset rows out.</p>
                {told && !error && <p class="notice" role="status">{told}</p>}
                {methods?.oidc && (
                    <a class="button wide" href={methods.oidc.href}>Sign in with {methods.oidc.name}</a>
                )}
                {mode === "password" ? (
                    <>
                        <label for="name">Name</label>
                        <input
                            id="name"
                            type="text"
                            name="username"
                            autocomplete="username"
                            spellcheck={false}
                            autofocus
                            value={name}
                            onInput={(e) => setName(e.currentTarget.value)}
                        />
                        <label for="password">Password</label>
                        <input
                            id="password"
                            type="password"
                            name="password"
                            autocomplete="current-password"
                            value={password}
                            aria-invalid={error ? "true" : undefined}
                            aria-describedby={error ? "signin-error" : undefined}
                            onInput={(e) => setPassword(e.currentTarget.value)}
                        />
                    </>
                ) : (
                    <>
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
                                aria-describedby={error ? "signin-error" : "key-hint"}
                                onInput={(e) => setKey(e.currentTarget.value)}
                            />
                        </div>
                        {!error && (
                            <p id="key-hint" class="hint">The key stays in this tab and is forgotten when the tab is closed.</p>
                        )}
                    </>
                )}
                {error && <p id="signin-error" class="error-text" role="alert">{error}</p>}
                <button class="primary wide" type="submit" disabled={busy}>
                    {busy && <Spinner />} Sign in
                </button>
                <button
                    class="quiet"
                    type="button"
                    onClick={() => {
                        setError("");
                        setMode(mode === "password" ? "key" : "password");
                    }}
                >
                    {mode === "password" ? "Use an API key instead" : "Use a password instead"}
                </button>
            </form>
        </main>
    );
}
