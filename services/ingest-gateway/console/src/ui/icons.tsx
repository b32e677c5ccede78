// SPDX-License-Identifier: Apache-2.0
// Why: a handful of line icons drawn in place, so that nothing has to be fetched.
import type { JSX } from "preact";

const PATHS = {
    upload: "M12 16V4m0 0L7 9m5-5 5 5M4 16v3a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-3",
    download: "M12 4v12m0 0 5-5m-5 5-5-5M4 18v1a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-1",
    retry: "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
    stop: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9 9l6 6m0-6-6 6",
    trash: "M4 7h16M9 7V4h6v3m-8 0 1 13h8l1-13M10 11v5m4-5v5",
    close: "M6 6l12 12M18 6 6 18",
    plus: "M12 5v14M5 12h14",
    search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zm5 12 4 4",
    check: "M5 12.5 10 17 19 7",
    alert: "M12 8v5m0 3v.1M10.3 4.3 2.7 17.5A2 2 0 0 0 4.4 20.5h15.2a2 2 0 0 0 1.7-3L13.7 4.3a2 2 0 0 0-3.4 0z",
    minus: "M6 12h12",
    clock: "M12 7v5l3 2M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
    file: "M6 3h8l4 4v14H6zM14 3v4h4",
    folder: "M3 6h6l2 2h10v11H3z",
    left: "M15 5l-7 7 7 7",
    right: "M9 5l7 7-7 7",
    out: "M14 4h5v16h-5M10 8l-4 4 4 4M6 12h9",
    up: "M12 19V5m0 0-6 6m6-6 6 6",
    down: "M12 5v14m0 0 6-6m-6 6-6-6",
    info: "M12 11v6m0-9v.1M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
    key: "M14 10a4 4 0 1 0-3.5 4L12 15.5h2v2h2v2h3v-3l-5.2-5.2c.1-.4.2-.9.2-1.3zM8.5 9.5v.1",
    gauge: "M4 17a8.5 8.5 0 1 1 16 0M12 15l4-5M4 20h16",
    table: "M4 5h16v14H4zM4 10h16M10 5v14",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18, class: cls }: { name: IconName; size?: number; class?: string }): JSX.Element {
    return (
        <svg
            class={`icon ${cls ?? ""}`}
            width={size}
            height={size}
            viewBox="0 0 24 24"
            fill="none"
            stroke="currentColor"
            stroke-width="1.8"
            stroke-linecap="round"
            stroke-linejoin="round"
            aria-hidden="true"
            focusable="false"
        >
            <path d={PATHS[name]} />
        </svg>
    );
}

export function Spinner({ size = 14 }: { size?: number }): JSX.Element {
    return (
        <svg class="spinner" width={size} height={size} viewBox="0 0 24 24" fill="none" aria-hidden="true" focusable="false">
            <circle cx="12" cy="12" r="9" stroke="currentColor" stroke-opacity="0.25" stroke-width="3.2" />
            <path d="M21 12a9 9 0 0 0-9-9" stroke="currentColor" stroke-width="3.2" stroke-linecap="round" />
        </svg>
    );
}

export function Logo(): JSX.Element {
    return (
        <svg class="logo" width="28" height="28" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
            <rect width="32" height="32" rx="7" class="logo-back" />
            <path d="M9 7h9l5 5v13H9z" fill="#fff" />
            <path d="M18 7v5h5" fill="#b9cbf5" />
            <path d="M12 16h8M12 19h8M12 22h5" class="logo-lines" stroke-width="1.6" stroke-linecap="round" />
        </svg>
    );
}
