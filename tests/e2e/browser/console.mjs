// SPDX-License-Identifier: Apache-2.0
// Why: drives the console in a real browser from sign-in to a dataset row and its removal, against
// a running fleet, as a user would. It uses no API call of its own: what the page shows is the test.
// Any content policy violation, script error or request to another origin fails it.
//
// Environment: DOCFLEET_URL, DOCFLEET_API_KEY, FIXTURE_PDF, FIXTURE_TXT (paths; the PDF has a value
// for the column "Invoice number"), TEXT_PDF and TEXT_TXT (text that must be shown), OUT (folder for
// screenshots of a failure), CHROMIUM, WAIT_S (longest wait for a file, default 60).
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { chromium } from "playwright-core";

function need(name) {
    const v = process.env[name];
    if (!v) {
        console.error(`${name} is not set`);
        process.exit(2);
    }
    return v;
}

const url = need("DOCFLEET_URL").replace(/\/$/, "");
const key = need("DOCFLEET_API_KEY");
const pdf = need("FIXTURE_PDF");
const txt = need("FIXTURE_TXT");
const textPdf = process.env.TEXT_PDF ?? "";
const textTxt = process.env.TEXT_TXT ?? "";
const out = process.env.OUT ?? join(import.meta.dirname ?? ".", "out");
const waitMs = Number(process.env.WAIT_S ?? 60) * 1000;
const origin = new URL(url).origin;

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium-headless-shell",
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
});
const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
const page = await context.newPage();
page.setDefaultTimeout(15_000);

const wrong = [];
let expect401 = false;
let removing = false;
page.on("console", (m) => {
    const refusedKey = expect401 && m.text().includes("401");
    // A look at a file may be on its way while the file is removed.
    const lateLook = removing && m.text().includes("404") && m.location().url.includes("/api/v1/files/");
    const expected = refusedKey || lateLook;
    if ((m.type() === "error" || m.text().includes("Content Security Policy")) && !expected) {
        wrong.push(`console ${m.type()}: ${m.text()} (${m.location().url})`);
    }
});
page.on("pageerror", (e) => wrong.push(`script error: ${e.stack ?? e}`));
page.on("request", (r) => {
    if (!r.url().startsWith(origin) && !/^(blob|data):/.test(r.url())) {
        wrong.push(`request to another origin: ${r.url()}`);
    }
});
page.on("response", (r) => {
    if (r.status() >= 500) {
        wrong.push(`${r.status()} ${r.request().method()} ${r.url()}`);
    }
});
await page.exposeFunction("reportViolation", (v) => wrong.push(`content policy: ${v}`));
await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (e) => {
        window.reportViolation(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`);
    });
});

const began = Date.now();
let step = "";
function begin(name) {
    step = name;
    console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(6)} s  ${name}`);
}

const row = (file) => page.locator("tr[data-file]", { has: page.getByRole("button", { name: basename(file), exact: true }) });
const chip = (name) => page.locator(".chips").getByRole("button", { name: new RegExp(`^${name}`) });

async function count(name) {
    return Number((await chip(name).locator("b").textContent()).replace(/\D/g, ""));
}

async function eventually(what, condition, timeout = 15_000) {
    const end = Date.now() + timeout;
    for (;;) {
        if (await condition()) {
            return;
        }
        if (Date.now() > end) {
            assert.fail(`${what} did not happen within ${timeout / 1000} s`);
        }
        await page.waitForTimeout(50);
    }
}

async function openFile(file) {
    await row(file).locator("button.file-name").click();
    await page.locator("dialog.file-modal[open]").waitFor();
    await eventually("the first page's picture", () =>
        page.evaluate(() => (document.querySelector('.page[data-page="1"] img')?.naturalWidth ?? 0) > 100),
    );
}

async function readText(wanted) {
    await page.getByRole("tab", { name: "Text" }).click();
    const text = page.locator("pre.page-text");
    await text.waitFor();
    const got = await text.textContent();
    assert.ok(got.trim().length > 0, "the text is not empty");
    if (wanted) {
        assert.ok(got.includes(wanted), `the text holds ${JSON.stringify(wanted)}: ${got.slice(0, 500)}`);
    }
}

