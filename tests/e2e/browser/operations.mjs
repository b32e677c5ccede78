// SPDX-License-Identifier: Apache-2.0
// Why: drives the operator's page in a real browser: places in the queue while a stage is paused, an
// upload's progress and receipt, letters with their evidence, a replay by dry run, pause and resume; an
// import (two runs of ops-in/ are there) and its versions; an account that is made, limited and locked.
//
// Environment: DOCFLEET_URL, DOCFLEET_API_KEY (of an operator), OUT (folder for screenshots, of each
// step with SHOTS=1, else of a failure), CHROMIUM.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const url = (process.env.DOCFLEET_URL ?? "").replace(/\/$/, "");
const out = process.env.OUT ?? ".";
const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium-headless-shell",
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
});
const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    acceptDownloads: true,
    colorScheme: process.env.DARK ? "dark" : "light",
});
const page = await context.newPage();
page.setDefaultTimeout(20_000);
const wrong = [];
page.on("console", (m) => m.type() === "error" && wrong.push(`${m.text()} (${m.location().url})`));
page.on("pageerror", (e) => wrong.push(`script error: ${e.stack ?? e}`));

async function shot(name, always = false) {
    if (process.env.SHOTS || always) {
        mkdirSync(out, { recursive: true });
        await page.screenshot({ path: join(out, `${name}.png`) });
    }
}

async function stageButton(action, stage) {
    await page.getByRole("button", { name: `${action} ${stage}` }).click();
}

async function run() {
    await page.goto(url);
    await page.getByRole("button", { name: "Use an API key instead" }).click();
    await page.getByLabel("API key").fill(process.env.DOCFLEET_API_KEY ?? "");
    await page.keyboard.press("Enter");

    // A stage is paused: work of it waits, and says where.
    await page.getByRole("button", { name: "Operations" }).click();
    await stageButton("Pause", "Reading text");
    await page.getByRole("row", { name: /Reading text/ }).getByText("paused", { exact: true }).waitFor();
    await shot("stages");

    await page.getByLabel("Dataset").selectOption({ index: 1 });
    const files = ["a.txt", "b.txt", "c.txt"].map((name) => ({ name, mimeType: "text/plain", buffer: Buffer.from("Invoice number: R-1\n") }));
    files.push({ name: "cut.pdf", mimeType: "application/pdf", buffer: Buffer.from("%PDF-1.4 no more") });
    files.push({ name: "empty.txt", mimeType: "text/plain", buffer: Buffer.alloc(0) });
    await page.locator("input[type=file]").first().setInputFiles(files);
    await page.locator(".batch-line").getByText(/of 4 files finished/).waitFor();
    await page.getByText(/Waiting: reading text · place \d/).first().waitFor();
    await shot("waiting");

    await page.getByRole("button", { name: "Operations" }).click();
    await stageButton("Resume", "Reading text");
    await page.goBack();
    await page.locator(".batch-line").getByText(/4 of 4 files finished/).waitFor({ timeout: 60_000 });
    await shot("batch");
    const [got] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Receipt as JSON" }).click()]);
    const receipt = JSON.parse(readFileSync(await got.path(), "utf8"));
    assert.equal(receipt.totals.total, 5);
    assert.equal(receipt.final, true);

    await page.getByRole("button", { name: "Operations" }).click();
    const group = page.locator(".group").filter({ hasText: "Reading text" }).filter({ hasText: "corrupt" });
    await group.click();
    await page.locator(".letter-line").first().click();
    await page.locator(".evidence").getByText("uploads/").waitFor();
    await shot("letters");
    await page.getByRole("button", { name: "Replay…", exact: true }).click();
    await page.getByText(/would go back to work/).waitFor();
    await shot("replay");
    await page.getByRole("button", { name: /^Replay \d+$/ }).click();
    await page.getByText(/went back to work/).waitFor();
    await shot("replayed");

    // An import: its runs, an earlier version, its schedule, a run by hand.
    const row = page.locator("tr[data-import]").filter({ hasText: "ops-in/" });
    await row.getByText("well", { exact: true }).waitFor();
    await row.getByText("0 3 * * * (Europe/Berlin)").waitFor();
    await page.getByRole("button", { name: "Runs of ops-in/" }).click();
    await page.locator('li[data-run="2"]').getByText("published, shown").waitFor();
    await page.getByRole("button", { name: "Show version 1 of ops-in/" }).click();
    await page.getByText("Version 1 is shown; the schedule is paused.").waitFor();
    await page.locator('li[data-run="1"]').getByText("published, shown").waitFor();
    await row.getByText("paused", { exact: true }).waitFor();
    await row.scrollIntoViewIfNeeded();
    await shot("imports");
    await page.getByRole("button", { name: "Resume ops-in/" }).click();
    await row.getByText("well", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Run ops-in/ now" }).click();
    await page.locator('li[data-run="3"]').waitFor();

    // Accounts: one is made, gets limits and a password, and is locked.
    await page.getByRole("button", { name: "Limits of all" }).click();
    const all = page.getByRole("form", { name: "Limits of all accounts" });
    await all.getByLabel("Files").fill("many");
    await all.getByRole("button", { name: "Set limits" }).click();
    await all.getByText(/Files: a number/).waitFor();
    await page.getByRole("button", { name: "Limits of all" }).click();
    await page.getByLabel("Name of the new account").fill("ops-anna");
    await page.getByRole("button", { name: "New account" }).click();
    const limits = page.getByRole("form", { name: "Limits of ops-anna" });
    await limits.getByLabel("Stored").fill("1.5 GiB");
    await limits.getByLabel("Pages").fill("none");
    await limits.getByRole("button", { name: "Set limits" }).click();
    await page.getByText("The limits of ops-anna are set.").waitFor();
    await page.getByLabel("New password").fill("a long enough sentence");
    await page.getByRole("button", { name: "Set password" }).click();
    await page.getByText("ops-anna has a new password").waitFor();
    await page.getByLabel("Share", { exact: true }).fill("2");
    await page.getByRole("button", { name: "Set share" }).click();
    await page.getByText("ops-anna has a share of 2.").waitFor();
    await page.getByLabel("Role of ops-anna").selectOption("operator");
    await page.getByText("ops-anna is operator now.").waitFor();
    await limits.scrollIntoViewIfNeeded();
    await shot("accounts");
    await page.getByRole("button", { name: "Lock", exact: true }).click();
    await page.locator("tr[data-user]").filter({ hasText: "ops-anna" }).getByText("locked").waitFor();
    assert.deepEqual(wrong, []);
}

let code = 0;
try {
    await run();
} catch (e) {
    code = 1;
    console.error(e.stack ?? e, wrong);
    await shot("failure", true);
} finally {
    await browser.close();
}
process.exit(code);
