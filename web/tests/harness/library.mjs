// Modules of the library and of the page for tests that need no browser.

import { build } from "esbuild";
import { fileURLToPath } from "node:url";

/** The exports of several files of `web/lib`, as if they were served by `http://host/`. */
export const library = (...files) => modules("lib", files);
/** The exports of several files of `web/app/src`. */
export const application = (...files) => modules("app/src", files);

/** Bundled together, so that they share their classes. */
async function modules(where, files) {
  const folder = fileURLToPath(new URL(`../../${where}/`, import.meta.url));
  const contents = files.map((file) => `export * from "./${file}";`).join("\n");
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: folder }, bundle: true, write: false, format: "esm", target: "es2022", logLevel: "error",
    define: { "import.meta.url": '"http://host/moxel.js"' },
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}
