"""What the reference says: logits, routing, taps and greedy tokens of one model."""

from contextlib import contextmanager

import torch
from transformers.models.llama4.modeling_llama4 import Llama4TextMoe

PROMPT, GREEDY, TAPPED = 75, 24, 8
# Float32 on another machine differs by about 1e-5; choices decided by less than this could go either way.
ROUTER_MARGIN, GREEDY_MARGIN = 1e-3, 1e-2


def text_model(model):
    """The module that holds `layers`, in `llama`, `llama4_text` and the multimodal `llama4`."""
    return model.language_model.model if hasattr(model, "language_model") else model.model


def causal_lm(model):
    return model.language_model if hasattr(model, "language_model") else model


@contextmanager
def watched(model, record):
    """Fills `record` with per-layer values of the next forward pass."""
    handles = []

    def keep(name, get):
        def hook(_module, inputs, output):
            record[name] = get(inputs, output).detach().clone().reshape(-1, get(inputs, output).shape[-1])

        return hook

    for n, layer in enumerate(text_model(model).layers):
        norm, ffn_norm = layer.input_layernorm, layer.post_attention_layernorm
        handles += [
            norm.register_forward_hook(keep(f"{n}.attn_norm", lambda i, o: o)),
            ffn_norm.register_forward_hook(keep(f"{n}.attn_out", lambda i, o: i[0])),
            ffn_norm.register_forward_hook(keep(f"{n}.ffn_norm", lambda i, o: o)),
            layer.register_forward_hook(keep(f"{n}.ffn_out", lambda i, o: o[0] if isinstance(o, tuple) else o)),
        ]
        router = getattr(getattr(layer, "feed_forward", None), "router", None)
        if router is not None:
            handles.append(router.register_forward_hook(keep(f"{n}.router", lambda i, o: o[1])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def forward(model, tokens):
    """(logits [T, vocab], record) of a pass over all tokens at once, without a cache."""
    record = {}
    with watched(model, record):
        logits = causal_lm(model)(input_ids=tokens[None], use_cache=False).logits[0]
    return logits, record


def top_k_margin(router_logits, k):
    """Smallest gap that decides which experts are chosen, or in which order."""
    ordered = router_logits.sort(dim=-1, descending=True).values
    return (ordered[:, :k] - ordered[:, 1 : k + 1]).min().item()


@torch.no_grad()
def expected(model, case, tokens):
    """(tensors, facts) for expected.safetensors."""
    logits, record = forward(model, tokens)
    k = getattr(case.text_config, "num_experts_per_tok", 0)
    tensors = {"tokens": tokens.to(torch.int32), "logits": logits}
    for name in (name for name in record if name.endswith(".router")):
        layer = name.split(".")[0]
        values, ids = record[name].topk(k, dim=-1)
        tensors[f"router.{layer}.ids"] = ids.to(torch.int32)
        tensors[f"router.{layer}.weights"] = values.sigmoid()
    for name, value in record.items():
        layer, what = name.split(".")
        if what == "ffn_out" or (what != "router" and int(layer) in case.tap_layers):
            tensors[f"tap.{name}"] = value[:TAPPED].clone()

    sequence, greedy_margin = tokens, float("inf")
    for _ in range(GREEDY):
        top = forward(model, sequence)[0][-1].topk(2)
        greedy_margin = min(greedy_margin, (top.values[0] - top.values[1]).item())
        sequence = torch.cat([sequence, top.indices[:1]])
    tensors["greedy"] = sequence[PROMPT:].to(torch.int32)
    _, record = forward(model, sequence)
    margins = [top_k_margin(value, k) for name, value in record.items() if name.endswith(".router")]
    facts = {"greedy_margin": greedy_margin, "logits_std": logits.std().item()}
    if margins:
        facts["router_margin"] = min(margins)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}, facts


def trouble(tensors, facts, case):
    """Why these numbers would make a poor golden, or None."""
    greedy = tensors["greedy"].tolist()
    if facts.get("router_margin", ROUTER_MARGIN) < ROUTER_MARGIN:
        return f"router margin {facts['router_margin']:.1e}"
    if facts["greedy_margin"] < GREEDY_MARGIN:
        return f"greedy margin {facts['greedy_margin']:.1e}"
    if len(set(greedy)) < 12:
        return f"only {len(set(greedy))} different greedy tokens"
    if {1, 2} & set(greedy):
        return "a greedy token that ends generation"
    for name, ids in tensors.items():
        if name.endswith(".ids") and len(ids.unique()) < 0.75 * min(case.text_config.num_local_experts, 16):
            return f"{name} uses few experts"
    return None


class ScoreOnOutput(Llama4TextMoe):
    """The mistake that Llama 4 invites: weighting the expert's output, as every other family does."""

    def forward(self, hidden_states):
        flat = hidden_states.reshape(-1, self.hidden_dim)
        scores, logits = self.router(flat)
        routed = self.experts(flat.repeat(self.num_experts, 1)).view(self.num_experts, -1, self.hidden_dim)
        return self.shared_expert(flat) + (routed * scores.T[:, :, None]).sum(0), logits


@torch.no_grad()
def show_mistakes(model, case, tokens, rebuild):
    """Largest logit change of every deliberate mistake, in standard deviations of the logits; fails if one is silent."""
    truth, _ = forward(model, tokens)
    if not torch.equal(forward(rebuild({}), tokens)[0], truth):
        raise SystemExit(f"{case.name}: the configuration on disk and the one in cases.py are not the same model")
    for name, change in case.mistakes.items():
        if isinstance(change, dict):
            wrong = rebuild(change)
        else:
            wrong = rebuild({})
            for layer in text_model(wrong).layers:
                if isinstance(layer.feed_forward, Llama4TextMoe):
                    layer.feed_forward.__class__ = ScoreOnOutput
        effect = ((forward(wrong, tokens)[0] - truth).abs().max() / truth.std()).item()
        print(f"    mistake '{name}': {effect:.2f} std")
        if effect < 0.1:
            raise SystemExit(f"{case.name}: the mistake '{name}' changes the logits by {effect:.4f} std only")
