// SPDX-License-Identifier: Apache-2.0
// The API page: draws the description that the gateway serves, nothing else.
// Invariant: text of the description becomes text nodes only; nothing is fetched but /api/v1/openapi.json.
const METHODS = ["get", "post", "put", "patch", "delete"];
const DEPTH_MAX = 6;

function el(tag, attrs, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attrs ?? {})) {
        node.setAttribute(name, value);
    }
    node.append(...children.filter((c) => c !== null && c !== undefined));
    return node;
}

/* Text with `code` in it as nodes. */
function rich(text) {
    return text.split("`").map((part, i) => (i % 2 === 1 ? el("code", {}, part) : part));
}

function resolver(root) {
    return function resolve(node) {
        for (let hops = 0; node?.$ref && hops < 8; hops++) {
            node = node.$ref.slice(2).split("/")
                .reduce((at, key) => at?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], root);
        }
        return node ?? {};
    };
}

function typeText(schema, resolve) {
    const s = resolve(schema);
    if (s.enum) {
        return s.enum.join(" · ");
    }
    const options = s.oneOf ?? s.anyOf;
    if (options) {
        return options.map((o) => typeText(o, resolve)).join(" or ");
    }
    const types = [s.type ?? (s.properties ? "object" : "any")].flat();
    const item = types.includes("array") && s.items ? ` of ${typeText(s.items, resolve)}` : "";
    return types.join(" or ") + item + (s.format ? ` (${s.format})` : "");
}

function limits(s) {
    const parts = [];
    const add = (name, text) => s[name] !== undefined && parts.push(`${text} ${s[name]}`);
    add("default", "default");
    add("minimum", "at least");
    add("maximum", "at most");
    add("minLength", "length at least");
    add("maxLength", "length at most");
    add("minItems", "items at least");
    add("maxItems", "items at most");
    add("pattern", "pattern");
    return parts.join(", ");
}

function row(name, required, schema, description, resolve) {
    const s = resolve(schema);
    const about = [description ?? s.description, limits(s)].filter(Boolean).join("; ");
    return el("div", { class: "row" }, el("code", required ? { class: "req" } : {}, name),
        el("span", { class: "muted" }, typeText(s, resolve)), el("span", {}, ...rich(about)));
}

/* The members of an object, or of the objects in an array; null when there are none. */
function tree(schema, resolve, depth = 0) {
    let s = resolve(schema);
    while (s.items) {
        s = resolve(s.items);
    }
    const variants = s.oneOf ?? s.anyOf ?? s.allOf;
    if (variants && depth < DEPTH_MAX) {
        const trees = variants.map((v) => tree(v, resolve, depth + 1)).filter(Boolean);
        return trees.length > 0 ? el("div", {}, ...trees) : null;
    }
    if (!s.properties || depth >= DEPTH_MAX) {
        return null;
    }
    const box = el("div", { class: "tree" });
    for (const [name, member] of Object.entries(s.properties)) {
        box.append(row(name, s.required?.includes(name), member, undefined, resolve));
        const inner = tree(member, resolve, depth + 1);
        if (inner) {
            box.append(inner);
        }
    }
    return box;
}

function contents(content, resolve) {
    return Object.entries(content ?? {}).flatMap(([type, media]) => {
        const line = el("p", {}, el("code", {}, type), " ",
            el("span", { class: "muted" }, media.schema ? typeText(media.schema, resolve) : ""));
        return [line, media.schema ? tree(media.schema, resolve) : null];
    });
}

function answers(responses, resolve) {
    return Object.entries(responses).map(([status, ref]) => {
        const answer = resolve(ref);
        const body = contents(answer.content, resolve);
        const head = [el("span", { class: "status" }, status === "default" ? "else" : status), ...rich(answer.description ?? "")];
        return body.length > 0
            ? el("details", { class: "answer" }, el("summary", {}, ...head), ...body)
            : el("div", { class: "answer" }, ...head);
    });
}

function operation(op, resolve) {
    const body = resolve(op.spec.requestBody);
    const params = [...(op.shared ?? []), ...(op.spec.parameters ?? [])].map(resolve);
    const inner = el("div", {});
    if (op.spec.description) {
        inner.append(el("p", {}, ...rich(op.spec.description)));
    }
    if (params.length > 0) {
        inner.append(el("h3", {}, "Parameters"), el("div", {}, ...params.map((p) =>
            row(`${p.name} (${p.in})`, p.required, p.schema, p.description, resolve))));
    }
    if (body.content) {
        inner.append(el("h3", {}, "Body"), ...contents(body.content, resolve).filter(Boolean));
    }
    inner.append(el("h3", {}, "Answers"), ...answers(op.spec.responses ?? {}, resolve));
    return el("details", { class: "op", id: op.spec.operationId },
        el("summary", {}, el("span", { class: `method ${op.method}` }, op.method.toUpperCase()),
            el("span", { class: "path" }, op.path),
            el("span", { class: "muted" }, ...rich(op.spec.summary ?? ""))), inner);
}

function operations(root) {
    return Object.entries(root.paths).flatMap(([path, item]) => METHODS.filter((m) => item[m])
        .map((method) => ({ path, method, spec: item[method], shared: item.parameters })));
}

function openTarget() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.matches("details")) {
        target.open = true;
        target.scrollIntoView();
    }
}

function draw(root) {
    const resolve = resolver(root);
    const nav = document.getElementById("nav");
    const main = document.getElementById("main");
    const search = el("input", { type: "search", placeholder: "Find a call", "aria-label": "Find a call" });
    const found = [];

    nav.append(search);
    main.replaceChildren(el("h1", {}, `${root.info.title} API`), el("p", {}, ...rich(root.info.description ?? "")),
        el("p", { class: "muted" }, "Send the key as ", el("code", {}, "Authorization: Bearer dfk_…"), ". Machines read ",
            el("a", { href: "/api/v1/openapi.json" }, "openapi.json"), "; people use the ", el("a", { href: "/" }, "console"),
            ". A star marks what is required."));
    for (const { name } of root.tags) {
        const ops = operations(root).filter((op) => op.spec.tags?.[0] === name);
        const head = el("h2", {}, name);
        const navHead = el("h4", {}, name);
        main.append(head);
        nav.append(navHead);
        const entries = ops.map((op) => {
            const node = operation(op, resolve);
            const link = el("a", { href: `#${op.spec.operationId}` }, ...rich(op.spec.summary ?? op.spec.operationId));
            main.append(node);
            nav.append(link);
            return { node, link, text: `${op.method} ${op.path} ${op.spec.summary ?? ""} ${op.spec.operationId}`.toLowerCase() };
        });
        found.push({ head, navHead, entries });
    }
    search.addEventListener("input", () => {
        const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        for (const { head, navHead, entries } of found) {
            let shown = 0;
            for (const { node, link, text } of entries) {
                const fits = words.every((w) => text.includes(w));
                node.hidden = link.hidden = !fits;
                shown += fits ? 1 : 0;
            }
            head.hidden = navHead.hidden = shown === 0;
        }
    });
    window.addEventListener("hashchange", openTarget);
    openTarget();
}

try {
    const answer = await fetch("/api/v1/openapi.json");
    if (!answer.ok) {
        throw new Error(`status ${answer.status}`);
    }
    draw(await answer.json());
} catch (error) {
    document.getElementById("state")?.replaceChildren(`The description cannot be read (${error.message}).`);
}
