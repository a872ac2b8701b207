"""Encoders for Q4_K, Q5_K and Q6_K, which the gguf package can only decode.

Plain encodings, not llama.cpp's searched ones: what is wanted is valid blocks with scales and minima of every kind. The
truth is always what `gguf.dequantize` makes of the bytes.
"""

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quantize as quantize_with_gguf

BLOCK = 256


def as_f16_bytes(values):
    return values.astype(np.float16).view(np.uint8).reshape(len(values), 2)


def divide(a, b):
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape), np.float32), where=b != 0)


def pack_scales(scales, minima):
    """Eight 6-bit scales and eight 6-bit minima in 12 bytes, as ggml lays them out."""
    scales, minima = scales.astype(np.uint8), minima.astype(np.uint8)
    low_scales = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    low_minima = minima[:, :4] | (minima[:, 4:] >> 4) << 6
    high = (scales[:, 4:] & 0x0F) | (minima[:, 4:] & 0x0F) << 4
    return np.concatenate([low_scales, low_minima, high], axis=1)


def quantize_with_minima(blocks, levels):
    """(d, dmin, scales, minima, quants): x is about d * scale * q - dmin * minimum, eight groups of 32."""
    groups = blocks.reshape(-1, 8, 32)
    lowest = np.maximum(-groups.min(-1), 0)
    scale = (groups.max(-1) + lowest) / (levels - 1)
    d = np.float16(scale.max(-1, keepdims=True) / 63).astype(np.float32)
    dmin = np.float16(lowest.max(-1, keepdims=True) / 63).astype(np.float32)
    scales = np.rint(divide(scale, d)).clip(0, 63)
    minima = np.rint(divide(lowest, dmin)).clip(0, 63)
    step, offset = (d * scales)[..., None], (dmin * minima)[..., None]
    quants = np.rint(divide(groups + offset, step)).clip(0, levels - 1).astype(np.uint8)
    return d, dmin, scales, minima, quants


def nibbles(quants):
    """Pairs of 32-value groups share 32 bytes: the even group in the low nibbles, the odd one in the high ones."""
    pairs = (quants & 0x0F).reshape(len(quants), 4, 2, 32)
    return (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(len(quants), 128)


def q4_k(blocks):
    d, dmin, scales, minima, quants = quantize_with_minima(blocks, 16)
    return np.concatenate([as_f16_bytes(d), as_f16_bytes(dmin), pack_scales(scales, minima), nibbles(quants)], axis=1)


def q5_k(blocks):
    d, dmin, scales, minima, quants = quantize_with_minima(blocks, 32)
    fifth_bits = np.zeros((len(blocks), 32), np.uint8)
    for group in range(8):  # bit `group` of byte i belongs to value i of that group
        fifth_bits |= (quants[:, group] >> 4) << group
    head = [as_f16_bytes(d), as_f16_bytes(dmin), pack_scales(scales, minima)]
    return np.concatenate(head + [fifth_bits, nibbles(quants)], axis=1)


def q6_k(blocks):
    groups = blocks.reshape(-1, 16, 16)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)[..., 0]
    scale = extreme / -32
    d = np.float16(np.abs(scale).max(-1, keepdims=True) / 127).astype(np.float32)
    scales = np.rint(divide(scale, d)).clip(-128, 127)
    quants = np.rint(divide(groups, (d * scales)[..., None])).clip(-32, 31) + 32
    quants = quants.astype(np.uint8).reshape(-1, 2, 4, 32)  # halves of 128, each four groups of 32
    low = np.concatenate([(quants[:, :, i] & 0x0F) | (quants[:, :, i + 2] & 0x0F) << 4 for i in (0, 1)], axis=-1)
    high = sum((quants[:, :, i] >> 4) << 2 * i for i in range(4))
    count = len(blocks)
    scale_bytes = scales.astype(np.int8).view(np.uint8)
    return np.concatenate([low.reshape(count, 128), high.reshape(count, 64), scale_bytes, as_f16_bytes(d)], axis=1)


ENCODERS = {Type.Q4_K: q4_k, Type.Q5_K: q5_k, Type.Q6_K: q6_k}


def quantize(values, kind):
    """Bytes of `values` [rows, columns] in the GGUF type `kind`."""
    if kind not in ENCODERS:
        return quantize_with_gguf(values, kind)
    encoded = ENCODERS[kind](values.reshape(-1, BLOCK).astype(np.float32))
    return encoded.astype(np.uint8).reshape(*values.shape[:-1], -1)
