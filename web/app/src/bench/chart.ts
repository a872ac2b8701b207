import { svg } from "../ui/dom.js";
import type { BenchRow } from "./measure.js";

const HEIGHT = 34;
const LEFT = 70;
const RIGHT = 130;
const WIDTH = 640;

/** A bar for each test, with a dot for each run. The table has the same figures in words. */
export function chart(rows: BenchRow[]): SVGSVGElement {
  const most = Math.max(...rows.flatMap(({ samples, tokens_per_second }) => [...samples, tokens_per_second]), 1e-9);
  const at = (value: number) => LEFT + (value / most) * (WIDTH - LEFT - RIGHT);
  const groups = rows.map(({ test, tokens_per_second, stddev, samples }, index) => {
    const middle = index * HEIGHT + HEIGHT / 2;
    return svg(
      "g",
      {},
      svg("text", { x: LEFT - 12, y: middle, class: "chart-name" }, test),
      svg("rect", { x: LEFT, y: middle - 9, width: Math.max(at(tokens_per_second) - LEFT, 1), height: 18, rx: 3, class: "chart-bar" }),
      ...samples.map((value) => svg("circle", { cx: at(value), cy: middle, r: 2.5, class: "chart-dot" })),
      svg("text", { x: at(Math.max(tokens_per_second, ...samples)) + 10, y: middle, class: "chart-value" }, `${tokens_per_second.toFixed(1)} ± ${stddev.toFixed(1)}`),
    );
  });
  const label = rows.map(({ test, tokens_per_second }) => `${test}: ${tokens_per_second.toFixed(1)} tokens per second`).join(", ");
  return svg("svg", { class: "chart", id: "bench-chart", viewBox: `0 0 ${WIDTH} ${rows.length * HEIGHT}`, role: "img", "aria-label": label }, ...groups);
}
