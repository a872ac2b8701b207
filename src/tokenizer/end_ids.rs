//! Which special tokens end a generation whatever the configuration says.

/// Spellings of end-of-turn and end-of-text tokens in released models: the list of llama.cpp's `llama-vocab.cpp`.
///
/// Many checkpoints name only one end id although their chat template uses another, and then never stop.
const WELL_KNOWN: [&str; 26] = [
    "</s>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|eom|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<turn|>",
    "<end_of_utterance>",
    "<|end_of_turn|>",
    "<|endofturn|>",
    "<|end▁of▁sentence|>",
    "<｜end▁of▁sentence｜>",
    "<|eos|>",
    "<eos>",
    "< EOT >",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
];

/// Whether a special token of this spelling ends a generation.
pub(super) fn is_well_known(token: &str) -> bool {
    WELL_KNOWN.contains(&token)
}

/// `ids` in ascending order, each once.
pub(super) fn sorted(mut ids: Vec<u32>) -> Vec<u32> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
