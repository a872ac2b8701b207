"""Makes the golden data of the text tests: token ids, decoded text, rendered chat templates, sampling probabilities.

    python make.py [SmolLM2-135M-Instruct.Q4_1.gguf]

Needs tokenizers, transformers (with jinja2 and torch), sentencepiece and, for the SmolLM2 part, gguf. The references are
- `tokenizers` (with its Oniguruma regular expressions, which the Rust build does not use) for byte-level vocabularies,
- `sentencepiece` itself for the SentencePiece vocabulary,
- `transformers.apply_chat_template`'s own renderer for the templates, and its logits processors for sampling.

The vocabularies are tiny ones trained here; their pre-tokenizer expressions are the published ones of each model.
"""

import datetime
import io
import json
import pathlib
import random
import sys

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
LLAMA4 = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)

TEXTS = [
    "",
    " ",
    "Hello, world!",
    " leading and trailing ",
    "   three spaces   inside   ",
    "a\tb\t\tc\n\nd\r\ne\r\n\r\n  f\n",
    "\n\n\n",
    "            twelve spaces",
    "I'm you're he'll they've it's I'd don't I'M YOU'RE IT'S l'été o\u2019clock",
    "it'\u017f a long s",
    "0 1 12 123 1234 12345 1234567890123 3.14159 1,000,000 0x1F600 ½ ² Ⅷ ٣٤٥ १२३",
    "def f(x: int) -> str:\n    \"\"\"Doc.\"\"\"\n    return f\"{x!r:>10}\"  # comment\n\n\tif x<=3 and y!=4: pass\n",
    "fn main() { println!(\"{:?}\", vec![1u8; 3]); } // ok\n<div class=\"a\">&amp;</div> https://example.org/a/b?c=d&e=f#g",
    "Größe, naïve café, El Niño, İstanbul, Đà Nẵng, Ωμέγα, Привет, мир! Съешь ещё этих мягких французских булок",
    "日本語のテキスト。中文文本,混合English和数字123。한국어 텍스트 ไม่มีช่องว่าง हिन्दी पाठ العربية עברית",
    "e\u0301 vs é, A\u030a vs Å, \ufb01 ligature, \u1100\u1161 vs 가",
    "😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ☃️ \U0001f9d1\U0001f3ff\u200d\U0001f4bb",
    "zero\u200bwidth nbsp\u00a0here ideographic\u3000space line\u2028separator nel\u0085x vt\u000bff\u000c",
    "control \u0000 \u0001 \u007f \ufeff \ufffd \U0010ffff",
    "camelCaseWords HTTPServer XMLHttpRequest iPhone McDonald's ABC'S",
    "!!!??? ... --- *** ___ /// \\\\\\ (((a))) [b] {c} <d> $5.00 #1 @x 50% a/b/c\n/d //\n\n",
    "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>x <|eot_id|> y",
    "<s> [INST] Hi [/INST] Hello</s><s>again",
    "<tool>call</tool><tool> <|im_end <|unknown|>",
    "Moxel unreachable Moxel",
    "▁ real underscore ▁▁ <0x41> <0xFF>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + " " * 50 + "-" * 70,
]

CORPUS = TEXTS + [
    "The quick brown fox jumps over the lazy dog, and then it does so again because they're both bored.",
    "A mixture of experts is a model in which a router chooses a few of many small networks for each token.",
    "for i in range(10):\n    print(i, i * i)\n    if i % 2 == 0:\n        continue\n",
    "Die Katze sitzt auf der Matte. Le chat est assis sur le tapis. El gato está sentado en la alfombra.",
    "привет привет мир мира, 日本語 日本 中文 中文文本 한국어 العربية العربية",
    "hello hello hello world world the the the and and of to in is it that was for on are as with his they at",
] * 3

SPECIAL = [
    "<unk>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|im_start|>",
    "<|im_end|>",
]
PLAIN_ADDED = ["<tool>", "</tool>"]