async function run() {
    begin("the page comes with its content policy");
    const answer = await page.goto(`${url}/`);
    assert.equal(answer.status(), 200);
    const policy = answer.headers()["content-security-policy"] ?? "";
    for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]) {
        assert.ok(policy.includes(part), `the policy has ${part}: ${policy}`);
    }

    begin("a wrong key is refused in plain words");
    expect401 = true;
    await page.getByRole("button", { name: "Use an API key instead" }).click();
    await page.getByLabel("API key").fill("dfk_wrong_key");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("This key is not known here").waitFor();
    expect401 = false;

    begin("sign in");
    await page.getByLabel("API key").fill(key);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("button", { name: "Sign out", exact: true }).waitFor();
    await page.getByText("Live", { exact: true }).waitFor();

    begin("make a dataset with the column editor");
    const name = `Browser ${Date.now()}`;
    await page.getByRole("button", { name: "New dataset" }).first().click();
    await page.getByLabel("Name", { exact: true }).fill(name);
    await page.getByRole("button", { name: "Add column" }).click();
    await page.getByRole("button", { name: "Create dataset" }).click();
    await page.getByText("Give this column a name.").waitFor();
    await page.getByLabel("Name of column 7").fill("Paid");
    await page.getByLabel("Type of Paid").selectOption("enum");
    await page.getByLabel("Values of Paid").fill("yes, no");
    await page.getByRole("button", { name: "Create dataset" }).click();
    await page.locator("dialog.form-modal").waitFor({ state: "detached" });
    assert.equal(await page.getByLabel("Dataset", { exact: true }).locator("option:checked").textContent(), name);

    begin("choose a file, drop another, and try an empty one");
    const empty = { name: "empty.txt", mimeType: "text/plain", buffer: Buffer.alloc(0) };
    await page.setInputFiles("#file-input", pdf);
    await page.getByText("1 file accepted").first().waitFor({ timeout: waitMs });
    const dropped = await page.evaluateHandle(
        ([name, data]) => {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "text/plain" }));
            return transfer;
        },
        [basename(txt), readFileSync(txt).toString("base64")],
    );
    for (const type of ["dragenter", "dragover", "drop"]) {
        await page.dispatchEvent("main.workspace", type, { dataTransfer: dropped });
    }
    await row(txt).waitFor({ timeout: waitMs });
    await page.setInputFiles("#file-input", [empty]);
    await page.locator(".issue-list").getByText("empty.txt").waitFor({ timeout: waitMs });

    begin("both rows become done without a reload");
    for (const f of [pdf, txt]) {
        await row(f).waitFor();
        await eventually(
            `${basename(f)} done`,
            async () => {
                const state = await row(f).getAttribute("data-state");
                assert.notEqual(state, "failed", `${basename(f)}: ${await row(f).textContent()}`);
                return state === "done";
            },
            waitMs,
        );
    }
    begin("the record value stands in the table");
    await eventually("a value for Invoice number", async () => {
        const t = await row(pdf).locator('td[data-column="Invoice number"] .value-text').allTextContents();
        return t.some((x) => x.trim().length > 0);
    });
    await eventually("the thumbnail", () =>
        row(pdf).locator(".thumb img").evaluate((i) => i.naturalWidth > 10).catch(() => false),
    );

    begin("counts add up");
    await eventually("2 files, 2 done", async () => (await count("All")) === 2 && (await count("Done")) === 2);
    await chip("Failed").click();
    await page.getByText("No file matches.").waitFor();
    await page.getByRole("button", { name: "Show all files" }).click();
    await row(pdf).waitFor();
    await page.getByLabel("Search by file name").fill(basename(txt));
    await row(pdf).waitFor({ state: "detached" });
    await row(txt).waitFor();
    await page.getByLabel("Search by file name").fill("");
    await row(pdf).waitFor();

    begin("the dialog shows pages, values with evidence, and text");
    await openFile(pdf);
    const cell = page.locator('.cell[data-column="Invoice number"] .cell-button');
    await cell.click();
    await page.locator(".page .cite-box").first().waitFor();
    await eventually("selectable text on the page", async () => (await page.locator(".text-layer span").count()) > 0);
    await readText(textPdf);
    await page.getByRole("tab", { name: "Timeline" }).click();
    await page.locator(".timeline li").first().waitFor();
    await page.keyboard.press("Escape");
    await page.locator("dialog.file-modal").waitFor({ state: "detached" });
    await openFile(txt);
    await readText(textTxt);

    begin("remove the text file: its row vanishes and stays away");
    removing = true;
    await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
    await page.getByRole("button", { name: "Remove file" }).click();
    await row(txt).waitFor({ state: "detached" });
    await page.locator("dialog.file-modal").waitFor({ state: "detached" });
    await eventually("1 file left", async () => (await count("All")) === 1);
    await page.reload();
    await row(pdf).waitFor();
    assert.equal(await row(txt).count(), 0);

    begin("remove the other through the selection");
    await row(pdf).getByRole("checkbox").check();
    await page.getByRole("toolbar", { name: "Selected files" }).getByRole("button", { name: "Remove" }).click();
    await page.getByRole("button", { name: "Remove file" }).click();
    await row(pdf).waitFor({ state: "detached" });
    await eventually("no file left", async () => (await count("All")) === 0);

    begin("sign out forgets the key");
    await page.getByRole("button", { name: "Sign out", exact: true }).click();
    await page.getByRole("button", { name: "Use an API key instead" }).waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);

    begin("nothing was refused by the content policy and no script failed");
    assert.deepEqual(wrong, []);
}

let code = 0;
try {
    await run();
    console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(6)} s  all steps passed`);
} catch (e) {
    code = 1;
    console.error(`FAILED at "${step}": ${e.stack ?? e}`);
    for (const w of wrong) {
        console.error(`  also: ${w}`);
    }
    try {
        mkdirSync(out, { recursive: true });
        await page.screenshot({ path: join(out, "failure.png") });
        writeFileSync(join(out, "failure.html"), await page.content());
        console.error(`  screenshot: ${join(out, "failure.png")}`);
    } catch (x) {
        console.error(`  no screenshot: ${x}`);
    }
} finally {
    await browser.close();
}
process.exit(code);
