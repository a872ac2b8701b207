// What the expert map shows, from the engine's figures.

import type { ModelInfo, Stats } from "../moxel.js";

export interface Cell {
  layer: number;
  expert: number;
  /** How often it was chosen since the model was loaded, and as a share of its layer's tokens. */
  chosen: number;
  share: number;
  resident: boolean;
  /** Whether it was chosen since the figures before these. */
  recent: boolean;
}

export interface Row {
  layer: number;
  hits: number;
  misses: number;
  cells: Cell[];
}

export function expertRows(info: ModelInfo, stats: Stats, before: Stats | undefined): Row[] {
  const layers = stats.experts?.layers ?? [];
  return layers.map(({ layer, hits, misses, chosen }, index) => {
    const earlier = before?.experts?.layers[index]?.chosen;
    const resident = stats.resident?.[index];
    // Each token chooses k experts of a layer.
    const tokens = chosen.reduce((sum, count) => sum + count, 0) / Math.max(info.expertsPerToken, 1);
    const cells = chosen.map((count, expert) => ({
      layer,
      expert,
      chosen: count,
      share: tokens > 0 ? count / tokens : 0,
      resident: resident ? resident[expert] === 1 : true,
      recent: earlier !== undefined && count > (earlier[expert] ?? 0),
    }));
    return { layer, hits, misses, cells };
  });
}

export function describe({ layer, expert, chosen, share, resident }: Cell): string {
  const often = chosen === 0 ? "not chosen yet" : `chosen ${chosen} ${chosen === 1 ? "time" : "times"}, by ${Math.round(100 * share)} % of the tokens`;
  return `Layer ${layer}, expert ${expert}: ${often}; ${resident ? "on the GPU" : "streamed when chosen"}`;
}
