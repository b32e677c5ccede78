// SPDX-License-Identifier: Apache-2.0
// Why: the few hooks that tie components to the stores and to the browser.
import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import type { BlobCache } from "../lib/blobs";

export function useUpdate(): () => void {
    const [, bump] = useReducer<number, void>((n) => n + 1, 0);
    return bump as () => void;
}

export function useSubscription(source: { subscribe(l: () => void): () => void }): void {
    const update = useUpdate();
    useEffect(() => source.subscribe(update), [source]);
}

/** An object URL for `path`, or null while it is on its way; `key` names its content. */
export function useBlob(
    cache: BlobCache,
    path: string | null,
    key: string,
): { url: string | null; failed: boolean } {
    const update = useUpdate();
    const [entry, setEntry] = useState<ReturnType<BlobCache["acquire"]> | null>(null);
    useEffect(() => {
        if (path === null) {
            setEntry(null);
            return;
        }
        const e = cache.acquire(path, key, update);
        setEntry(e);
        return () => cache.release(e, update);
    }, [cache, path, key]);
    if (path === null || !entry || entry.key !== key) {
        return { url: null, failed: false };
    }
    return { url: entry.url, failed: entry.failed };
}

export interface Route {
    dataset: string;
    file: string;
    /** The operator's page instead of a dataset. */
    operations?: boolean;
    /** One's password, sessions and keys. */
    account?: boolean;
    /** What a sign-in at the issuer ended with. */
    failed?: string;
}

export function parseRoute(hash: string): Route {
    if (hash === "#/operations") {
        return { dataset: "", file: "", operations: true };
    }
    if (hash === "#/account") {
        return { dataset: "", file: "", account: true };
    }
    const failed = /^#\/signin\/([a-z_]+)$/.exec(hash);
    if (failed) {
        return { dataset: "", file: "", failed: failed[1] ?? "" };
    }
    const m = /^#\/d\/([^/]+)(?:\/f\/([^/]+))?$/.exec(hash);
    const part = (s: string | undefined) => {
        try {
            return decodeURIComponent(s ?? "");
        } catch {
            return "";
        }
    };
    return { dataset: part(m?.[1]), file: part(m?.[2]) };
}

export function routeHash(r: Route): string {
    if (r.operations) {
        return "#/operations";
    }
    if (r.account) {
        return "#/account";
    }
    if (!r.dataset) {
        return "#/";
    }
    const d = `#/d/${encodeURIComponent(r.dataset)}`;
    return r.file ? `${d}/f/${encodeURIComponent(r.file)}` : d;
}

export function go(r: Route, replace = false): void {
    const hash = routeHash(r);
    if (hash === location.hash) {
        return;
    }
    if (replace) {
        history.replaceState(null, "", hash);
        window.dispatchEvent(new HashChangeEvent("hashchange"));
    } else {
        location.hash = hash;
    }
}

export function useRoute(): Route {
    const [hash, setHash] = useState(location.hash);
    useEffect(() => {
        const on = () => setHash(location.hash);
        window.addEventListener("hashchange", on);
        return () => window.removeEventListener("hashchange", on);
    }, []);
    return parseRoute(hash);
}

export function useMedia(queryText: string): boolean {
    const [match, setMatch] = useState(() => matchMedia(queryText).matches);
    useEffect(() => {
        const m = matchMedia(queryText);
        const on = () => setMatch(m.matches);
        m.addEventListener("change", on);
        return () => m.removeEventListener("change", on);
    }, [queryText]);
    return match;
}

/** Opens a <dialog> as modal while mounted; the browser keeps the focus inside and gives it back. */
export function useModal(onClose: () => void) {
    const ref = useRef<HTMLDialogElement>(null);
    const latest = useRef(onClose);
    latest.current = onClose;
    useEffect(() => {
        const d = ref.current;
        if (!d) {
            return;
        }
        const before = document.activeElement;
        d.showModal();
        const cancel = (e: Event) => {
            if (e.target === d) {
                e.preventDefault();
                latest.current();
            }
        };
        d.addEventListener("cancel", cancel);
        return () => {
            d.removeEventListener("cancel", cancel);
            d.close();
            if (before instanceof HTMLElement && before.isConnected) {
                before.focus();
            }
        };
    }, []);
    return ref;
}

export function useDebounced<T>(value: T, ms: number): T {
    const [v, setV] = useState(value);
    useEffect(() => {
        const t = setTimeout(() => setV(value), ms);
        return () => clearTimeout(t);
    }, [value, ms]);
    return v;
}
