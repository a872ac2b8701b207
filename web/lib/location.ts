/** From what a page calls a model to where its files are. */

import { MoxelError } from "./errors.js";
import type { Place } from "./protocol.js";
import type { ModelLocation } from "./types.js";

/** A part of a split GGUF file, as llama.cpp's gguf-split names it. */
const SPLIT = /-\d{5}-of-(\d{5})\.gguf$/i;

export function locate(model: ModelLocation, base: string | undefined): Place {
  if (typeof model === "string" || model instanceof URL) return locateUrl(model, base);
  const files = model instanceof File ? [model] : model;
  if (!Array.isArray(files) || files.length === 0 || !files.every((file) => file instanceof File)) {
    throw new MoxelError("request", "model must be a URL, a File, or a list of Files that is not empty");
  }
  return locateFiles(files);
}

/** The key of a model in the cache: its URL without what may be secret or differ between visits. */
export function cacheUrl(model: string | URL, base: string | undefined): string {
  const place = locateUrl(model, base);
  return place.kind === "web" ? place.url : "";
}

function locateUrl(model: string | URL, base: string | undefined): Place {
  let url: URL;
  try {
    url = new URL(model, base);
  } catch {
    throw new MoxelError("request", `model is ${JSON.stringify(String(model))}, which is no URL`);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new MoxelError("request", `model is a URL of ${url.protocol}, but only http: and https: can be read; pick files for others`);
  }
  if (url.username !== "" || url.password !== "") {
    throw new MoxelError("request", "model is a URL with a user or password in it, which browsers do not send");
  }
  const query = url.search;
  url.search = url.hash = "";
  const name = url.pathname.slice(url.pathname.lastIndexOf("/") + 1);
  const isFile = /\.(gguf|safetensors)$/i.test(name);
  if (!isFile && name !== "") url.pathname += "/";
  const folder = new URL(".", url).href;
  const entry = isFile ? decodeName(name) : "";
  // One shard of a model stands for the model.
  const isShard = /^model(-\d{5}-of-\d{5})?\.safetensors$/.test(entry);
  return { kind: "web", url: isShard ? folder : url.href, folder, query, entry: isShard ? "" : entry };
}

function decodeName(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    throw new MoxelError("request", `model is a URL whose file name ${JSON.stringify(name)} is not UTF-8`);
  }
}

/** Picks the model out of files that may have come with a directory: those nearest to its top count. */
function locateFiles(picked: readonly File[]): Place {
  const depth = (file: File) => file.webkitRelativePath.split("/").length;
  const files = new Map<string, File>();
  for (const file of [...picked].sort((one, other) => depth(one) - depth(other))) {
    if (!files.has(file.name)) files.set(file.name, file);
  }
  const fail = (problem: string) => new MoxelError("read", problem);
  const name = picked[0]?.webkitRelativePath.split("/")[0] ?? "";
  const has = (file: string) => files.has(file);
  // GGUF repositories often carry the original config.json too, so that alone decides nothing.
  const weights = ["model.safetensors", "model.safetensors.index.json", "moxel.json"];
  if (has("config.json") && weights.some(has)) return { kind: "files", name, files, entry: "" };
  const models = new Set<string>();
  for (const file of files.keys()) {
    if (/\.gguf$/i.test(file)) models.add(file.replace(SPLIT, "-00001-of-$1.gguf"));
  }
  const [entry, ...others] = [...models].sort();
  if (entry === undefined) {
    const what = picked.length === 1 ? `${picked[0]?.name} is no model` : "there is no model among the files";
    throw fail(`${what}: pick a .gguf file, or a directory with config.json and model.safetensors (or its index) in it`);
  }
  if (others.length > 0) throw fail(`there are several models among the files, pick one of them: ${[entry, ...others].join(", ")}`);
  return { kind: "files", name, files, entry };
}
