// SPDX-License-Identifier: Apache-2.0
// Why: the parts that the tables of the operator's page have in common.
import type { ComponentChildren } from "preact";

/** A column's name; those of numbers stand to the right. The last column is of buttons. */
export type OpsColumn = string | { num: string };

export function OpsTable({ columns, action, children }: { columns: OpsColumn[]; action: string; children: ComponentChildren }) {
    return (
        <div class="ops-scroll">
            <table class="ops-table">
                <thead>
                    <tr>
                        {columns.map((c) => (typeof c === "string" ? <th key={c} scope="col">{c}</th> : <th key={c.num} scope="col" class="num">{c.num}</th>))}
                        <th scope="col"><span class="sr-only">{action}</span></th>
                    </tr>
                </thead>
                <tbody>{children}</tbody>
            </table>
        </div>
    );
}

export function Tag({ tone, text }: { tone: string; text: string }) {
    return <span class={`tag ${tone}`}><span class="dot" aria-hidden="true" /> {text}</span>;
}
