#!/usr/bin/env node
// Serves the page and models on the loopback interface, with byte ranges, as any good static server does.
//
//   node web/serve.mjs [--port N] [--page FOLDER] [--model PATH ...]
//
// Models are GGUF files and models' folders; the page's chooser offers them.

import { createServer } from "node:http";
import { readFile, readdir, stat } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import path from "node:path";
import send from "send";

/**
 * Serves folders and files under prefixes of the URL; the longest prefix wins.
 *
 * `intercept(request, response)` may answer a request itself and return true. `finished({ method, path, range, status,
 * bytes })` is told of every answer, with the bytes of its body that were sent.
 */
export async function serve({ folders, port = 0, intercept = () => false, finished = () => {} }) {
  const prefixes = Object.keys(folders).sort((a, b) => b.length - a.length);
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    report(request, response, pathname, finished);
    // A page that the server is asked for twice in a row must be the newest; models have an ETag to be asked with.
    response.setHeader("Cache-Control", "no-cache");
    if (intercept(request, response)) return;
    const prefix = prefixes.find((prefix) => pathname.startsWith(prefix));
    if (prefix === undefined) return void response.writeHead(404).end();
    const rest = pathname.slice(prefix.length);
    // A mounted file has nothing behind its own path.
    const [root, file] =
      rest === "" && prefix !== "/"
        ? [path.dirname(folders[prefix]), encodeURIComponent(path.basename(folders[prefix]))]
        : [folders[prefix], rest];
    send(request, `/${file}`, { root, cacheControl: false })
      .on("error", (error) => response.writeHead(error.status ?? 500).end())
      .pipe(response);
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

function report(request, response, pathname, finished) {
  let bytes = 0;
  for (const name of ["write", "end"]) {
    const original = response[name];
    response[name] = (chunk, ...rest) => {
      if (chunk && typeof chunk !== "function") bytes += Buffer.byteLength(chunk);
      return original.call(response, chunk, ...rest);
    };
  }
  response.on("close", () => {
    finished({ method: request.method, path: pathname, range: request.headers.range, status: response.statusCode, bytes });
  });
}

/** How the page's chooser lists a model at a path: a GGUF file or a folder. */
async function describe(model) {
  const info = await stat(model);
  const name = path.basename(model);
  if (info.isFile()) return { id: name, name, url: `models/${name}`, bytes: info.size };
  const files = await Promise.all((await readdir(model)).map((file) => stat(path.join(model, file))));
  const config = JSON.parse(await readFile(path.join(model, "config.json"), "utf8"));
  const moe = (config.text_config ?? config).num_local_experts > 1;
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  return { id: name, name, url: `models/${name}/`, bytes, moe, ...(moe && { recommended: { expertBudget: "50%" } }) };
}

async function main() {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "8080" },
      page: { type: "string", default: path.join(here, "dist") },
      model: { type: "string", multiple: true, default: [] },
    },
  });
  // What the page knows about a model, its name and what to load it with, goes before what its files tell.
  const known = JSON.parse(await readFile(path.join(values.page, "models.json"), "utf8")).models;
  const offer = async (model) => {
    const found = await describe(model);
    return { ...found, ...known.find(({ url }) => url === found.url), bytes: found.bytes };
  };
  const models = JSON.stringify({ models: await Promise.all(values.model.map(offer)) });
  const folders = { "/": path.resolve(values.page) };
  for (const model of values.model) folders[`/models/${path.basename(model)}`] = path.resolve(model);
  const intercept = (request, response) => {
    if (request.url !== "/models.json") return false;
    response.setHeader("Content-Type", "application/json").end(models);
    return true;
  };
  const { url } = await serve({ folders, port: Number(values.port), intercept });
  console.log(`Open ${url}/ in a browser with WebGPU. Ctrl-C ends this server.`);
}

const here = path.dirname(fileURLToPath(import.meta.url));
if (process.argv[1] && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(`serve.mjs: ${error.message}`);
    process.exit(1);
  });
}
