// SPDX-License-Identifier: Apache-2.0
// Why: drives signing in and out in a real browser: a wrong password, a session that survives a reload
// and is told when it ends, one's password, sessions and keys. No script may see the cookie.
//
// Environment: DOCFLEET_URL, NAME, PASSWORD, NEW_PASSWORD, OUT (folder for a screenshot of a failure).
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { DOCFLEET_URL: url, NAME: name, PASSWORD: password, NEW_PASSWORD: next } = process.env;
const out = process.env.OUT ?? ".";
const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium-headless-shell",
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
});
const wrong = [];

async function open() {
    const context = await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    page.on("console", (m) => m.type() === "error" && !/ 4(01|22) /.test(m.text()) && wrong.push(m.text()));
    page.on("pageerror", (e) => wrong.push(`script error: ${e.stack ?? e}`));
    await page.goto(url);
    return page;
}

async function signIn(page, pass) {
    await page.getByLabel("Name", { exact: true }).fill(name);
    await page.getByLabel("Password", { exact: true }).fill(pass);
    await page.getByRole("button", { name: "Sign in" }).click();
}

const page = await open();
let code = 0;
try {
    await signIn(page, "not the password");
    await page.getByText("The name or the password is wrong.").waitFor();
    await signIn(page, password);
    await page.getByRole("button", { name: "Sign out", exact: true }).waitFor();
    await page.getByText("Live", { exact: true }).waitFor();
    assert.equal(await page.evaluate(() => document.cookie), "", "no script sees the cookie");
    assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0);
    await page.reload();
    await page.getByRole("button", { name: "Sign out", exact: true }).waitFor();

    // what changes something works with the cookie, too
    await page.getByRole("button", { name: "New dataset" }).first().click();
    await page.getByLabel("Name", { exact: true }).fill("By session");
    await page.getByRole("button", { name: "Create dataset" }).click();
    await page.locator("dialog.form-modal").waitFor({ state: "detached" });
    await page.setInputFiles("#file-input", { name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("x") });
    await page.getByText("1 file accepted").first().waitFor();

    await page.getByRole("button", { name: "Account" }).click();
    const files = page.locator('section[aria-labelledby="usage-title"] tr', { hasText: "Files" });
    await files.waitFor();
    assert.deepEqual((await files.locator("td").allTextContents()).slice(0, 3), ["Files", "1", "4"]);
    await page.getByRole("meter", { name: "Files, part of the limit" }).waitFor();
    await page.screenshot({ path: `${out}/account.png`, fullPage: true });
    await page.getByLabel("Name of the key").fill("from the page");
    await page.getByRole("button", { name: "Make a key" }).click();
    const key = await page.locator(".new-key").textContent();
    assert.match(key, /^dfk_/);
    await page.getByRole("button", { name: "Revoke from the page" }).waitFor();

    const other = await open();
    await signIn(other, password);
    await other.getByRole("button", { name: "Sign out", exact: true }).waitFor();
    await page.getByLabel("Present password").fill(password);
    await page.getByLabel("New password").fill("short");
    await page.getByRole("button", { name: "Change password" }).click();
    await page.getByText(/at least 12 characters/).waitFor();
    await page.getByLabel("New password").fill(next);
    await page.getByRole("button", { name: "Change password" }).click();
    await page.getByText(/password is changed/).waitFor();
    await other.reload(); // its session ended with the old password
    await other.getByLabel("Password", { exact: true }).waitFor();
    await signIn(other, next);
    await other.getByRole("button", { name: "Account" }).click();
    await other.getByRole("button", { name: "End", exact: true }).first().click();
    await other.getByText("That session has ended.").waitFor();
    await page.getByRole("button", { name: "Revoke from the page" }).click(); // with a session that is gone
    await page.getByText("The sign-in has ended. Sign in again.").waitFor();

    await other.getByRole("button", { name: "Sign out", exact: true }).click();
    await other.getByLabel("Password", { exact: true }).waitFor();
    await other.reload();
    await other.getByLabel("Password", { exact: true }).waitFor();

    await page.getByRole("button", { name: "Use an API key instead" }).click();
    await page.getByLabel("API key").fill(key);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("button", { name: "Sign out", exact: true }).waitFor();
    assert.deepEqual(wrong, []);
} catch (e) {
    code = 1;
    console.error(e.stack ?? e, wrong);
    mkdirSync(out, { recursive: true });
    await page.screenshot({ path: join(out, "failure.png") });
} finally {
    await browser.close();
}
process.exit(code);