def byte_level_pre_tokenizer(name):
    byte_level = lambda cut: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut)
    split = lambda regex: pre_tokenizers.Split(Regex(regex), behavior="isolated", invert=False)
    return {
        "gpt-2": lambda: byte_level(True),
        "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)]),
        "llama-bpe": lambda: pre_tokenizers.Sequence([split(LLAMA3), byte_level(False)]),
        "llama4": lambda: pre_tokenizers.Sequence([split(LLAMA4), byte_level(False)]),
        "qwen2": lambda: pre_tokenizers.Sequence([split(QWEN2), byte_level(False)]),
    }[name]()


def byte_level(name):
    """A tiny vocabulary of one of the byte-level families, and the same as GGUF metadata."""
    tokenizer = Tokenizer(models.BPE())
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = byte_level_pre_tokenizer(name)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False))
    trained = json.loads(tokenizer.to_str())["model"]
    vocab, merges = trained["vocab"], [tuple(merge) for merge in trained["merges"]]
    # No merge leads to this one: tiktoken's families take it whole all the same, the others never.
    vocab["ĠMoxel"] = len(vocab)
    tiktoken = name in ("llama-bpe", "llama4")
    tokenizer.model = models.BPE(vocab=vocab, merges=merges, ignore_merges=tiktoken)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in PLAIN_ADDED])
    tokenizer.decoder = decoders.ByteLevel()
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    if tiktoken:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
        )
    return tokenizer, {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.tokens": [tokenizer.id_to_token(id) for id in range(tokenizer.get_vocab_size())],
        "tokenizer.ggml.token_type": [
            3 if (token := tokenizer.id_to_token(id)) in SPECIAL else 4 if token in PLAIN_ADDED else 1
            for id in range(tokenizer.get_vocab_size())
        ],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in merges],
        "tokenizer.ggml.bos_token_id": bos,
        "tokenizer.ggml.eos_token_id": tokenizer.token_to_id("<|end_of_text|>"),
    }


def golden(tokenizer, metadata, texts, ids, special):
    """Everything the Rust tests compare with."""
    rng = random.Random(7)
    normal = [id for id, kind in enumerate(metadata["tokenizer.ggml.token_type"]) if kind != 6]
    random_ids = [[rng.choice(normal) for _ in range(40)] for _ in range(20)]
    all_ids = [list(sequence) for sequence in ids] + random_ids
    return {
        "tokenizer_json": json.loads(tokenizer.to_str()),
        "gguf": metadata,
        "texts": texts,
        "ids": ids,
        "ids_with_special": special,
        "decode_ids": all_ids,
        "decoded": [tokenizer.decode(sequence, skip_special_tokens=True) for sequence in all_ids],
    }


