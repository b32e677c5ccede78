// SPDX-License-Identifier: Apache-2.0
// Why: turns src/ into dist/, which the gateway serves at `/` under a policy that allows no inline
// script, no inline style and no other origin. Nothing here may inline an asset for that reason.
import { defineConfig } from "vite";

const gateway = process.env["DOCFLEET_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
    base: "/",
    esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
    build: {
        target: "es2022",
        outDir: "dist",
        assetsInlineLimit: 0,
        cssCodeSplit: false,
        modulePreload: { polyfill: false },
        reportCompressedSize: true,
    },
    server: { proxy: { "/api": { target: gateway } } },
});
