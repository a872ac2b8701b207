"""The cases: one tiny model each, named after what it shows.

Sizes are odd on purpose (vocabularies 643, 515, 259, 257; widths that no tile divides) and small enough for git. Every
number that changes the mathematics is small enough to matter within 75 tokens: chunks, temperature steps, RoPE scaling.
"""

from dataclasses import dataclass, field

import torch
from transformers import Llama4Config, Llama4TextConfig, LlamaConfig


@dataclass
class Case:
    """One tiny checkpoint and the changes to its configuration that must be visible in its logits."""

    name: str
    config: object
    dtype: torch.dtype
    seed: int
    tap_layers: tuple[int, int]
    # Name of a deliberate mistake -> the text-config keys that make it. make.py fails if a mistake does not show.
    mistakes: dict = field(default_factory=dict)
    embedding_scale: float = 1.0

    @property
    def text_config(self):
        return self.config.get_text_config()


# As in the published Scout: low == high, so that there is no blend between the scaled and the unscaled frequencies.
SCOUT_ROPE = dict(
    rope_type="llama3", rope_theta=500000.0, factor=16.0, low_freq_factor=1.0, high_freq_factor=1.0,
    original_max_position_embeddings=64,
)
# As in Llama 3.1: a band of frequencies is blended. original_max_position_embeddings puts some of ours into it.
LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
NO_SCALING = {"rope_parameters": dict(rope_type="default", rope_theta=10000.0)}
NO_SCALING_500K = {"rope_parameters": dict(rope_type="default", rope_theta=500000.0)}


def llama4(**settings):
    return Llama4TextConfig(bos_token_id=1, eos_token_id=2, max_position_embeddings=512, rms_norm_eps=1e-5, **settings)


def llama(**settings):
    return LlamaConfig(bos_token_id=1, eos_token_id=2, max_position_embeddings=512, rms_norm_eps=1e-5, **settings)


def scout():
    config = llama4(
        vocab_size=643, hidden_size=96, intermediate_size=24, intermediate_size_mlp=48, num_hidden_layers=5,
        num_attention_heads=6, num_key_value_heads=2, head_dim=16, num_local_experts=5, num_experts_per_tok=1,
        interleave_moe_layer_step=1, use_qk_norm=True, attention_chunk_size=32, attn_temperature_tuning=True,
        floor_scale=16, attn_scale=0.1, rope_parameters=SCOUT_ROPE,
    )
    mistakes = {
        "no chunks": {"attention_chunk_size": 8192},
        "no temperature": {"attn_temperature_tuning": False},
        "no q/k norm": {"use_qk_norm": False},
        "RoPE everywhere": {"no_rope_layers": [1] * 5},
        "no RoPE scaling": NO_SCALING_500K,
        "top 2": {"num_experts_per_tok": 2},
        "score on the output": "score on the output",
    }
    return Case("scout", config, torch.float16, 100, (0, 3), mistakes)


def scout_gguf():
    """The weights of `scout` under the settings that a llama4 GGUF has: its keys cannot say chunk or temperature."""
    case = scout()
    case.config.attention_chunk_size = 8192
    case.config.floor_scale = 8192
    case.name, case.mistakes = "scout_gguf", {}
    return case


def maverick():
    config = llama4(
        vocab_size=257, hidden_size=160, intermediate_size=8, intermediate_size_mlp=56, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=24, num_local_experts=24, num_experts_per_tok=1,
        interleave_moe_layer_step=2, use_qk_norm=False, attention_chunk_size=40, attn_temperature_tuning=True,
        floor_scale=20, attn_scale=0.2, rope_parameters=dict(rope_type="default", rope_theta=500000.0),
    )
    mistakes = {
        "no chunks": {"attention_chunk_size": 8192},
        "no temperature": {"attn_temperature_tuning": False},
        "with q/k norm": {"use_qk_norm": True},
        "top 2": {"num_experts_per_tok": 2},
        "score on the output": "score on the output",
    }
    return Case("maverick", config, torch.bfloat16, 200, (0, 1), mistakes)


def top2():
    """Two experts per token, irregular lists of MoE and NoPE layers, one KV head, attention biases, no chunk crossed."""
    config = llama4(
        vocab_size=259, hidden_size=64, intermediate_size=20, intermediate_size_mlp=72, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=1, head_dim=16, num_local_experts=6, num_experts_per_tok=2,
        moe_layers=[0, 2, 3], no_rope_layers=[1, 0, 1, 1], use_qk_norm=False, attention_chunk_size=8192,
        attn_temperature_tuning=False, attention_bias=True, rope_parameters=LLAMA3_ROPE,
    )
    mistakes = {
        "no RoPE scaling": NO_SCALING,
        "NoPE at the usual place": {"no_rope_layers": [1, 1, 1, 0]},
        "top 1": {"num_experts_per_tok": 1},
        "score on the output": "score on the output",
    }
    return Case("top2", config, torch.float32, 300, (0, 1), mistakes)


def nested():
    """As on the hub: multimodal, two shards, and (see `checkpoint.save`) the older spellings of the configuration."""
    text = llama4(
        vocab_size=257, hidden_size=80, intermediate_size=24, intermediate_size_mlp=56, num_hidden_layers=4,
        num_attention_heads=5, num_key_value_heads=1, head_dim=16, num_local_experts=4, num_experts_per_tok=1,
        interleave_moe_layer_step=2, use_qk_norm=True, attention_chunk_size=24, attn_temperature_tuning=True,
        floor_scale=16, attn_scale=0.1, rope_parameters=SCOUT_ROPE,
    )
    vision = dict(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vision_output_dim=16,
        image_size=28, patch_size=14, projector_input_dim=16, projector_output_dim=16,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0),
    )
    config = Llama4Config(
        text_config=text.to_dict(), vision_config=vision, boi_token_index=250, eoi_token_index=251, image_token_index=252
    )
    mistakes = {
        "no chunks": {"attention_chunk_size": 8192},
        "no RoPE scaling": NO_SCALING_500K,
        "no q/k norm": {"use_qk_norm": False},
    }
    return Case("nested", config, torch.bfloat16, 400, (1, 3), mistakes)


def llama_tied():
    config = llama(
        vocab_size=515, hidden_size=96, intermediate_size=160, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=10000.0),
    )
    mistakes = {"another theta": {"rope_parameters": dict(rope_type="default", rope_theta=20000.0)}}
    # A large tied embedding would make every token predict itself.
    return Case("llama_tied", config, torch.bfloat16, 500, (0, 2), mistakes, embedding_scale=0.2)


def llama_untied():
    """head_dim is not hidden_size / heads, and no width is a multiple of 32."""
    config = llama(
        vocab_size=643, hidden_size=56, intermediate_size=232, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=24, tie_word_embeddings=False, rope_parameters=LLAMA3_ROPE,
    )
    return Case("llama_untied", config, torch.float32, 600, (0, 1), {"no RoPE scaling": NO_SCALING})


def llama_bias():
    config = llama(
        vocab_size=257, hidden_size=64, intermediate_size=88, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0),
    )
    mistakes = {"no biases": {"attention_bias": False, "mlp_bias": False}}
    return Case("llama_bias", config, torch.float16, 700, (0, 1), mistakes)


def llama_quants():
    """Rows of 256 and 512, which K-quants divide. Its weights exist as GGUF only."""
    config = llama(
        vocab_size=259, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=2, tie_word_embeddings=False, rope_parameters=LLAMA3_ROPE,
    )
    return Case("llama_quants", config, torch.float32, 800, (0, 1), {"no RoPE scaling": NO_SCALING})
