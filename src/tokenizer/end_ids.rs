//! Which special tokens end a generation whatever the configuration says.

/// Spellings of tokens that end a turn or a text in released models, from llama.cpp's `llama-vocab.cpp`.
///
/// Many checkpoints name only one end id although their chat template uses another, and then never stop.
const END_OF_TURN: [&str; 24] = [
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
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
];

/// What code models write after the file they were to complete; llama.cpp stops there too.
const END_OF_FILE: [&str; 11] = [
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Whether an added token of this spelling ends a generation.
pub(super) fn is_well_known(token: &str) -> bool {
    END_OF_TURN.contains(&token) || END_OF_FILE.contains(&token)
}

/// `ids` in ascending order, each once.
pub(super) fn sorted(mut ids: Vec<u32>) -> Vec<u32> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
