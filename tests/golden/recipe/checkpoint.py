"""Random weights that keep a tiny model alive, and checkpoints as transformers writes them."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Llama4ForConditionalGeneration, LlamaForCausalLM
from transformers.models.llama4.modeling_llama4 import Llama4ForCausalLM

# Larger than 1 where a unit gain would let attention or routing fade into an average.
GAINS = {"q_proj": 1.5, "k_proj": 1.5, "o_proj": 1.5, "down_proj": 1.5, "router": 2.0}


def model_class(config):
    return {"llama": LlamaForCausalLM, "llama4": Llama4ForConditionalGeneration, "llama4_text": Llama4ForCausalLM}[
        config.model_type
    ]


def fan_in(name, shape):
    """Inputs per output: linears are [out, in], stacked experts [expert, in, out]."""
    return shape[1] if len(shape) == 3 or len(shape) == 2 else shape[0]


def random_tensor(rng, name, shape, embedding_scale):
    if len(shape) == 1 and "norm" in name:
        return rng.uniform(0.5, 1.5, shape)
    if name.endswith("bias"):
        return 0.3 * rng.standard_normal(shape)
    if "embed_tokens" in name:
        return embedding_scale * rng.standard_normal(shape)
    gain = next((gain for part, gain in GAINS.items() if part in name), 1.0)
    return gain * rng.standard_normal(shape) / np.sqrt(fan_in(name, shape))


def build(case, seed):
    """The case's model in float32 with weights drawn from `seed`, rounded to the case's dtype."""
    rng = np.random.default_rng(seed)
    model = model_class(case.config)(case.config).eval()
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            values = torch.from_numpy(random_tensor(rng, name, tuple(parameter.shape), case.embedding_scale).astype(np.float32))
            parameter.copy_(values.to(case.dtype))
    return model


def save(model, case, directory: Path):
    """Writes config.json and the weights with save_pretrained; `nested` gets two shards and the older config keys."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    nested = case.name == "nested"
    model.to(case.dtype).save_pretrained(directory, max_shard_size=240_000 if nested else "5GB")
    if nested:
        path = directory / "config.json"
        path.write_text(json.dumps(with_older_keys(json.loads(path.read_text())), indent=2) + "\n")
    (directory / "generation_config.json").unlink(missing_ok=True)


def with_older_keys(config):
    """The spelling of the configs that Meta published in April 2025."""
    text = config["text_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    text["rope_scaling"] = rope
    text["no_rope_layers"] = []
    for key in ("layer_types", "no_rope_layer_interval", "dtype"):
        text.pop(key, None)
    text["torch_dtype"] = "bfloat16"
    text["for_llm_compressor"] = False
    config["torch_dtype"] = config.pop("dtype", "bfloat16")
    return config


def load(directory: Path):
    """The model from disk, computing in float32 with the eager attention."""
    config = json.loads((directory / "config.json").read_text())
    cls = Llama4ForConditionalGeneration if config["model_type"] == "llama4" else AutoModelForCausalLM
    model, info = cls.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = {key: value for key, value in info.items() if value}
    if wrong:
        raise SystemExit(f"{directory}: transformers did not load this cleanly: {wrong}")
    return model.eval()
