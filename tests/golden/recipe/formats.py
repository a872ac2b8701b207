"""Blocks of every GGUF format with what `gguf.dequantize` makes of them: truth for the decoding in kernels.

Random bytes rather than quantised weights, because they reach every bit pattern. Only the f16 scales are chosen: a scale
of NaN or infinity is not a valid block. Six of the rows are extreme.
"""

from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, dequantize
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

ROWS, COLUMNS = 24, 512
# Byte offsets of the f16 scales in a block.
SCALES_AT = {
    Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2],
    Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}  # fmt: skip
SMALLEST_SUBNORMAL, LARGEST_SUBNORMAL, LARGE = 2.0**-24, 2.0**-14 - 2.0**-24, 1000.0


def quantised(kind, rng):
    block, size = GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (ROWS, COLUMNS // block, size), dtype=np.uint8)
    offsets = SCALES_AT[kind]
    scales = np.float16(rng.normal(0, 0.05, (ROWS, COLUMNS // block, len(offsets))))
    raw[0], raw[1] = 0x00, 0xFF  # every quant (and K-quant sub-scale) smallest, largest
    scales[2] = 0
    scales[3] = SMALLEST_SUBNORMAL
    scales[4] = -LARGEST_SUBNORMAL
    scales[5] = LARGE
    for i, at in enumerate(offsets):
        raw[..., at : at + 2] = np.ascontiguousarray(scales[..., i : i + 1]).view(np.uint8)
    return raw.reshape(ROWS, -1)


def halves(rng):
    """Every exponent and sign of f16, subnormals included; no NaN or infinity."""
    bits = rng.integers(0, 1 << 16, (ROWS, COLUMNS), dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] &= 0xBFFF
    bits[0, :4] = [0x0000, 0x8000, 0x0001, 0x7BFF]
    return bits.view(np.uint8)


def bfloats(rng):
    """Signs, zeros and normal values between 2^-60 and 2^60; GPUs may flush smaller ones, and no weight is larger."""
    values = rng.standard_normal((ROWS, COLUMNS)) * 2.0 ** rng.integers(-60, 60, (ROWS, COLUMNS))
    values[0, :2] = [0.0, -0.0]
    return np.ascontiguousarray(values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)


def write(path: Path):
    print("formats")
    rng = np.random.default_rng(900)
    tensors = {}
    for kind in [*SCALES_AT, Type.F16, Type.BF16]:
        raw = quantised(kind, rng) if kind in SCALES_AT else halves(rng) if kind == Type.F16 else bfloats(rng)
        values = dequantize(raw, kind)
        if values.shape != (ROWS, COLUMNS) or not np.isfinite(values).all():
            raise SystemExit(f"{kind.name}: not a finite {ROWS} x {COLUMNS}")
        tensors[f"{kind.name}.raw"], tensors[f"{kind.name}.f32"] = raw, values
    save_file(tensors, path)
