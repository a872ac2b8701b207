#!/usr/bin/env python3
"""Makes smollm2.safetensors: what SmolLM2-135M-Instruct says when its Q4_1 GGUF is dequantised to float32.

usage: smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf

Needs torch, transformers, accelerate, gguf, safetensors. transformers' own GGUF reader dequantises; eager attention.

Four sequences, 396 positions. For every position t (the prediction of the token after t):
  NAME.ids           I32 [T]        the tokens
  NAME.top_ids       U16 [T, 256]   the 256 most probable next tokens, best first
  NAME.top_logprobs  F32 [T, 256]   their log-probabilities
  NAME.rest_logprob  F32 [T]        log of the probability of all the others together
  NAME.argmax        I32 [T]        the most probable one
  NAME.margin        F32 [T]        logit of the first minus logit of the second
The Kullback-Leibler divergence from the reference to a model q is computed with the others as one bucket:
  KL = sum_i p_i (log p_i - log q_i) + p_rest (log p_rest - log q_rest),  q_rest = 1 - sum_i q_i
Merging outcomes can only lower a divergence, so this bounds the full one from below; the part that it cannot see is at
most what happens inside the bucket, whose mass is p_rest (a few percent on average; the script prints it).

Five prompts, 24 greedy tokens each: greedy.N.prompt I32, greedy.N.ids I32 [24], greedy.N.margins F32 [24]. Where a margin
is small another correct program may go on differently from there.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TOP, GREEDY, END_OF_TURN = 256, 24, 2

CHAT = [
    {"role": "user", "content": "Why is the sky blue during the day but red at sunset?"},
    {
        "role": "assistant",
        "content": "Sunlight contains every color. Air scatters short, blue waves far more than long, red ones, so blue "
        "light reaches us from all over the sky. At sunset the light crosses much more air, most of the blue has been "
        "scattered away, and red remains.",
    },
]
CODE = '''def merge_intervals(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge overlapping intervals."""
    merged = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
'''
MULTILINGUAL = (
    "Le train de nuit part à 23h45 et arrive à l'aube. Der Fluss fließt langsam durch die alte Stadt. "
    "El mercado abre los domingos por la mañana. Поезд опоздал на десять минут. 図書館は五時に閉まります。 🙂"
)
PROSE = (
    "The lighthouse had been dark for eleven years when Marta came back to the island. She carried a lamp, a box of "
    "matches and the brass key her grandfather had left her. The door resisted, then gave way with a long complaint, and "
    "the smell of salt and old rope rose to meet her. Upstairs, the great lens was still there, wrapped in canvas, "
    "waiting as patiently as a sleeping animal for someone to remember what it was for."
)
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
    [{"role": "user", "content": "Explain what a database index is."}],
    [{"role": "user", "content": "Give me three tips for learning a new language."}],
]


def encode(tokenizer, text):
    if isinstance(text, list):
        ending = text[-1]["role"] == "user"
        text = tokenizer.apply_chat_template(text, tokenize=False, add_generation_prompt=ending)
    return torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])


@torch.no_grad()
def predictions(model, ids):
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    logprobs = logits.double().log_softmax(-1)
    top = logprobs.topk(TOP, dim=-1)
    rest = logprobs.scatter(1, top.indices, float("-inf")).logsumexp(-1)
    truth = logprobs[:-1].gather(1, ids[1:, None]).mean().item()
    return {
        "ids": ids.to(torch.int32),
        "top_ids": top.indices.to(torch.uint16),
        "top_logprobs": top.values.float(),
        "rest_logprob": rest.float(),
        "argmax": logits.argmax(-1).to(torch.int32),
        "margin": (logits.topk(2).values @ torch.tensor([1.0, -1.0])),
    }, truth


@torch.no_grad()
def greedy(model, prompt):
    sequence, margins = prompt, []
    for _ in range(GREEDY):
        top = model(input_ids=sequence[None], use_cache=False).logits[0, -1].topk(2)
        margins.append(top.values[0] - top.values[1])
        sequence = torch.cat([sequence, top.indices[:1]])
    return sequence[len(prompt) :].to(torch.int32), torch.stack(margins)


def main(path: Path):
    where = dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager").eval()
    print(model.config)
    tensors = {}
    for name, text in {"chat": CHAT, "code": CODE, "multilingual": MULTILINGUAL, "prose": PROSE}.items():
        ids = encode(tokenizer, text)
        found, truth = predictions(model, ids)
        tensors |= {f"{name}.{key}": value for key, value in found.items()}
        rest = found["rest_logprob"].exp().mean().item()
        print(f"{name}: {len(ids)} tokens, perplexity {2.718281828**-truth:.2f}, mean mass beyond the top {TOP}: {rest:.4f}")
    texts = []
    for n, prompt in enumerate(PROMPTS):
        prompt = encode(tokenizer, prompt)
        ids, margins = greedy(model, prompt)
        if END_OF_TURN in ids.tolist():
            raise SystemExit(f"prompt {n} ends its turn within {GREEDY} tokens; choose another")
        tensors |= {f"greedy.{n}.prompt": prompt.to(torch.int32), f"greedy.{n}.ids": ids, f"greedy.{n}.margins": margins}
        texts.append({"prompt": tokenizer.decode(prompt), "greedy": tokenizer.decode(ids)})
        print(f"{texts[-1]} smallest margin {margins.min():.3f}")
    facts = {"transformers": transformers.__version__, "greedy": texts}
    # One key: the order of several would change from run to run.
    save_file(tensors, Path(__file__).parent / "smollm2.safetensors", {"made_by": json.dumps(facts)})


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    main(Path(sys.argv[1]))
