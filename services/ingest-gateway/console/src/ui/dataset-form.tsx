// SPDX-License-Identifier: Apache-2.0
// Why: the form that makes a dataset with its columns. A second press of the button after a cut
// connection sends the same Idempotency-Key, so it never makes two.
import { useRef, useState } from "preact/hooks";
import { type Api, uuid } from "../lib/api";
import { checkColumns, type ColumnDraft, draft, pointerToKey, TEMPLATES, toColumn } from "../lib/columns";
import { typeLabel } from "../lib/format";
import { messageOf, plainError, Problem } from "../lib/problem";
import { COLUMN_TYPES, type ColumnType, type Dataset } from "../lib/types";
import { useModal } from "./hooks";
import { Icon, Spinner } from "./icons";

const MAX_COLUMNS = 100;

export function DatasetForm({
    api,
    onClose,
    onCreated,
}: {
    api: Api;
    onClose: () => void;
    onCreated: (d: Dataset) => void;
}) {
    const ref = useModal(onClose);
    const [name, setName] = useState("");
    const [template, setTemplate] = useState("invoice");
    const [columns, setColumns] = useState<ColumnDraft[]>(() => TEMPLATES[0]?.columns() ?? [draft()]);
    const [busy, setBusy] = useState(false);
    const [error, setError] = useState("");
    const [wrong, setWrong] = useState<Map<number, string>>(new Map());
    const sent = useRef({ body: "", key: "" });

    const choose = (id: string) => {
        setTemplate(id);
        setColumns(TEMPLATES.find((t) => t.id === id)?.columns() ?? [draft()]);
        setWrong(new Map());
    };

    const submit = async (e: Event) => {
        e.preventDefault();
        const bad = checkColumns(columns);
        setWrong(bad);
        if (!name.trim()) {
            setError("Give the dataset a name.");
            return;
        }
        if (columns.length === 0) {
            setError("A dataset needs at least one column.");
            return;
        }
        if (bad.size > 0) {
            setError("Some columns need another look.");
            return;
        }
        const body = { name: name.trim(), columns: columns.map(toColumn) };
        const text = JSON.stringify(body);
        if (sent.current.body !== text) {
            sent.current = { body: text, key: uuid() };
        }
        setBusy(true);
        setError("");
        try {
            onCreated(await api.createDataset(body, sent.current.key));
        } catch (x) {
            setBusy(false);
            setError(messageOf(x));
            if (x instanceof Problem) {
                const more = new Map<number, string>();
                for (const er of x.errors) {
                    const k = pointerToKey(columns, er.pointer ?? "");
                    if (k !== undefined && er.detail) {
                        more.set(k, plainError(er.detail));
                    }
                }
                setWrong(more);
                if (x.status !== 0) {
                    sent.current = { body: "", key: "" };
                }
            }
        }
    };

    return (
        <dialog ref={ref} class="modal form-modal" aria-labelledby="dataset-form-title">
            <form onSubmit={submit} noValidate>
                <header class="modal-head">
                    <h2 id="dataset-form-title">New dataset</h2>
                    <button type="button" class="icon-button" aria-label="Close" onClick={onClose}>
                        <Icon name="close" />
                    </button>
                </header>
                <div class="modal-body">
                    <div class="form-row">
                        <label for="dataset-name">Name</label>
                        <input
                            id="dataset-name"
                            type="text"
                            maxLength={200}
                            autofocus
                            required
                            value={name}
                            placeholder="Supplier invoices"
                            onInput={(e) => setName(e.currentTarget.value)}
                        />
                    </div>
                    <fieldset class="templates">
                        <legend>Start from</legend>
                        {TEMPLATES.map((t) => (
                            <label key={t.id} class="chip-choice">
                                <input
                                    type="radio"
                                    name="template"
                                    checked={template === t.id}
                                    onChange={() => choose(t.id)}
                                />
                                <span>{t.label}</span>
                            </label>
                        ))}
                    </fieldset>
                    <h3>Columns</h3>
                    <p class="hint">
                        One value per document and column. A short description helps to find the right one.
                    </p>
                    <ColumnList columns={columns} wrong={wrong} nested={false} onChange={setColumns} />
                </div>
                <footer class="modal-foot">
                    {error && <p class="error-text" role="alert">{error}</p>}
                    <button type="button" onClick={onClose}>Cancel</button>
                    <button type="submit" class="primary" disabled={busy}>
                        {busy && <Spinner />} Create dataset
                    </button>
                </footer>
            </form>
        </dialog>
    );
}

