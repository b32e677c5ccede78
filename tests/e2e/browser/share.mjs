// SPDX-License-Identifier: Apache-2.0
// Why: drives a share link in a real browser: its owner makes one on the page, somebody without an
// account opens it, gives the password and downloads the file, once.
//
// Environment: DOCFLEET_URL, DOCFLEET_API_KEY (of an account with one file), FILE (its name), TEXT (what
// is in it), OUT (folder for screenshots).
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { DOCFLEET_URL: url, DOCFLEET_API_KEY: key, FILE: name, TEXT: text } = process.env;
const out = process.env.OUT ?? ".";
mkdirSync(out, { recursive: true });
const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium-headless-shell",
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
});
const wrong = [];

async function open(address) {
    const context = await browser.newContext({ acceptDownloads: true, viewport: { width: 1200, height: 900 } });
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    // The answers that say no are a part of it.
    page.on("console", (m) => m.type() === "error" && !/ (401|404|410|422) /.test(m.text()) && wrong.push(m.text()));
    page.on("pageerror", (e) => wrong.push(`script error: ${e.stack ?? e}`));
    await page.goto(address);
    return page;
}

const page = await open(url);
let guest = page;
let code = 0;
try {
    await page.getByRole("button", { name: "Use an API key instead" }).click();
    await page.getByLabel("API key").fill(key);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("button", { name }).first().click();
    await page.getByRole("tab", { name: "Share" }).click();
    await page.getByText("There are no links to this file.").waitFor();
    await page.getByLabel("Password (empty: none)").fill("short");
    await page.getByRole("button", { name: "Make a link" }).click();
    await page.getByText(/at least 8 characters/).waitFor();
    await page.getByLabel("Password (empty: none)").fill("a word for guests");
    await page.getByLabel(/Downloads at most/).fill("1");
    await page.getByRole("button", { name: "Make a link" }).click();
    const address = await page.locator(".new-link").textContent();
    assert.ok(address.startsWith(`${url}/s/`), address);
    await page.getByText(/with a password, 0 of 1 download/).waitFor();
    await page.screenshot({ path: join(out, "share-owner.png") });

    guest = await open(address);
    await guest.getByText("This file has a password").waitFor();
    assert.ok(!(await guest.content()).includes(name), "nothing is told before the password");
    await guest.getByLabel("Password").fill("not the word");
    await guest.getByRole("button", { name: "Open" }).click();
    await guest.getByText("That was not the password.").waitFor();
    await guest.screenshot({ path: join(out, "share-locked.png") });
    await guest.getByLabel("Password").fill("a word for guests");
    await guest.getByRole("button", { name: "Open" }).click();
    await guest.getByRole("heading", { name }).waitFor();
    await guest.getByText(/1 download left/).waitFor();
    await guest.screenshot({ path: join(out, "share-open.png") });
    const [download] = await Promise.all([guest.waitForEvent("download"), guest.getByRole("link", { name: "Download" }).click()]);
    assert.equal(download.suggestedFilename(), name);
    assert.equal(readFileSync(await download.path(), "utf8"), text);
    await guest.getByText("That was the last download of this link.").waitFor();
    await guest.reload();
    await guest.getByText(/This link has ended/).waitFor();

    await page.getByLabel(/Downloads at most/).fill("");
    await page.getByRole("button", { name: "Make a link" }).click();
    await page.getByText(/until .* 0 downloads/).waitFor();
    const second = await page.locator(".new-link").textContent();
    await guest.goto(second); // no password: the file at once
    await guest.getByRole("heading", { name }).waitFor();
    await page.getByRole("button", { name: "Revoke" }).click();
    await page.getByText("The link has ended.").waitFor();
    await guest.reload();
    await guest.getByText(/This link has ended/).waitFor();
    await guest.goto(`${url}/s/${"0".repeat(32)}`);
    await guest.getByText(/There is no such link/).waitFor();
    assert.deepEqual(wrong, []);
} catch (e) {
    code = 1;
    console.error(e.stack ?? e, wrong);
    await page.screenshot({ path: join(out, "failure.png") });
    await guest.screenshot({ path: join(out, "failure-guest.png") });
} finally {
    await browser.close();
}
process.exit(code);
