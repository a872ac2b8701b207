// Draws the icons that have to be pixels from icon.svg, with Chromium: `node web/app/icons/make.mjs`.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const svg = await readFile(here("icon.svg"), "utf8");
// A maskable icon is cut to any shape: its ground reaches the edges, and the drawing stays in the middle.
const square = svg.replace('rx="14"', 'rx="0"');
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
for (const [name, size, drawing] of [["icon-192.png", 192, svg], ["icon-512.png", 512, svg], ["icon-maskable-512.png", 512, square]]) {
  const page = await browser.newPage({ viewport: { width: size, height: size } });
  await page.setContent(`<style>body{margin:0}svg{display:block;width:${size}px;height:${size}px}</style>${drawing}`);
  await page.screenshot({ path: here(name), omitBackground: true });
  await page.close();
}
await browser.close();
