// SPDX-License-Identifier: Apache-2.0
// Why: runs tests/*.test.ts with Node's own test runner. esbuild, which Vite brings, bundles them
// first, because Node 18 reads no TypeScript.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = join(root, ".tests");
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const entries = readdirSync(join(root, "tests")).filter((f) => f.endsWith(".test.ts"));
await build({
    entryPoints: entries.map((f) => join(root, "tests", f)),
    outdir: out,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node18",
    outExtension: { ".js": ".mjs" },
    sourcemap: "inline",
    logLevel: "warning",
});
const files = entries.map((f) => join(out, f.replace(/\.ts$/, ".mjs")));
const r = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit" });
rmSync(out, { recursive: true, force: true });
process.exit(r.status ?? 1);
