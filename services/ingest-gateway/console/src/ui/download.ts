// SPDX-License-Identifier: Apache-2.0
// Why: a download needs the key in a header, so a plain link cannot do it. Large ones go straight to
// the disk where the browser can do that; the rest becomes an object URL for a minute.
import type { Api } from "../lib/api";
import { messageOf } from "../lib/problem";
import { complain } from "./toasts";

interface SavePicker {
    showSaveFilePicker?: (o: {
        suggestedName: string;
    }) => Promise<{ createWritable(): Promise<WritableStream<Uint8Array>> }>;
}

const STREAM_FROM = 64 * 1024 * 1024;
const URL_LIFE_MS = 60_000;

export async function download(api: Api, path: string, name: string, size: number): Promise<void> {
    try {
        const picker = (window as unknown as SavePicker).showSaveFilePicker;
        if (picker && size > STREAM_FROM) {
            const handle = await picker.call(window, { suggestedName: name });
            const res = await api.send(path);
            await res.body?.pipeTo(await handle.createWritable());
            return;
        }
        const url = URL.createObjectURL(await api.blob(path));
        const a = document.createElement("a");
        a.href = url;
        a.download = name;
        a.click();
        setTimeout(() => URL.revokeObjectURL(url), URL_LIFE_MS);
    } catch (e) {
        if (!(e instanceof DOMException && e.name === "AbortError")) {
            complain(`${name} could not be downloaded. ${messageOf(e)}`);
        }
    }
}
