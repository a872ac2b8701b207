//! Unit tests of the parts; whole tokenizers are compared with the references in `tests/text_*.rs`.
