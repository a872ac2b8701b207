#!/usr/bin/env python3
"""Makes the tiny checkpoints and their reference numbers in this directory; README.md lists them.

usage: make.py [CASE ...]      (no argument: everything)

Needs torch, transformers, safetensors, gguf, numpy (README.md has the versions that made what is in git).

For every case: build the configuration, draw weights from a numpy seed, round them to the case's dtype, write them with
save_pretrained, load them again in float32 with eager attention, and write what that model says. Seeds are tried in
order until no choice (expert or greedy token) hangs on a margin that float32 arithmetic could flip; then every feature
of the case is switched off in turn, and the case fails if the logits do not show it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

from recipe import cases, checkpoint, formats, gguf_file
from recipe.expected import PROMPT, expected, show_mistakes, trouble

HERE = Path(__file__).parent


def draw_tokens(case, seed):
    """75 ids, first and last of the vocabulary among them."""
    vocab = case.text_config.vocab_size
    ids = np.random.default_rng(seed + 7).integers(0, vocab, PROMPT)
    ids[:3] = [1, 0, vocab - 1]
    return torch.from_numpy(ids)


def rebuilt_with(case, model):
    """A function that gives the same weights under a changed text configuration."""

    def rebuild(change):
        config = type(case.config).from_dict(case.config.to_dict())
        for key, value in change.items():
            setattr(config.get_text_config(), key, value)
        config._attn_implementation = "eager"
        wrong = checkpoint.model_class(config)(config).eval()
        wrong.load_state_dict(model.state_dict(), strict=False)
        return wrong

    return rebuild


def write_expected(case, model, tokens, path, seed):
    tensors, facts = expected(model, case, tokens)
    if problem := trouble(tensors, facts, case):
        print(f"  seed {seed}: {problem}")
        return False
    show_mistakes(model, case, tokens, rebuilt_with(case, model))
    facts = {"seed": seed, "transformers": transformers.__version__, **facts}
    # One key: the order of several would change from run to run.
    save_file(tensors, path, {"made_by": json.dumps(facts)})
    print(f"  {facts}")
    return True


def search_seed(case, prepare):
    """Calls `prepare(seed)`, which gives (model, path) on disk, until the numbers are fit to be a golden."""
    print(case.name)
    for seed in range(case.seed, case.seed + 100):
        model, path = prepare(seed)
        if write_expected(case, model, draw_tokens(case, seed), path, seed):
            return model, seed
    raise SystemExit(f"{case.name}: no seed in 100 gives clear margins")


def make_hugging_face(case):
    directory = HERE / case.name

    def prepare(seed):
        checkpoint.save(checkpoint.build(case, seed), case, directory)
        return checkpoint.load(directory), directory / "expected.safetensors"

    return search_seed(case, prepare)


def make_scout():
    """`scout`, and `scout_gguf`: the same weights in the container whose keys cannot say all of `scout`'s settings."""
    scout, twin = cases.scout(), cases.scout_gguf()
    directory, twin_directory = HERE / scout.name, HERE / twin.name
    twin_directory.mkdir(exist_ok=True)

    def prepare(seed):
        checkpoint.save(checkpoint.build(scout, seed), scout, directory)
        return checkpoint.load(directory), directory / "expected.safetensors"

    while True:
        model, seed = search_seed(scout, prepare)
        twin_model = rebuilt_with(twin, model)({})
        if write_expected(twin, twin_model, draw_tokens(twin, seed), twin_directory / "expected.safetensors", seed):
            break
        scout.seed = seed + 1
    gguf_file.write(twin_model, twin, twin_directory / "model.gguf", gguf_file.all_f16)


def make_llama_tied():
    case = cases.llama_tied()
    model, _ = make_hugging_face(case)
    gguf_file.write(model, case, HERE / case.name / "model.gguf", gguf_file.all_bf16)
    gguf_file.check_against_transformers(HERE / case.name / "model.gguf", model)


def make_llama_quants():
    case = cases.llama_quants()
    directory = HERE / case.name
    directory.mkdir(exist_ok=True)
    path = directory / "model.gguf"

    def prepare(seed):
        model = checkpoint.build(case, seed)
        gguf_file.add_texture(model, seed)
        gguf_file.write(model, case, path, gguf_file.every_format)
        model.config._attn_implementation = "eager"
        gguf_file.read_into(model, case, path)
        return model, directory / "expected.safetensors"

    model, _ = search_seed(case, prepare)
    gguf_file.check_against_transformers(path, model)


MAKERS = {
    "scout": make_scout,
    "llama_tied": make_llama_tied,
    "maverick": lambda: make_hugging_face(cases.maverick()),
    "top2": lambda: make_hugging_face(cases.top2()),
    "nested": lambda: make_hugging_face(cases.nested()),
    "llama_untied": lambda: make_hugging_face(cases.llama_untied()),
    "llama_bias": lambda: make_hugging_face(cases.llama_bias()),
    "llama_quants": make_llama_quants,
    "formats": lambda: formats.write(HERE / "formats.safetensors"),
}

if __name__ == "__main__":
    torch.set_num_threads(1)  # sums in one order, so that a second run gives the same bytes
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in sys.argv[1:] or MAKERS:
        MAKERS[name]()
