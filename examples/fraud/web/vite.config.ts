import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

// stamp writes built.txt: the digests of what was built and of what it was built from, one file a line. A test of the Go
// package holds the files in the repository to it, without Node.
function stamp(): Plugin {
  const files = (dir: string): string[] =>
    readdirSync(dir, { withFileTypes: true, recursive: true })
      .filter((e) => e.isFile())
      .map((e) => `${e.parentPath}/${e.name}`);
  return {
    name: "stamp",
    apply: "build",
    closeBundle() {
      const names = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", ...files("src"), ...files("public"), ...files("dist")];
      const lines = names.sort().map((name) => `${createHash("sha256").update(readFileSync(name)).digest("hex")}  ${name}\n`);
      writeFileSync("built.txt", lines.join(""));
    },
  };
}

// The files go to dist, which is committed and embedded in the front-end: whoever builds the Go programs needs no Node.
export default defineConfig({
  plugins: [stamp()],
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    target: "es2022",
    // A data: URL would be one more thing for the content security policy to allow.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Names without digests, so that a change of the source is a change of the same few files in the history. The server
    // has browsers ask whether they have changed.
    rollupOptions: {
      output: {
        entryFileNames: "assets/app.js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/[name][extname]",
      },
    },
  },
  server: { proxy: { "/api": { target: "https://127.0.0.1:8443", secure: false } } },
});
