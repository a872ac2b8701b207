// A server and a browser for one file of tests.

import { mkdtemp, rm } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import path from "node:path";
import { chromium } from "playwright-core";
import { serve } from "../../serve.mjs";

const FLAGS = [
  "--no-sandbox", "--enable-unsafe-webgpu", "--no-first-run", "--disable-quic", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const BROWSERS = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/google-chrome"];
const web = fileURLToPath(new URL("../..", import.meta.url));

export const repository = path.join(web, "..");
/** Where tests leave screenshots for people to look at. */
export const screenshots = path.join(web, "tests", "screenshots");

/** Where a tiny checkpoint with known logits lies. */
export const golden = (name) => path.join(repository, "tests/golden", name);

/**
 * Starts a server with the page at `/`, the package at `/pkg/` and `models` (name: path) under `/models/`, and a browser
 * with an empty profile.
 */
export async function start({ models = {}, flags = [], viewport = { width: 1280, height: 860 } } = {}) {
  const folders = { "/": path.join(web, "dist"), "/pkg/": path.join(web, "pkg"), "/blank/": path.join(web, "tests/harness/blank") };
  for (const [name, model] of Object.entries(models)) folders[`/models/${name}`] = model;
  const site = new Site(folders);
  await site.open();
  const executablePath = BROWSERS.find((browser) => browser && existsSync(browser));
  if (!executablePath) throw new Error("no browser found; install Chromium, or name one in CHROMIUM");
  const profile = await mkdtemp(path.join(tmpdir(), "moxel-profile-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath, headless: true, args: [...FLAGS, ...flags], viewport,
  });
  return {
    site,
    context,
    /** A new page whose console and errors are printed when `print` is set, and kept in `page.said`. */
    async page(address = "/blank/index.html") {
      const page = await context.newPage();
      page.said = [];
      page.on("console", (message) => page.said.push(`[${message.type()}] ${message.text()}`));
      page.on("pageerror", (error) => page.said.push(`[pageerror] ${error.stack ?? error}`));
      await page.goto(site.url + address);
      return page;
    },
    async close() {
      await context.close();
      await site.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** The server, with a log of what was asked of it and a place for faults. */
class Site {
  /** Answers so far: { method, path, range, status, bytes }. */
  log = [];
  /** May answer a request itself: (request, response) => boolean. */
  fault = () => false;
  #folders;
  #server;

  constructor(folders) {
    this.#folders = folders;
  }

  /** Starts to answer, at the same address as before. */
  async open() {
    const port = this.url ? Number(new URL(this.url).port) : 0;
    this.#server = await serve({
      folders: this.#folders,
      port,
      intercept: (request, response) => this.fault(request, response),
      finished: (answer) => this.log.push(answer),
    });
    this.url = this.#server.url;
  }

  /** Is gone, as when the network is. */
  close() {
    return this.#server.close();
  }

  /** Answers for models since the log was emptied. */
  weights() {
    return this.log.filter((answer) => answer.path.startsWith("/models/"));
  }
}

/** The address of a model as the page sees it. */
export const model = (name) => `/models/${name}`;
