// SPDX-License-Identifier: Apache-2.0
// Why: the pages of a preview below each other, with selectable text and marked boxes. A page is
// fetched when it comes near the window and its picture is let go when it is far away.
import { Fragment } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Api } from "../lib/api";
import type { BlobCache } from "../lib/blobs";
import { placeWords, validBox } from "../lib/textlayer";
import type { Box, PageWords, PreviewPage } from "../lib/types";
import { useBlob } from "./hooks";
import { Icon, Spinner } from "./icons";

export interface Citation {
    page: number;
    boxes: Box[];
    quote: string;
    span: [number, number] | null;
    /** Changes with every click, so that the same citation can be shown again. */
    token: number;
}

const ZOOMS = [0.5, 0.75, 1, 1.5, 2, 3];

export function PagesView({
    api,
    blobs,
    pages,
    contentKey,
    citation,
    onPage,
}: {
    api: Api;
    blobs: BlobCache;
    pages: PreviewPage[];
    contentKey: string;
    citation: Citation | null;
    onPage: (page: number) => void;
}) {
    const scroller = useRef<HTMLDivElement>(null);
    const [zoom, setZoom] = useState(2);
    const [current, setCurrent] = useState(1);
    const ratio = ZOOMS[zoom] ?? 1;

    const scrollTo = (page: number, box?: Box) => {
        const root = scroller.current;
        const el = root?.querySelector<HTMLElement>(`[data-page="${page}"]`);
        if (!root || !el) {
            return;
        }
        const base = el.offsetTop - root.offsetTop;
        const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
        root.scrollTo({
            top: box ? base + box[1] * el.offsetHeight - root.clientHeight / 3 : base - 12,
            left: box ? el.offsetLeft + box[0] * el.offsetWidth - root.clientWidth / 2 : root.scrollLeft,
            behavior: calm ? "auto" : "smooth",
        });
    };

    useEffect(() => {
        if (citation) {
            scrollTo(citation.page, citation.boxes[0]);
        }
    }, [citation]);

    useEffect(() => {
        const root = scroller.current;
        if (!root) {
            return;
        }
        const on = () => {
            const middle = root.scrollTop + root.clientHeight / 3;
            let page = 1;
            for (const el of root.querySelectorAll<HTMLElement>("[data-page]")) {
                if (el.offsetTop - root.offsetTop <= middle) {
                    page = Number(el.dataset["page"]);
                }
            }
            setCurrent(page);
        };
        root.addEventListener("scroll", on, { passive: true });
        return () => root.removeEventListener("scroll", on);
    }, [pages]);
    useEffect(() => onPage(current), [current]);

    const numbers = pages.map((p) => p.page);
    const at = Math.max(0, numbers.indexOf(current));
    return (
        <div class="viewer">
            <div class="viewer-bar" role="toolbar" aria-label="Preview">
                <button type="button" class="icon-button" aria-label="Previous page" disabled={at <= 0} onClick={() => scrollTo(numbers[at - 1] ?? 1)}>
                    <Icon name="up" size={16} />
                </button>
                <span class="nowrap" aria-live="polite">Page {current} of {pages.length}</span>
                <button type="button" class="icon-button" aria-label="Next page" disabled={at >= numbers.length - 1} onClick={() => scrollTo(numbers[at + 1] ?? 1)}>
                    <Icon name="down" size={16} />
                </button>
                <span class="gap" />
                <button type="button" class="icon-button" aria-label="Zoom out" disabled={zoom === 0} onClick={() => setZoom(zoom - 1)}>
                    <Icon name="minus" size={16} />
                </button>
                <span class="nowrap zoom">{Math.round(ratio * 100)} %</span>
                <button type="button" class="icon-button" aria-label="Zoom in" disabled={zoom === ZOOMS.length - 1} onClick={() => setZoom(zoom + 1)}>
                    <Icon name="plus" size={16} />
                </button>
            </div>
            <div class="pages" ref={scroller} tabIndex={0} role="region" aria-label="Pages">
                {pages.map((p) => (
                    <PageView
                        key={p.page}
                        api={api}
                        blobs={blobs}
                        page={p}
                        contentKey={contentKey}
                        zoom={ratio}
                        root={scroller}
                        boxes={citation?.page === p.page ? citation.boxes : NO_BOXES}
                    />
                ))}
            </div>
        </div>
    );
}