function ColumnList({
    columns,
    wrong,
    nested,
    onChange,
}: {
    columns: ColumnDraft[];
    wrong: Map<number, string>;
    nested: boolean;
    onChange: (c: ColumnDraft[]) => void;
}) {
    const set = (key: number, change: Partial<ColumnDraft>) =>
        onChange(columns.map((c) => (c.key === key ? { ...c, ...change } : c)));
    const move = (i: number, by: number) => {
        const next = [...columns];
        const [c] = next.splice(i, 1);
        if (c) {
            next.splice(i + by, 0, c);
            onChange(next);
        }
    };
    return (
        <>
            <ol class={nested ? "columns nested" : "columns"}>
                {columns.map((c, i) => (
                    <ColumnEditor
                        key={c.key}
                        column={c}
                        index={i}
                        count={columns.length}
                        nested={nested}
                        wrong={wrong}
                        onSet={(change) => set(c.key, change)}
                        onMove={(by) => move(i, by)}
                        onRemove={() => onChange(columns.filter((x) => x.key !== c.key))}
                    />
                ))}
            </ol>
            <button
                type="button"
                class="quiet"
                disabled={columns.length >= MAX_COLUMNS}
                onClick={() => onChange([...columns, draft()])}
            >
                <Icon name="plus" size={16} /> {nested ? "Add column to the table" : "Add column"}
            </button>
        </>
    );
}

function ColumnEditor({
    column: c,
    index,
    count,
    nested,
    wrong,
    onSet,
    onMove,
    onRemove,
}: {
    column: ColumnDraft;
    index: number;
    count: number;
    nested: boolean;
    wrong: Map<number, string>;
    onSet: (change: Partial<ColumnDraft>) => void;
    onMove: (by: number) => void;
    onRemove: () => void;
}) {
    const bad = wrong.get(c.key);
    const label = c.name || `column ${index + 1}`;
    const types = nested ? COLUMN_TYPES.filter((t) => t !== "rows") : COLUMN_TYPES;
    const badId = `col-bad-${c.key}`;
    return (
        <li class={bad ? "column-edit bad" : "column-edit"}>
            <div class="column-line">
                <input
                    type="text"
                    class="grow"
                    maxLength={200}
                    aria-label={`Name of column ${index + 1}`}
                    aria-invalid={bad ? "true" : undefined}
                    aria-describedby={bad ? badId : undefined}
                    placeholder="Name"
                    value={c.name}
                    onInput={(e) => onSet({ name: e.currentTarget.value })}
                />
                <select
                    aria-label={`Type of ${label}`}
                    value={c.type}
                    onChange={(e) => {
                        const type = e.currentTarget.value as ColumnType;
                        onSet({ type, items: type === "rows" && c.items.length === 0 ? [draft()] : c.items });
                    }}
                >
                    {types.map((t) => <option key={t} value={t}>{typeLabel(t)}</option>)}
                </select>
                <label class="check">
                    <input
                        type="checkbox"
                        checked={c.required}
                        onChange={(e) => onSet({ required: e.currentTarget.checked })}
                    />
                    required
                </label>
                <span class="column-tools">
                    <button type="button" class="icon-button" aria-label={`Move ${label} up`} disabled={index === 0} onClick={() => onMove(-1)}>
                        <Icon name="up" size={16} />
                    </button>
                    <button type="button" class="icon-button" aria-label={`Move ${label} down`} disabled={index === count - 1} onClick={() => onMove(1)}>
                        <Icon name="down" size={16} />
                    </button>
                    <button type="button" class="icon-button" aria-label={`Remove ${label}`} onClick={onRemove}>
                        <Icon name="trash" size={16} />
                    </button>
                </span>
            </div>
            <div class="column-line">
                <input
                    type="text"
                    class="grow small"
                    maxLength={1000}
                    aria-label={`Description of ${label}`}
                    placeholder="Description (what the value means, where it stands)"
                    value={c.description}
                    onInput={(e) => onSet({ description: e.currentTarget.value })}
                />
                {c.type === "money" && (
                    <input
                        type="text"
                        class="small currency"
                        maxLength={3}
                        aria-label={`Usual currency of ${label}`}
                        placeholder="EUR"
                        value={c.currency}
                        onInput={(e) => onSet({ currency: e.currentTarget.value })}
                    />
                )}
                {(c.type === "date" || c.type === "datetime") && (
                    <select
                        class="small"
                        aria-label={`Order of day and month in ${label}`}
                        value={c.dateOrder}
                        onChange={(e) => onSet({ dateOrder: e.currentTarget.value })}
                    >
                        <option value="">any date order</option>
                        <option value="dmy">day month year</option>
                        <option value="mdy">month day year</option>
                        <option value="ymd">year month day</option>
                    </select>
                )}
            </div>
            {c.type === "enum" && (
                <div class="column-line">
                    <input
                        type="text"
                        class="grow small"
                        aria-label={`Values of ${label}, separated by commas`}
                        placeholder="Values, separated by commas: paid, open, overdue"
                        value={c.enumText}
                        onInput={(e) => onSet({ enumText: e.currentTarget.value })}
                    />
                </div>
            )}
            {c.type === "rows" && (
                <ColumnList columns={c.items} wrong={wrong} nested={true} onChange={(items) => onSet({ items })} />
            )}
            {bad && <p id={badId} class="error-text">{bad}</p>}
        </li>
    );
}
