// Modules of the library for tests that need no browser.

import { build } from "esbuild";
import { fileURLToPath } from "node:url";

/** The exports of several files of `web/lib`, bundled together so that they share their classes. */
export async function library(...files) {
  const folder = fileURLToPath(new URL("../../lib/", import.meta.url));
  const contents = files.map((file) => `export * from "./${file}";`).join("\n");
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: folder }, bundle: true, write: false, format: "esm", target: "es2022", logLevel: "error",
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}