def save(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def make_byte_level():
    for name in ["gpt-2", "smollm", "llama-bpe", "llama4", "qwen2"]:
        tokenizer, metadata = byte_level(name)
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        special = [tokenizer.encode(text, add_special_tokens=True).ids for text in TEXTS]
        save(f"{name}.json", golden(tokenizer, metadata, TEXTS, ids, special))


def make_sentencepiece():
    """A SentencePiece vocabulary with Llama 2's settings; the ids are those of `sentencepiece` itself."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in CORPUS for line in text.replace("\0", "").split("\n") if line),
        model_writer=model,
        model_type="bpe",
        vocab_size=700,
        character_coverage=0.98,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(id) for id in range(processor.get_piece_size())]
    scores = [processor.get_score(id) for id in range(len(pieces))]
    kinds = [
        2 if processor.is_unknown(id) else 3 if processor.is_control(id) else 6 if processor.is_byte(id) else 1
        for id in range(len(pieces))
    ]
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": processor.bos_id(),
        "tokenizer.ggml.eos_token_id": processor.eos_id(),
        "tokenizer.ggml.unknown_token_id": processor.unk_id(),
    }
    # The published layout of Llama 2's tokenizer.json, around the merges that the scores imply.
    vocab = {piece: id for id, piece in enumerate(pieces)}
    merges = []
    for piece, id in vocab.items():
        if kinds[id] == 1:
            ways = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
            ways = [way for way in ways if all(part in vocab and kinds[vocab[part]] == 1 for part in way)]
            merges += sorted(ways, key=lambda way: (vocab[way[0]], vocab[way[1]]))
    merges.sort(key=lambda way: (scores[vocab[way[0] + way[1]]], len(way[0]), len(way[1])), reverse=True)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ["<unk>", "<s>", "</s>"]])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", processor.bos_id())])

    # sentencepiece knows no special tokens in text, so those texts are cut by hand as llama.cpp cuts them; it also drops
    # what it cannot spell, a NUL.
    texts = [text for text in TEXTS if "\0" not in text]
    ids = []
    for text in texts:
        sequence = []
        rest = text
        while rest:
            found = [(rest.find(token), token) for token in ["<unk>", "<s>", "</s>"] if token in rest]
            at, token = min(found) if found else (len(rest), None)
            if rest[:at]:
                sequence += processor.encode(rest[:at])
            if token is not None:
                sequence.append(processor.piece_to_id(token))
            rest = rest[at + len(token or "") :]
        ids.append(sequence)
    for text, sequence in zip(texts, ids):
        ours = tokenizer.encode(text, add_special_tokens=False).ids
        if ours != sequence:
            print("sentencepiece and tokenizers differ on", repr(text), sequence, ours)
    special = [[processor.bos_id()] + sequence for sequence in ids]
    save("sentencepiece.json", golden(tokenizer, metadata, texts, ids, special))


CHATS = {
    "one": [{"role": "user", "content": "Hi"}],
    "system": [{"role": "system", "content": " You are terse.\n"}, {"role": "user", "content": "  What is 2 + 2?  "}],
    "turns": [
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "Blue & \"green\" <b>\n"},
        {"role": "user", "content": "Noch eine? 🎨\n\nBitte."},
    ],
    "long": [
        {"role": "system", "content": "Sei höflich."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nd"},
        {"role": "user", "content": "e"},
    ],
    "broken": [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": "no"}],
    "empty": [],
}


# One construct of templates a line; each is rendered by itself.
EXPRESSIONS = r"""
{{ true is true }}{{ false is false }}{{ 1 is integer }}{{ 1.5 is float }}{{ true is boolean }}
{{ [1] is sequence }}{{ 'a' is sequence }}{{ 'a' is iterable }}{{ {} is iterable }}{{ none is none }}
{{ 'a' 'b' }}
{{ messages[0]['role'] in ['user', 'tool'] }}{{ 'us' in messages[0].role }}
{{ messages[-1].content }}{{ messages[0].get('role') }}{{ messages[0].nothing is none }}{{ messages[0].nothing is defined }}
{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}
{{ 'a-b-c'.rsplit('-', 1) | join(',') }}
{{ 'a-b'.partition('-') | join(',') }}
{{ [1,2]|map('string')|join('-') }}
{{ messages|map(attribute='content')|list }}
{{ messages|selectattr('role','==','user')|list|length }}{{ messages|selectattr('role','ne','user')|list|length }}
{{ messages|rejectattr('tool_calls')|list|length }}{{ messages|selectattr('content','defined')|list|length }}
{{ {'b':1,'a':2}|dictsort }}{{ {'b':1}|items|list }}
{{ [3,1]|sort(reverse=true) }}{{ ['b','A']|sort }}
{{ 'a b c'.split(' ', 1) }}{{ ' a  b '.split() }}
{{ 'x'|replace('x','y')|upper|lower|capitalize|title }}
{{ ['a','b']|join(', ') }}{{ 'Hello'|length }}{{ 'Hello'|first }}{{ 'a'|string }}
{{ range(0, 10, 3)|list }}{{ range(3, 0, -1)|list }}
{{ dict(a=1, b=2) }}{{ {'a': [1, 'x']} }}{{ [none, true, 1.5, 'q\'"'] }}
{{ (1, 2) }}{{ (1,) }}{{ ('a', 'b')[0] }}
{% for k, v in {'x': 1, 'y': 2}.items() %}{{ k }}{{ v }}{% endfor %}
{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}
{% for m in messages %}{{ loop.first }}{{ loop.last }}{{ loop.index }}{{ loop.revindex0 }}{{ loop.nextitem is defined }}{% endfor %}
{{ 'yes' if messages[0].content is string else 'no' }}
{{ messages[0].content if not messages[0].content is mapping }}
{{ 1 if 2 > 1 > 0 else 2 }}{{ 1 < 2 <= 2 }}
{{ 'a' < 'b' }}{{ [1,2] == [1,2] }}{{ {'a':1} == {'a':1} }}{{ 1 == 1.0 }}{{ 'a' != 'b' }}
{{ 5 % 3 }}{{ 5 / 2 }}{{ 4 / 2 }}{{ -5 // 2 }}{{ 2 ** -1 }}{{ 1e3 }}{{ 10 ** 20 }}
{{ 'abc'|reverse }}{{ [1,2]|reverse|list }}{{ 'a,b'.split(',')|last }}
{{ "a\tb\\n\u00e9\x41" }}
{{ 'line1\nline2'|indent(2) }}{{ 'line1\nline2'|indent(2, true) }}
{{ x|default('d') }}{{ none|default('d') }}{{ none|default('d', true) }}{{ ''|d('e', boolean=true) }}
{{ 'abc'[1] }}{{ 'abc'[-2:] }}{{ [1,2,3][:2] }}
{{ messages[0].content.strip().lower().startswith(('h', 'x')) }}
{{ 3|float }}{{ '3'|int + 1 }}{{ 3.7|int }}{{ 3.14159|round(2) }}{{ 2.5|round }}{{ '%.2f'|format(3.14159) }}
{{ [1,2,3]|sum }}{{ [1,2,3]|max }}{{ [[1,2],[3]]|sum(start=[]) }}
{{ ['a','b','a']|unique|list }}{{ [1,2,3,4]|select('even')|list }}{{ [0,1]|reject('odd')|list }}
{{ 'a' ~ none ~ 1.0 ~ [1] ~ {'k': 'v'} }}
{{ messages|length > 0 and messages[0].role == 'user' }}{{ '' or 'x' }}{{ 0 and 1 }}{{ none or [] }}
{{ messages[0] }}
{{ '<a>'|escape }}{{ '<a>'|e }}{{ '<a>'|safe }}
{{ 'a b'.title() }}{{ 'ß'.upper() }}{{ 'İ'|lower|length }}
{{ messages|groupby('role') }}
{{ 'x'.isalpha() }}{{ 'A'.isupper() }}{{ ' '.isspace() }}
{{ ['a']|first|upper }}{{ []|first is defined }}{{ []|last is defined }}
{{- 'x' -}} {#- c -#} y
{% set a = {'x': 1} %}{{ a.x }}{{ a['x'] }}{{ a.y is defined }}{{ a.keys()|list }}{{ a.values()|list }}
{% set _ = a %}{{ a }}
{% if messages[0].content == "Hi" %}a{% elif true %}b{% endif %}
{{ messages[0].content.split('i') }}{{ 'abc' in ['abc'] }}{{ 'z' not in 'abc' }}
{{ messages|tojson|length }}{{ 'é'|tojson }}{{ '</script>'|tojson }}{{ 1.0|tojson }}
{{ 'a' * 3 }}
{{ 'a-b-c'.rpartition('-') }}{{ 'abc'.rpartition('-') }}{{ 'abc'.partition('-') }}{{ 'a--b'.rsplit('--') }}{{ 'a-b-c'.rsplit('-', -1) }}
{{ x|default(default_value='n') }}{{ x|d }}|
""".strip().splitlines()


def make_templates():
    from transformers.utils import chat_template_utils

    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 7, 4, 15, 6, 9)

    chat_template_utils.datetime = Fixed
    expressions = []
    for source in EXPRESSIONS:
        rendered, _ = chat_template_utils.render_jinja_template(conversations=[CHATS["one"]], chat_template=source)
        expressions.append([source, rendered[0]])
    cases = []
    for path in sorted((HERE / "templates").glob("*.jinja")):
        for chat, messages in CHATS.items():
            for generation in (False, True):
                case = {"template": path.name, "chat": chat, "add_generation_prompt": generation}
                try:
                    rendered, _ = chat_template_utils.render_jinja_template(
                        conversations=[messages],
                        chat_template=path.read_text(),
                        add_generation_prompt=generation,
                        bos_token="<BOS>",
                        eos_token="<EOS>",
                    )
                    case["rendered"] = rendered[0]
                except Exception as error:
                    case["error"] = str(error)
                cases.append(case)
    save("templates.json", {"now": 1720105569, "chats": CHATS, "cases": cases, "expressions": expressions})


def make_sampler():
    """Probabilities after transformers' logits processors, in the order of the library (and of llama.cpp)."""
    import torch
    from transformers.generation import logits_process as process

    generator = torch.Generator().manual_seed(11)
    options = [
        dict(temperature=1.0),
        dict(temperature=0.6),
        dict(temperature=2.5, top_k=1),
        dict(temperature=1.0, top_k=7),
        dict(temperature=1.0, top_p=0.5),
        dict(temperature=1.3, top_p=0.95),
        dict(temperature=1.0, top_p=0.01),
        dict(temperature=1.0, min_p=0.1),
        dict(temperature=0.8, min_p=1.0),
        dict(temperature=1.0, repeat_penalty=1.3),
        dict(temperature=1.0, repeat_penalty=0.8, repeat_last_n=3),
        dict(temperature=1.0, repeat_penalty=1.5, repeat_last_n=0),
        dict(temperature=0.9, top_k=20, top_p=0.8, min_p=0.05, repeat_penalty=1.1),
    ]
    cases = []
    for option in options:
        logits = torch.randn(60, generator=generator) * 3
        history = torch.randint(0, 60, (12,), generator=generator)
        scores = logits[None].clone()
        last = option.get("repeat_last_n", 64)
        if option.get("repeat_penalty", 1.0) != 1.0 and last > 0:
            scores = process.RepetitionPenaltyLogitsProcessor(option["repeat_penalty"])(history[None, -last:], scores)
        if option.get("top_k", 0) > 0:
            scores = process.TopKLogitsWarper(option["top_k"])(None, scores)
        if option.get("top_p", 1.0) < 1.0:
            scores = process.TopPLogitsWarper(option["top_p"])(None, scores)
        if option.get("min_p", 0.0) > 0.0:
            scores = process.MinPLogitsWarper(option["min_p"])(None, scores)
        scores = process.TemperatureLogitsWarper(option["temperature"])(None, scores)
        cases.append(
            dict(options=option, logits=logits.tolist(), history=history.tolist(), probabilities=scores.softmax(-1)[0].tolist())
        )
    save("sampler.json", cases)


def make_smollm2(path):
    """SmolLM2's own vocabulary is not stored here: the test reads it from the model file and compares ids."""
    import gguf

    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = byte_level_pre_tokenizer("smollm")
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False) for token, kind in zip(tokens, kinds) if kind == 3]
    )
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    save("smollm2.json", {"texts": TEXTS, "ids": ids, "decoded": [tokenizer.decode(sequence) for sequence in ids]})


if __name__ == "__main__":
    make_byte_level()
    make_sentencepiece()
    make_templates()
    make_sampler()
    if len(sys.argv) > 1:
        make_smollm2(sys.argv[1])
