// SPDX-License-Identifier: Apache-2.0
// Why: what the column editor holds while it is edited, its checks, and what it sends. The checks
// only save a round trip: the gateway decides.
import type { Column, ColumnType } from "./types";

export interface ColumnDraft {
    key: number;
    name: string;
    type: ColumnType;
    description: string;
    required: boolean;
    enumText: string;
    currency: string;
    dateOrder: string;
    items: ColumnDraft[];
}

let nextKey = 1;

export function draft(name = "", type: ColumnType = "string", more: Partial<ColumnDraft> = {}): ColumnDraft {
    return {
        key: nextKey++,
        name,
        type,
        description: "",
        required: false,
        enumText: "",
        currency: "",
        dateOrder: "",
        items: [],
        ...more,
    };
}

export interface Template {
    id: string;
    label: string;
    columns: () => ColumnDraft[];
}

export const TEMPLATES: readonly Template[] = [
    {
        id: "invoice",
        label: "Invoices",
        columns: () => [
            draft("Invoice number", "string", { required: true, description: "The number the issuer gave the invoice" }),
            draft("Invoice date", "date", { required: true, description: "The day the invoice was issued" }),
            draft("Due date", "date", { description: "The last day for payment" }),
            draft("Supplier", "string", { description: "The company that issued the invoice" }),
            draft("Total", "money", { required: true, description: "The amount to pay, tax included" }),
            draft("Tax", "money", { description: "The tax included in the total" }),
        ],
    },
    {
        id: "contract",
        label: "Contracts",
        columns: () => [
            draft("Title", "string", { description: "What the document calls itself" }),
            draft("Party A", "string", { description: "The first party" }),
            draft("Party B", "string", { description: "The second party" }),
            draft("Effective date", "date", { description: "The day the contract takes effect" }),
            draft("Term in months", "integer"),
        ],
    },
    { id: "blank", label: "Blank", columns: () => [draft("", "string")] },
];

export function enumValues(text: string): string[] {
    const out: string[] = [];
    for (const part of text.split(/[,\n]/)) {
        const v = part.trim();
        if (v && !out.includes(v)) {
            out.push(v);
        }
    }
    return out;
}

export function toColumn(d: ColumnDraft): Column {
    const c: Column = { name: d.name.trim(), type: d.type };
    if (d.description.trim()) {
        c.description = d.description.trim();
    }
    if (d.required) {
        c.required = true;
    }
    if (d.type === "enum") {
        c.enum = enumValues(d.enumText);
    }
    if (d.type === "money" && d.currency.trim()) {
        c.currency = d.currency.trim().toUpperCase();
    }
    if ((d.type === "date" || d.type === "datetime") && d.dateOrder) {
        c.dateOrder = d.dateOrder;
    }
    if (d.type === "rows") {
        c.itemColumns = d.items.map(toColumn);
    }
    return c;
}

/** What is wrong, by the key of the column it is about; an empty map means nothing. */
export function checkColumns(columns: readonly ColumnDraft[]): Map<number, string> {
    const wrong = new Map<number, string>();
    const seen = new Set<string>();
    for (const c of columns) {
        const name = c.name.trim();
        const folded = name.toLowerCase();
        if (!name) {
            wrong.set(c.key, "Give this column a name.");
        } else if (seen.has(folded)) {
            wrong.set(c.key, `There are two columns named “${name}”.`);
        } else if (c.type === "enum" && enumValues(c.enumText).length === 0) {
            wrong.set(c.key, "List the values this column may have.");
        } else if (c.type === "enum" && enumValues(c.enumText).length > 50) {
            wrong.set(c.key, "At most 50 values.");
        } else if (c.type === "money" && c.currency.trim() && !/^[A-Za-z]{3}$/.test(c.currency.trim())) {
            wrong.set(c.key, "A currency has three letters, for example EUR.");
        } else if (c.type === "rows" && c.items.length === 0) {
            wrong.set(c.key, "Add at least one column to the table.");
        } else if (new TextEncoder().encode(c.description).length > 1000) {
            wrong.set(c.key, "The description is longer than 1,000 bytes.");
        }
        seen.add(folded);
        if (c.type === "rows") {
            for (const [k, v] of checkColumns(c.items)) {
                wrong.set(k, v);
            }
        }
    }
    return wrong;
}

/** Points at a column for the JSON pointer of a validation error, such as /columns/2/name. */
export function pointerToKey(columns: readonly ColumnDraft[], pointer: string): number | undefined {
    const m = /^\/?columns\/(\d+)(?:\/itemColumns\/(\d+))?/.exec(pointer);
    if (!m) {
        return undefined;
    }
    const top = columns[Number(m[1])];
    return m[2] === undefined ? top?.key : (top?.items[Number(m[2])]?.key ?? top?.key);
}
