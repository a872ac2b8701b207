"""Writes the GGUF files of this folder with the Python package `gguf` (pip install gguf), and what its
reader finds in them as expected.json. Run it in this folder; the results are in git."""

import json
import pathlib

import gguf
import numpy as np

rng = np.random.default_rng(1)


def raw(quant, rows, row_len):
    """Random bytes of the right size: only the layout is under test."""
    block, size = gguf.GGML_QUANT_SIZES[quant]
    return rng.integers(0, 256, (rows, row_len // block * size), dtype=np.uint8)


def all_types():
    writer = gguf.GGUFWriter("all_types.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("t.u8", 255)
    writer.add_int8("t.i8", -128)
    writer.add_uint16("t.u16", 65535)
    writer.add_int16("t.i16", -32768)
    writer.add_uint32("t.u32", 2**32 - 1)
    writer.add_int32("t.i32", -(2**31))
    writer.add_uint64("t.u64", 2**64 - 1)
    writer.add_int64("t.i64", -(2**63))
    writer.add_float32("t.f32", 1e-5)
    writer.add_float64("t.f64", 1.0 / 3.0)
    writer.add_bool("t.yes", True)
    writer.add_bool("t.no", False)
    writer.add_string("t.text", "naïve 漢字 🦀")
    writer.add_array("t.strings", ["<|a|>", "Ġthe", "", "é"])
    writer.add_array("t.ints", [-1, 0, 7])
    writer.add_array("t.floats", [0.5, -2.25])
    writer.add_array("t.bools", [True, False, True])
    q = gguf.GGMLQuantizationType
    writer.add_tensor("f32.weight", rng.standard_normal((3, 5), dtype=np.float32))
    writer.add_tensor("f16.weight", rng.standard_normal((2, 3, 7), dtype=np.float32).astype(np.float16))
    for quant in (q.BF16, q.Q8_0, q.Q4_0, q.Q4_1, q.Q5_0, q.Q5_1, q.Q4_K, q.Q5_K, q.Q6_K, q.IQ4_XS, q.MXFP4):
        rows, row_len = (3, 512) if gguf.GGML_QUANT_SIZES[quant][0] == 256 else (5, 96)
        writer.add_tensor(f"{quant.name.lower()}.weight", raw(quant, rows, row_len), raw_dtype=quant)
    writer.add_tensor("i32.buffer", np.arange(6, dtype=np.int32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def split():
    writer = gguf.GGUFWriter("split.gguf", "llama", split_max_tensors=2)
    writer.add_uint32("llama.block_count", 5)
    for index in range(5):
        writer.add_tensor(f"blk.{index}.weight", np.full((2, 3), index, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def value(field):
    if field.types[0] == gguf.GGUFValueType.ARRAY:
        if field.types[-1] == gguf.GGUFValueType.STRING:
            return [bytes(field.parts[i]).decode() for i in field.data]
        return [field.parts[i][0].item() for i in field.data]
    if field.types[0] == gguf.GGUFValueType.STRING:
        return bytes(field.parts[-1]).decode()
    return field.parts[-1][0].item()


def describe(path):
    reader = gguf.GGUFReader(path)
    config = {f.name: value(f) for f in reader.fields.values() if not f.name.startswith("GGUF.")}
    tensors = []
    for t in reader.tensors:
        data = bytes(t.data.tobytes())
        assert len(data) == t.n_bytes
        tensors.append(
            {
                "name": t.name,
                "dtype": t.tensor_type.name,
                "shape": [int(d) for d in reversed(t.shape)],
                "start": int(t.data_offset),
                "bytes": int(t.n_bytes),
                "head": data[:8].hex(),
                "tail": data[-8:].hex(),
            }
        )
    return {"config": config, "tensors": tensors}


all_types()
split()
files = sorted(pathlib.Path(".").glob("*.gguf"))
expected = {str(path): describe(path) for path in files}
pathlib.Path("expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
