// Results as text: JSON with the rows of `moxel bench` in it, and rows of its Markdown table.

import type { Engine } from "../moxel.js";
import { bytes, count } from "../ui/format.js";
import type { Verdict } from "./expected.js";
import type { BenchRow } from "./measure.js";

export function asJson(engine: Engine, rows: BenchRow[], verdict: Verdict | undefined): string {
  const { adapter } = engine.info;
  const report = {
    date: new Date().toISOString(),
    browser: navigator.userAgent,
    adapter: { ...adapter },
    output: verdict ?? null,
    rows,
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}

export function asMarkdown(rows: BenchRow[]): string {
  const lines = rows.map((row) => {
    const cells = [row.model, bytes(row.model_size), count(row.model_n_params), row.backend, row.adapter, row.test];
    return `| ${cells.join(" | ")} | ${row.tokens_per_second.toFixed(2)} ± ${row.stddev.toFixed(2)} |`;
  });
  return ["| model | size | params | backend | adapter | test | tokens/s |", "|---|---:|---:|---|---|---:|---:|", ...lines, ""].join("\n");
}
