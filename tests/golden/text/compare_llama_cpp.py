"""Compares the golden ids with llama.cpp's, as a second reference.

    LLAMA_CPP_LIB_PATH=FOLDER_OF_LIBLLAMA python compare_llama_cpp.py [SmolLM2-135M-Instruct.Q4_1.gguf]

Needs llama-cpp-python and gguf. With llama.cpp of late 2026 all ids agree except these, which are meant:
- qwen2: llama.cpp does not compose the text (NFC) as the model's own tokenizer.json asks for;
- llama4: llama.cpp approximates the expression for letters with marks, merges words that are in the vocabulary whole,
  and adds the beginning-of-sequence id only if the file says so; all three differ from the model's own tokenizer.json.
"""

import json
import pathlib
import sys
import tempfile

import gguf
from llama_cpp import llama_cpp as llama

HERE = pathlib.Path(__file__).parent


def vocabulary(path):
    params = llama.llama_model_default_params()
    params.vocab_only = True
    model = llama.llama_model_load_from_file(str(path).encode(), params)
    assert model, path
    return llama.llama_model_get_vocab(model)


def tokenize(vocab, text, special):
    text = text.encode()
    ids = (llama.llama_token * (len(text) + 16))()
    count = llama.llama_tokenize(vocab, text, len(text), ids, len(ids), special, True)
    assert count >= 0
    return list(ids[:count])


def write(metadata, path):
    """A GGUF file with the metadata and no tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    for key in ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"]:
        writer.add_uint32(f"llama.{key}", 64)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    for key, value in metadata.items():
        add = {str: writer.add_string, int: writer.add_uint32, list: writer.add_array}[type(value)]
        add(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def compare(name, vocab, texts, ids, special):
    # The C interface takes the length, but the tokenizer stops at a NUL.
    pairs = [(text, expected) for text, expected in zip(texts, ids) if "\0" not in text]
    wrong = [text for text, expected in pairs if tokenize(vocab, text, special) != expected]
    print(f"{name}{' with special ids' if special else ''}: {len(pairs) - len(wrong)} of {len(pairs)} texts agree")
    for text in wrong[:3]:
        print("   differs:", repr(text)[:100])


if __name__ == "__main__":
    llama.llama_backend_init()
    for name in ["gpt-2", "smollm", "llama-bpe", "llama4", "qwen2", "sentencepiece"]:
        golden = json.loads((HERE / f"{name}.json").read_text())
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "vocabulary.gguf"
            write(golden["gguf"], path)
            vocab = vocabulary(path)
        compare(name, vocab, golden["texts"], golden["ids"], False)
        compare(name, vocab, golden["texts"], golden["ids_with_special"], True)
    for path in sys.argv[1:]:
        golden = json.loads((HERE / "smollm2.json").read_text())
        compare("SmolLM2", vocabulary(path), golden["texts"], golden["ids"], False)
