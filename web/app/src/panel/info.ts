// What does not change while a model is loaded.

import type { ModelInfo } from "../moxel.js";
import { bytes, count } from "../ui/format.js";
import { Figures } from "./figures.js";

export function modelFigures(info: ModelInfo): Figures {
  const moe = info.moeLayers.length > 0;
  return Figures.of("figure-model", {
    Name: info.name,
    Architecture: `${info.architecture}, ${info.layers} layers`,
    Parameters: info.parameters === undefined ? undefined : count(info.parameters),
    Weights: bytes(info.weightBytes),
    Experts: moe ? `${info.expertsPerToken} of ${info.experts} in ${info.moeLayers.length} layers` : undefined,
    Context: `${info.context} tokens`,
    Kernels: info.kernels,
  });
}

export function adapterFigures({ adapter }: ModelInfo): Figures {
  return Figures.of("figure-adapter", {
    Name: adapter.name || undefined,
    Backend: adapter.backend,
    Tier: adapter.tier,
    "Largest binding": bytes(adapter.maxBindingBytes),
    "Largest buffer": bytes(adapter.maxBufferBytes),
  });
}
