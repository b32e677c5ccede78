// SPDX-License-Identifier: Apache-2.0
// Why: limits of accounts as a person writes them, "50 GiB" or "none". Pure functions only.
import type { Limit, LimitKind } from "./types";

const MOST = 9e15;
const FACTORS: Record<string, number> = {
    "": 1,
    b: 1,
    kb: 1e3,
    mb: 1e6,
    gb: 1e9,
    tb: 1e12,
    kib: 2 ** 10,
    mib: 2 ** 20,
    gib: 2 ** 30,
    tib: 2 ** 40,
};

/** Nothing written: as all accounts; undefined where it is no limit of that kind. */
export function parseLimit(kind: LimitKind, text: string): Limit | undefined {
    const t = text.trim().toLowerCase();
    if (t === "") {
        return null;
    }
    if (t === "none") {
        return "none";
    }
    const m = /^(\d{1,16}(?:\.\d{1,6})?) ?([kmgt]?i?b)?$/.exec(t.replace(/,/g, ""));
    const factor = FACTORS[m?.[2] ?? ""];
    if (!m || factor === undefined || (m[2] && kind !== "bytes")) {
        return undefined;
    }
    const n = Number(m[1]) * factor;
    if (kind === "money") {
        return n <= 9e9 ? n : undefined;
    }
    return n <= MOST && (kind === "bytes" || Number.isInteger(n)) ? Math.round(n) : undefined;
}

/** What parseLimit reads as the same limit. */
export function limitText(kind: LimitKind, limit: Limit): string {
    if (limit === null || limit === "none" || kind !== "bytes" || limit === 0) {
        return String(limit ?? "");
    }
    const unit = ["TiB", "GiB", "MiB", "KiB"].find((u) => limit % (FACTORS[u.toLowerCase()] ?? 1) === 0);
    return unit ? `${limit / (FACTORS[unit.toLowerCase()] ?? 1)} ${unit}` : String(limit);
}
