// Builds the page: web/app and the package in web/pkg -> web/dist, static files for any server.

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const app = dirname(fileURLToPath(import.meta.url));
const dist = join(app, "../dist");
const pkg = join(app, "../pkg");
/** Of the package only what runs: types and documents are for developers. */
const RUNS = /\.(js|wasm)$/;
const COPIED = ["index.html", "bench.html", "manifest.webmanifest", "models.json", "bench-expected.json"];

/** The engine is not bundled: it is a package of its own that finds its worker and its wasm beside itself. */
const engineBeside = {
  name: "engine-beside",
  setup: ({ onResolve }) => {
    onResolve({ filter: /\/lib\/index\.js$/ }, () => ({ path: "./moxel/moxel.js", external: true }));
  },
};

await rm(dist, { recursive: true, force: true });
await mkdir(join(dist, "moxel"), { recursive: true });
await build({
  entryPoints: {
    app: join(app, "src/main.ts"),
    bench: join(app, "src/bench/main.ts"),
    theme: join(app, "src/theme-start.ts"),
  },
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2024",
  outdir: dist,
  plugins: [engineBeside],
  logLevel: "warning",
});
await build({ entryPoints: { app: join(app, "styles/app.css") }, bundle: true, minify: true, outdir: dist, logLevel: "warning" });
for (const name of COPIED) await cp(join(app, name), join(dist, name));
await cp(join(app, "icons"), join(dist, "icons"), { recursive: true, filter: (path) => !path.endsWith(".mjs") });
for (const name of await readdir(pkg)) {
  if (RUNS.test(name)) await cp(join(pkg, name), join(dist, "moxel", name));
}

const files = (await readdir(dist, { recursive: true, withFileTypes: true }))
  .filter((entry) => entry.isFile())
  .map((entry) => relative(dist, join(entry.parentPath, entry.name)).split(sep).join("/"))
  .sort();
const hash = createHash("sha256");
for (const file of files) hash.update(file).update(await readFile(join(dist, file)));
const worker = await readFile(join(app, "sw.js"), "utf8");
await writeFile(
  join(dist, "sw.js"),
  worker.replace("__FILES__", JSON.stringify(["./", ...files])).replace("__VERSION__", hash.digest("hex").slice(0, 16)),
);
console.log(`web/dist: ${files.length + 1} files`);
