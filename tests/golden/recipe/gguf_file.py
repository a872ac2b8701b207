"""GGUF twins: the same weights as llama.cpp's convert_hf_to_gguf.py lays them out (classes LlamaModel and Llama4Model).

What that layout means for a reader:
- `llama`: q and k rows are permuted from HF's rotate-half order to adjacent pairs. `llama4` is in that order already.
- Experts are stacked as [expert, out, in], gate and up apart; HF has [expert, in, gate|up].
- llama3 RoPE scaling is a tensor of divisors, `rope_freqs.weight`, and not keys.
- Vectors and routers stay F32 whatever the type of the matrices.
- No `llama4` key holds the chunk size (8192), the temperature settings (8192, 0.1), the NoPE period (4) or q/k norm (on,
  unless there are 128 experts): they are constants of llama.cpp. `attention.sliding_window` = 0 means RoPE in every
  layer, no chunks, no temperature.
"""

import math
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM

from .k_quants import quantize

ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "llama4_text": gguf.MODEL_ARCH.LLAMA4}


def all_f16(_name, _shape):
    return Type.F16


def all_bf16(_name, _shape):
    return Type.BF16


# Two layers of seven matrices, the embedding and the head: every format at least once, most in different shapes.
FORMATS = {
    "token_embd": Type.Q6_K, "output": Type.Q8_0,
    "blk.0.attn_q": Type.Q8_0, "blk.0.attn_k": Type.F16, "blk.0.attn_v": Type.F32, "blk.0.attn_output": Type.Q4_0,
    "blk.0.ffn_gate": Type.Q4_1, "blk.0.ffn_up": Type.Q5_0, "blk.0.ffn_down": Type.Q5_1,
    "blk.1.attn_q": Type.Q4_K, "blk.1.attn_k": Type.BF16, "blk.1.attn_v": Type.Q6_K, "blk.1.attn_output": Type.Q5_K,
    "blk.1.ffn_gate": Type.Q5_K, "blk.1.ffn_up": Type.Q6_K, "blk.1.ffn_down": Type.Q4_K,
}  # fmt: skip


def every_format(name, _shape):
    return FORMATS[name.removesuffix(".weight")]


def adjacent_pairs(weight, heads):
    """Rows of each head from (first half, second half) to (first of pair, second of pair)."""
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def rotate_half(weight, heads):
    """The inverse of `adjacent_pairs`."""
    return weight.reshape(heads, -1, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def rope_divisors(config):
    """What llama3 scaling divides each frequency by."""
    rope = config.rope_parameters
    context, low, high = (rope[k] for k in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor"))
    divisors = []
    for i in range(0, config.head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / config.head_dim)
        if wavelength < context / high:
            divisors.append(1.0)
        elif wavelength > context / low:
            divisors.append(rope["factor"])
        else:
            blend = (context / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - blend) / rope["factor"] + blend))
    return np.array(divisors, np.float32)


def tensors(model, config):
    """(GGUF name, float32 array) of every tensor, in the order of the Hugging Face file."""
    names = gguf.get_tensor_name_map(ARCHITECTURES[config.model_type], config.num_hidden_layers)
    if config.rope_parameters["rope_type"] == "llama3":
        yield "rope_freqs.weight", rope_divisors(config)
    for hf_name, tensor in model.state_dict().items():
        if hf_name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.float().numpy()
        stem = hf_name.removesuffix(".weight")
        parts = {stem: array}
        if config.model_type == "llama":
            if stem.endswith("q_proj"):
                parts = {stem: adjacent_pairs(array, config.num_attention_heads)}
            elif stem.endswith("k_proj"):
                parts = {stem: adjacent_pairs(array, config.num_key_value_heads)}
        elif stem.endswith("experts.gate_up_proj"):
            gate, up = np.split(array.swapaxes(1, 2), 2, axis=1)
            parts = {stem.replace("gate_up", "gate"): gate, stem.replace("gate_up", "up"): up}
        elif stem.endswith("experts.down_proj"):
            parts = {stem: array.swapaxes(1, 2)}
        for part, values in parts.items():
            yield names.get_name(part) + ".weight", np.ascontiguousarray(values)


def write(model, case, path: Path, type_of):
    """Writes `model` as GGUF; `type_of(name, shape)` chooses the type of each matrix."""
    config = case.text_config
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[ARCHITECTURES[config.model_type]])
    writer.add_name(case.name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "llama4_text":
        writer.add_feed_forward_length(config.intermediate_size_mlp)
        writer.add_expert_feed_forward_length(config.intermediate_size)
        writer.add_expert_count(config.num_local_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_interleave_moe_layer_step(config.interleave_moe_layer_step)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
    writer.add_tokenizer_model("none")
    for name, values in tensors(model, config):
        plain = values.ndim == 1 or name.endswith("ffn_gate_inp.weight")
        kind = Type.F32 if plain else type_of(name, values.shape)
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.no_grad()
def add_texture(model, seed):
    """Gives groups of 32 inputs different sizes and offsets, so that scales and minima differ within a K-quant block."""
    rng = np.random.default_rng(seed + 1)
    for _, parameter in sorted(model.named_parameters()):
        if parameter.ndim == 2:
            rows, columns = parameter.shape
            size = torch.from_numpy(rng.uniform(0.3, 1.7, (rows, columns // 32, 1)).astype(np.float32))
            offset = torch.from_numpy(rng.normal(0, 0.5 * parameter.std().item(), size.shape).astype(np.float32))
            parameter.copy_((parameter.view(rows, -1, 32) * size + offset).view(rows, columns))


@torch.no_grad()
def read_into(model, case, path: Path):
    """Replaces the weights of a `llama` model by what `gguf.dequantize` reads from the file."""
    config = case.text_config
    read = {
        t.name: gguf.dequantize(t.data, t.tensor_type).reshape([int(n) for n in reversed(t.shape)])
        for t in gguf.GGUFReader(path).tensors
    }
    names = gguf.get_tensor_name_map(ARCHITECTURES[config.model_type], config.num_hidden_layers)
    for hf_name, parameter in model.named_parameters():
        values = read[names.get_name(hf_name.removesuffix(".weight")) + ".weight"]
        if "q_proj" in hf_name:
            values = rotate_half(values, config.num_attention_heads)
        elif "k_proj" in hf_name:
            values = rotate_half(values, config.num_key_value_heads)
        error = np.abs(values - parameter.numpy()).max() / parameter.std().item()
        if error > 1:
            raise SystemExit(f"{path}: {hf_name} came back with an error of {error:.2f} standard deviations")
        parameter.copy_(torch.from_numpy(np.array(values)))


def check_against_transformers(path: Path, model):
    """A second opinion on names, order and values: transformers' own GGUF reader must give the same weights."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / path.name).symlink_to(path.resolve())
        other = AutoModelForCausalLM.from_pretrained(directory, gguf_file=path.name, dtype=torch.float32)
    ours, theirs = model.state_dict(), other.state_dict()
    if ours.keys() != theirs.keys():
        raise SystemExit(f"{path}: transformers reads other tensors: {ours.keys() ^ theirs.keys()}")
    for name, tensor in ours.items():
        if not torch.equal(tensor, theirs[name]):
            raise SystemExit(f"{path}: transformers reads other values in {name}")
