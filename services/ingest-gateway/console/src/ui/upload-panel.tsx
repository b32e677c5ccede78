// SPDX-License-Identifier: Apache-2.0
// Why: shows how far the uploads are and, until it is closed, every file that was not accepted and
// why. It lists at most 200 refusals; the rest is counted.
import type { Api } from "../lib/api";
import { bytes, count, plural } from "../lib/format";
import type { Uploader } from "../lib/upload";
import { BatchLines } from "./batch-lines";
import { Icon, Spinner } from "./icons";

const SHOWN = 200;

export function UploadPanel({ api, uploader }: { api: Api; uploader: Uploader }) {
    const v = uploader.view();
    if (v.files === 0 && v.issues.length === 0) {
        return null;
    }
    const failed = v.failed.reduce((n, f) => n + f.files, 0);
    const done = !v.active && failed === 0;
    return (
        <section class="upload-panel card" aria-label="Uploads">
            <div class="upload-line">
                {v.active ? <Spinner size={16} /> : <Icon name={failed > 0 || v.issues.length > 0 ? "alert" : "check"} />}
                <span class="upload-title" aria-live="polite">
                    {v.active
                        ? `Uploading ${plural(v.files - v.filesDone, "file")}`
                        : `${plural(v.accepted, "file")} accepted`}
                    {v.issues.length > 0 && `, ${count(v.issues.length)} refused`}
                    {failed > 0 && `, ${count(failed)} not sent`}
                </span>
                <span class="muted nowrap">
                    {bytes(v.bytesSent)} of {bytes(v.bytes)}
                </span>
                {v.active && (
                    <button type="button" class="quiet" onClick={() => uploader.stop()}>
                        <Icon name="stop" size={16} /> Stop
                    </button>
                )}
                {!v.active && failed > 0 && (
                    <button type="button" class="quiet" onClick={() => uploader.retryFailed()}>
                        <Icon name="retry" size={16} /> Try again
                    </button>
                )}
                {!v.active && (
                    <button type="button" class="icon-button" aria-label="Close upload report" onClick={() => uploader.clear()}>
                        <Icon name="close" size={16} />
                    </button>
                )}
            </div>
            {!done && (
                <progress max={Math.max(1, v.bytes)} value={v.bytesSent} aria-label="Upload progress" />
            )}
            <BatchLines api={api} ids={v.batches} />
            {v.waiting && <p class="hint" role="status">{v.waiting}</p>}
            {v.failed.map((f, i) => (
                <p key={i} class="error-text">
                    {plural(f.files, "file")} not sent: {f.message}
                </p>
            ))}
            {v.issues.length > 0 && (
                <details open={v.issues.length <= 5}>
                    <summary>{plural(v.issues.length, "file")} refused</summary>
                    <ul class="issue-list">
                        {v.issues.slice(0, SHOWN).map((x, i) => (
                            <li key={i}>
                                <b>{x.path}</b> <span>{x.reason}</span>
                            </li>
                        ))}
                        {v.issues.length > SHOWN && <li>and {count(v.issues.length - SHOWN)} more</li>}
                    </ul>
                </details>
            )}
        </section>
    );
}