const NO_BOXES: Box[] = [];

function PageView({
    api,
    blobs,
    page: p,
    contentKey,
    zoom,
    root,
    boxes,
}: {
    api: Api;
    blobs: BlobCache;
    page: PreviewPage;
    contentKey: string;
    zoom: number;
    root: { current: HTMLDivElement | null };
    boxes: Box[];
}) {
    const el = useRef<HTMLElement>(null);
    const [near, setNear] = useState(false);
    const [words, setWords] = useState<PageWords | null>(null);
    useEffect(() => {
        if (!el.current) {
            return;
        }
        const o = new IntersectionObserver((es) => setNear(es[es.length - 1]?.isIntersecting ?? false), {
            root: root.current,
            rootMargin: "120% 0px",
        });
        o.observe(el.current);
        return () => o.disconnect();
    }, []);
    const { url, failed } = useBlob(blobs, near ? p.href : null, `page:${contentKey}:${p.page}`);
    useEffect(() => {
        if (!near || words || !p.textHref) {
            return;
        }
        const abort = new AbortController();
        api.words(p.textHref, abort.signal).then(setWords, () => {});
        return () => abort.abort();
    }, [near, p.textHref]);
    const layer = useMemo(
        () => (words ? <TextLayer words={words} width={p.width} height={p.height} /> : null),
        [words, p.width, p.height],
    );
    const w = p.width > 0 ? p.width : 1;
    const h = p.height > 0 ? p.height : 1.414;
    return (
        <article
            ref={el}
            class="page"
            data-page={p.page}
            aria-label={`Page ${p.page}`}
            style={{ aspectRatio: `${w} / ${h}`, width: `${zoom * 100}%`, maxWidth: `${zoom * 900}px` }}
        >
            {url ? (
                <img src={url} alt={`Page ${p.page}`} draggable={false} />
            ) : (
                <div class="page-wait">{failed ? "This page could not be loaded." : <Spinner size={22} />}</div>
            )}
            {near && layer}
            {boxes.filter(validBox).map((b, i) => (
                <span
                    key={i}
                    class="cite-box"
                    style={{
                        left: `${b[0] * 100}%`,
                        top: `${b[1] * 100}%`,
                        width: `${(b[2] - b[0]) * 100}%`,
                        height: `${(b[3] - b[1]) * 100}%`,
                    }}
                />
            ))}
        </article>
    );
}

let ruler: CanvasRenderingContext2D | null | undefined;

function measure(text: string): number {
    if (ruler === undefined) {
        ruler = document.createElement("canvas").getContext("2d");
        if (ruler) {
            ruler.font = "100px sans-serif";
        }
    }
    return ruler ? ruler.measureText(text).width : text.length * 50;
}

function TextLayer({ words, width, height }: { words: PageWords; width: number; height: number }) {
    const placed = useMemo(() => placeWords(words.words ?? [], width, height, measure), [words, width, height]);
    return (
        <div class="text-layer">
            {placed.map((w, i) => (
                <Fragment key={i}>
                    <span
                        style={{
                            left: `${w.left * 100}%`,
                            top: `${w.top * 100}%`,
                            fontSize: `${w.height * 100}cqh`,
                            transform: `scaleX(${w.stretch})`,
                        }}
                    >
                        {w.text}
                    </span>
                    {w.lineEnd && <br role="presentation" />}
                </Fragment>
            ))}
        </div>
    );
}
