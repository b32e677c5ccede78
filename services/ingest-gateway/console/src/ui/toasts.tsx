// SPDX-License-Identifier: Apache-2.0
// Why: short messages about what was done or went wrong, read out by screen readers. Errors stay
// until they are closed; the rest leaves by itself.
import { useEffect, useState } from "preact/hooks";
import { messageOf } from "../lib/problem";
import { Icon } from "./icons";

interface Toast {
    id: number;
    text: string;
    bad: boolean;
}

let toasts: Toast[] = [];
let nextId = 1;
const listeners = new Set<() => void>();

function changed(next: Toast[]): void {
    toasts = next;
    for (const l of listeners) {
        l();
    }
}

function close(id: number): void {
    changed(toasts.filter((t) => t.id !== id));
}

export function say(text: string): void {
    const t = { id: nextId++, text, bad: false };
    changed([...toasts.slice(-3), t]);
    setTimeout(() => close(t.id), 6000);
}

export function complain(text: string): void {
    if (!toasts.some((t) => t.bad && t.text === text)) {
        changed([...toasts.slice(-3), { id: nextId++, text, bad: true }]);
    }
}

/** Does one thing and says how it went; then what is shown is read again, where that is needed. */
export function actor(reload: () => Promise<void> = async () => {}) {
    return async (work: () => Promise<unknown>, done: string): Promise<void> => {
        try {
            await work();
            say(done);
            await reload();
        } catch (e) {
            complain(messageOf(e));
        }
    };
}

export function Toasts() {
    const [, set] = useState(0);
    useEffect(() => {
        const l = () => set((n) => n + 1);
        listeners.add(l);
        return () => {
            listeners.delete(l);
        };
    }, []);
    return (
        <div class="toasts">
            <div role="status" aria-live="polite">
                {toasts.filter((t) => !t.bad).map((t) => <ToastView key={t.id} toast={t} />)}
            </div>
            <div role="alert">
                {toasts.filter((t) => t.bad).map((t) => <ToastView key={t.id} toast={t} />)}
            </div>
        </div>
    );
}

function ToastView({ toast }: { toast: Toast }) {
    return (
        <div class={toast.bad ? "toast bad" : "toast"}>
            <Icon name={toast.bad ? "alert" : "check"} />
            <span>{toast.text}</span>
            <button type="button" class="icon-button" aria-label="Close message" onClick={() => close(toast.id)}>
                <Icon name="close" size={16} />
            </button>
        </div>
    );
}
