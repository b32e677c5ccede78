// SPDX-License-Identifier: Apache-2.0
// Why: what became of the uploads of this session, batch by batch, and their receipts. It asks for
// counts every two seconds while a batch is in work, and never again after that.
import { useEffect, useState } from "preact/hooks";
import type { Api } from "../lib/api";
import { about, count, plural, STATE_LABEL } from "../lib/format";
import { FILE_STATES, type BatchSummary } from "../lib/types";
import { download } from "./download";
import { Icon } from "./icons";

const ASK_MS = 2000;
const SHOWN = 20;

export function BatchLines({ api, ids }: { api: Api; ids: string[] }) {
    if (ids.length === 0) {
        return null;
    }
    return (
        <ul class="batch-lines" aria-label="Batches of this upload">
            {ids.slice(-SHOWN).map((id, i) => (
                <BatchLine key={id} api={api} id={id} number={ids.length > 1 ? Math.max(0, ids.length - SHOWN) + i + 1 : 0} />
            ))}
        </ul>
    );
}

function BatchLine({ api, id, number }: { api: Api; id: string; number: number }) {
    const [batch, setBatch] = useState<BatchSummary | null>(null);
    useEffect(() => {
        const abort = new AbortController();
        let timer: ReturnType<typeof setTimeout> | undefined;
        const ask = async () => {
            let again = true;
            try {
                const b = await api.batch(id, abort.signal);
                setBatch(b);
                again = b.state === "processing";
            } catch {
                // The next answer will do; the line only stands still meanwhile.
            }
            if (again && !abort.signal.aborted) {
                timer = setTimeout(() => void ask(), ASK_MS);
            }
        };
        void ask();
        return () => {
            abort.abort();
            clearTimeout(timer);
        };
    }, [api, id]);

    if (!batch) {
        return null;
    }
    const open = (batch.byState.processing ?? 0) + (batch.byState.uploading ?? 0);
    const over = batch.accepted - open;
    const eta = open > 0 ? about(batch.etaSeconds) : "";
    const parts = FILE_STATES.filter((s) => s !== "processing" && (batch.byState[s] ?? 0) > 0).map(
        (s) => `${count(batch.byState[s])} ${STATE_LABEL[s].toLowerCase()}`,
    );
    if (batch.rejected > 0) {
        parts.push(`${count(batch.rejected)} refused`);
    }
    const name = `receipt-${id.slice(-8)}`;
    return (
        <li class="batch-line">
            <span class="nowrap">{number > 0 ? `Batch ${number}` : "Progress"}</span>
            <progress max={Math.max(1, batch.accepted)} value={over} aria-label={`${over} of ${batch.accepted} files are finished`} />
            <span class="batch-words">
                {`${count(over)} of ${plural(batch.accepted, "file")} finished`}
                {parts.length > 0 && ` (${parts.join(", ")})`}
                {eta && `, ${eta} left`}
            </span>
            <span class="gap" />
            <button type="button" class="quiet" title="What came of each file, with its hash, as a table" onClick={() => void download(api, api.receiptPath(id, "csv"), `${name}.csv`, 0)}>
                <Icon name="download" size={16} /> Receipt
            </button>
            <button type="button" class="quiet" title="The same as JSON, which can be checked" aria-label="Receipt as JSON" onClick={() => void download(api, api.receiptPath(id, "json"), `${name}.json`, 0)}>
                JSON
            </button>
        </li>
    );
}
