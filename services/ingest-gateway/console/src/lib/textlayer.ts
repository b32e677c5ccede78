// SPDX-License-Identifier: Apache-2.0
// Why: places the words of a page over its picture so that they can be selected and copied. Sizes
// are shares of the page, so nothing has to be laid out again when the page is zoomed.
import type { Box, Word } from "./types";

export interface PlacedWord {
    /** With a blank behind it when a word of the same line follows. */
    text: string;
    lineEnd: boolean;
    left: number;
    top: number;
    /** Height of the letters as a share of the page's height. */
    height: number;
    /** Horizontal stretch that makes the word as wide as its box. */
    stretch: number;
}

export function validBox(b: unknown): b is Box {
    return (
        Array.isArray(b) &&
        b.length === 4 &&
        b.every((x) => typeof x === "number" && Number.isFinite(x)) &&
        b[2] > b[0] &&
        b[3] > b[1]
    );
}

/** `measure` gives the width of a text set in a font 100 units high. */
export function placeWords(
    words: readonly Word[],
    pageWidth: number,
    pageHeight: number,
    measure: (text: string) => number,
): PlacedWord[] {
    const out: PlacedWord[] = [];
    for (let i = 0; i < words.length; i++) {
        const w = words[i];
        if (!w || !w.text || !validBox(w.box)) {
            continue;
        }
        const [x0, y0, x1, y1] = w.box;
        const next = words[i + 1];
        const sameLine =
            next !== undefined &&
            validBox(next.box) &&
            Math.abs(next.box[1] - y0) < (y1 - y0) / 2 &&
            next.box[0] >= x1 - 0.001;
        const natural = (measure(w.text) / 100) * (y1 - y0) * pageHeight;
        const wanted = (x1 - x0) * pageWidth;
        out.push({
            text: sameLine ? `${w.text} ` : w.text,
            lineEnd: !sameLine,
            left: x0,
            top: y0,
            height: y1 - y0,
            stretch: natural > 0 ? wanted / natural : 1,
        });
    }
    return out;
}

/** Where `quote` stands in `text`, blanks of any kind counting as one; null if nowhere. */
export function findQuote(text: string, quote: string): [number, number] | null {
    const words = quote.trim().split(/\s+/).filter(Boolean);
    if (words.length === 0 || quote.length > 2000) {
        return null;
    }
    const pattern = words.map((w) => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("\\s+");
    const m = new RegExp(pattern, "u").exec(text) ?? new RegExp(pattern, "iu").exec(text);
    return m ? [m.index, m.index + m[0].length] : null;
}

/** The UTF-16 index of the n-th code point, or null if the text is shorter. */
function indexOfPoint(text: string, n: number): number | null {
    let i = 0;
    for (let k = 0; k < n; k++) {
        if (i >= text.length) {
            return null;
        }
        i += (text.codePointAt(i) ?? 0) > 0xffff ? 2 : 1;
    }
    return i;
}

/**
 * The part of a page's text that proves a value: the span, which counts code points, if it agrees
 * with the quote, else the first place where the quote stands.
 */
export function evidenceIn(
    text: string,
    quote: string,
    span: readonly [number, number] | null | undefined,
): [number, number] | null {
    const flat = (s: string) => s.replace(/\s+/g, " ").trim();
    if (span && span[0] >= 0 && span[1] > span[0]) {
        const a = indexOfPoint(text, span[0]);
        const b = indexOfPoint(text, span[1]);
        if (a !== null && b !== null) {
            const there = flat(text.slice(a, b));
            const said = flat(quote);
            if (there && (!said || there.includes(said) || said.includes(there))) {
                return [a, b];
            }
        }
    }
    return findQuote(text, quote);
}
