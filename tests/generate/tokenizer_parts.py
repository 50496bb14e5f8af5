#!/usr/bin/env python3
"""Write tests/fixtures/tokenizer/parts-*.json: every normalizer, pre-tokenizer, added-token rule,
post-processor and truncation by itself, with what the `tokenizers` package answers.

Usage:

    pip install tokenizers==0.23.3
    python tests/generate/tokenizer_parts.py [OUTPUT_FOLDER]

The model of all variants has no token but <0x00> to <0xFF> and falls back to bytes, so that the ids
are the bytes of the normalised text; the end-of-word suffix shows where words end. A variant is an
object with "name", the members of its tokenizer.json apart from the model, and "cases": [{"text",
"pair"?, "ids", "type_ids"}].
"""

import json
import os
import random
import struct
import sys
from base64 import b64encode

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RUST_BACKTRACE"] = "0"

from tokenizers import Tokenizer  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
         "end_of_word_suffix": "|", "fuse_unk": False, "byte_fallback": True,
         "ignore_merges": False, "vocab": {"<0x%02X>" % b: b for b in range(256)}, "merges": []}
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
    r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def charsmap(rules):
    """A precompiled_charsmap in the format of sentencepiece: a double array of units, then the
    replacements."""
    texts, values = b"", {}
    for source, target in rules.items():
        values[source.encode()] = len(texts)
        texts += target.encode() + b"\0"
    units, taken = [0] * 65536, {0}
    queue = [(0, sorted(values))]
    while queue:
        node, keys = queue.pop(0)
        depth = keys_depth[node] if node else 0
        labels = sorted({key[depth] if depth < len(key) else 0 for key in keys})
        base = 1
        while any(base ^ label in taken for label in labels) or not base:
            base += 1
        taken.update(base ^ label for label in labels)
        offset = node ^ base
        assert offset < 1 << 21
        units[node] |= offset << 10 | (1 << 8 if 0 in labels else 0)
        for label in labels:
            child = base ^ label
            below = [key for key in keys if (key[depth] if depth < len(key) else 0) == label]
            if label:
                units[child] = label
                keys_depth[child] = depth + 1
                queue.append((child, below))
            else:
                units[child] = 1 << 31 | values[below[0]]
    size = (max(taken) | 0xFF) + 1
    return b64encode(struct.pack("<I%dI" % size, 4 * size, *units[:size]) + texts).decode()


keys_depth = {}
RULES = {"ﬁ": "fi", "Å": "Å", "e\u0301": "é", "Ａ": "A", "①": "1", "㍻": "平成", "\t": " ", "\n": " ",
         "\r": "", "\u3000": " ", "\u200b": " ", "ｶ": "カ", "ﾞ": "\u3099", "a": "a", "ab": "X",
         "½": "1⁄2", "\u00ad": "", "\u0130": "i\u0307", "か\u3099": "が", "\u0600": "N", "…": "..."}


def seq(kind, *parts):
    return {"type": "Sequence", kind: list(parts)}


def norms(*parts):
    return seq("normalizers", *parts)


def pres(*parts):
    return seq("pretokenizers", *parts)


def t(name, **fields):
    return {"type": name, **fields}


def replace(pattern, content, regex=False):
    return t("Replace", pattern={"Regex" if regex else "String": pattern}, content=content)


def split(pattern, behavior, invert=False, regex=False):
    return t("Split", pattern={"Regex" if regex else "String": pattern}, behavior=behavior,
             invert=invert)


def byte_level(space, regex):
    return t("ByteLevel", add_prefix_space=space, trim_offsets=True, use_regex=regex)


def metaspace(scheme, cut=True, mark="▁"):
    return t("Metaspace", replacement=mark, prepend_scheme=scheme, split=cut)


def added(content, **fields):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": True, "special": False, **fields}


BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
ADDED = [added("<a>", normalized=False, special=True), added("<b>", normalized=False, lstrip=True),
         added("<c>", normalized=False, rstrip=True), added("<d>", lstrip=True, rstrip=True),
         added("Word", single_word=True), added("Raw", single_word=True, normalized=False),
         added("été"), added("été!", normalized=False), added("<a><a>", normalized=False),
         added("<ab", normalized=False), added("▁"), added("  ", normalized=False)]


def variants():
    """Pairs of a name and the members of a tokenizer.json."""
    for name, normalizer in (
            ("bert", t("BertNormalizer", clean_text=True, handle_chinese_chars=True,
                       strip_accents=None, lowercase=True)),
            ("bert-cased", t("BertNormalizer", clean_text=False, handle_chinese_chars=False,
                             strip_accents=True, lowercase=False)),
            ("nfc", t("NFC")), ("nfd", t("NFD")), ("nfkc", t("NFKC")), ("nfkd", t("NFKD")),
            ("lowercase", t("Lowercase")), ("strip-accents", norms(t("NFD"), t("StripAccents"))),
            ("nmt", t("Nmt")), ("bytes", t("ByteLevel")),
            ("strip", t("Strip", strip_left=True, strip_right=True)),
            ("strip-left", t("Strip", strip_left=True, strip_right=False)),
            ("strip-right", t("Strip", strip_left=False, strip_right=True)),
            ("prepend", t("Prepend", prepend="▁")), ("replace", replace("ab", "é")),
            ("replace-none", replace("a", "")), ("replace-empty", replace("", "-")),
            ("replace-spaces", replace(r"\s{2,}|[\n\r\t]", " ", True)),
            ("replace-start", replace(r"^\s*", "^", True)),
            ("replace-end", replace(r"a*$", "$", True)),
            ("replace-optional", replace("x?", "-", True)),
            ("replace-word", replace(r"\b\w+\b", "w", True)),
            ("replace-hex", replace(r"\h+|\u00e9", "h", True)),
            ("replace-case", replace(r"(?i)boat|K|é|s", "c", True)),
            ("replace-dot", replace("(?m:a.b)|c.d", "m", True)),
            ("charsmap", t("Precompiled", precompiled_charsmap=charsmap(RULES))),
            ("albert", norms(replace("``", '"'), replace("''", '"'), t("NFKD"), t("StripAccents"),
                             t("Lowercase"), t("Precompiled", precompiled_charsmap=charsmap(RULES)),
                             replace(" {2,}", " ", True)))):
        yield "normalizer " + name, {"normalizer": normalizer}
    for name, pre in [
            ("bert", t("BertPreTokenizer")), ("white-space", t("WhitespaceSplit")),
            ("whitespace", t("Whitespace")), ("scripts", t("UnicodeScripts")),
            ("scripts-words", pres(t("UnicodeScripts"), t("Whitespace"))),
            ("digits", t("Digits", individual_digits=False)),
            ("digits-each", t("Digits", individual_digits=True)),
            ("delimiter", t("CharDelimiterSplit", delimiter="é")),
            ("length", t("FixedLength", length=3)), ("gpt2", byte_level(False, True)),
            ("gpt2-space", byte_level(True, True)), ("bytes", byte_level(True, False)),
            ("metaspace", metaspace("always")), ("metaspace-first", metaspace("first")),
            ("metaspace-never", metaspace("never", mark="_")),
            ("metaspace-whole", metaspace("always", cut=False)),
            ("t5", pres(t("WhitespaceSplit"), metaspace("always"))),
            ("first", pres(t("WhitespaceSplit"), metaspace("first"))),
            ("digits-first", pres(t("Digits", individual_digits=True), metaspace("first"))),
            ("llama3", pres(split(LLAMA3, "Isolated", regex=True), byte_level(False, False))),
            ("qwen2", split(QWEN2, "Isolated", regex=True)),
            ("gpt2-regex", split(GPT2, "Removed", True, True)),
            ("llama3-by-pcre", split("(?:%s)" % LLAMA3, "Isolated", regex=True)),
            ("gpt2-by-pcre", split("(?:%s)" % GPT2, "Isolated", regex=True)),
            ("o200k", split(O200K, "Isolated", regex=True)),
            ("deepseek", split(DEEPSEEK, "Isolated", regex=True)),
            ("words", split(r"\w+", "Isolated", regex=True)),
            ("no-words", split(r"\W+|\d", "Isolated", regex=True)),
            ("boundaries", split(r"\b", "Isolated", regex=True)),
            ("inside", split(r"\B", "MergedWithNext", regex=True)),
            ("categories", split(r"\p{Lu}|\p{^L}\P{N}|[\p{P}\p{S}]+|\p{Han}+|[^\S\n]", "Isolated",
                                 regex=True)),
            ("lookbehind", split(r"(?<=[a-z])(?=[A-Z0-9])|(?<!x)\n$", "Removed", regex=True)),
            ("gemma", pres(split(" ", "MergedWithPrevious"), byte_level(False, False)))]:
        yield "pre-tokenizer " + name, {"pre_tokenizer": pre}
    for behavior in BEHAVIORS:
        yield "punctuation " + behavior, {"pre_tokenizer": t("Punctuation", behavior=behavior)}
        yield "split " + behavior, {"pre_tokenizer": split("ab", behavior)}
        for invert in (False, True):
            yield "split %s %s" % (behavior, "invert" if invert else "regex"), {
                "pre_tokenizer": split(r"[ \-]|\d+|z*", behavior, invert, True)}
    for name, fields in (
            ("plain", {}), ("lower", {"normalizer": t("Lowercase")}),
            ("llama2", {"normalizer": norms(
                t("Prepend", prepend="▁"), replace(" ", "▁"))}),
            ("first", {"pre_tokenizer": metaspace("first", cut=False)}),
            ("strip-first", {"normalizer": t("Strip", strip_left=True, strip_right=True),
                             "pre_tokenizer": metaspace("first")}),
            ("clean-first",
             {"normalizer": t("BertNormalizer", clean_text=True, handle_chinese_chars=True,
                              strip_accents=True, lowercase=True),
              "pre_tokenizer": metaspace("first")}),
            ("replace-first", {"normalizer": norms(replace("ab", "é"), replace("x", "")),
                               "pre_tokenizer": metaspace("first")})):
        yield "added " + name, {"added_tokens": [{"id": 256 + i, **token}
                                                 for i, token in enumerate(ADDED)], **fields}
    template = {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                           {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                         {"Sequence": {"id": "B", "type_id": 2}},
                         {"SpecialToken": {"id": "<s>", "type_id": 1}},
                         {"Sequence": {"id": "A", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [300, 301], "tokens": ["<", "s>"]}}}
    offsets = byte_level(True, True)
    roberta = t("RobertaProcessing", sep=["</s>", 2], cls=["<s>", 0], trim_offsets=True,
                add_prefix_space=True)
    for name, post in (("template", template), ("bytes", offsets), ("roberta", roberta),
                       ("bert", t("BertProcessing", sep=["</s>", 2], cls=["<s>", 0])),
                       ("sequence", seq("processors", offsets, template))):
        yield "post " + name, {"post_processor": post}
    for strategy in ("LongestFirst", "OnlyFirst", "OnlySecond"):
        for direction in ("Left", "Right"):
            yield "truncation %s %s" % (strategy, direction), {
                "post_processor": roberta,
                "truncation": {"direction": direction, "max_length": 24, "strategy": strategy,
                               "stride": 0}}


def document(fields):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
            **fields, "model": MODEL}


TEXTS = [
    "", " ", "a", "Hello, World!  It's 12345 o'clock; I'LL'd go.\r\n\n\tx  y ",
    "ab-ab abab 12-3 zz -- a", "\n\n ab \n c\nd", "aab xab a\nb c\nd aba",
    "été ÉTÉ! e\u0301te\u0301 été! \u00c5\u212b", "Word Words _Word Word. RawRaw Raw\u0301 Raw",
    " <a> <b> <c> <d> <a><a> <ab  x  ", "<a>text <b>more", "\u200b\x00x \x01y\x7f\ufffd\xad z",
    "ﬁne Ａ\u0301① ㍻ ½ … ｶﾞ か\u3099", "\u0600a \u1e9b\u0323 İI ǅ \u0345\u0301 \u1100\u1161\u11a8",
    "漢字かな カナ 한글 中a文", "مرحبا שלום नमस्ते กำ", "👩‍🚀🏽 🇩🇪🇯🇵 ❤️ 1️⃣", "STRASSE Straße \u212a \u017f 'ſ",
    "x²³ ½ Ⅷ ٣٤ 12345678", "a\u3000b\u00a0c\u2028d\x85e\u180ef", "  lead and trail  ",
    "camelCase123Abc x\n", "``a'' ``b", "\u00a0\u00a0 x", "\u0301a\u0301 \u1cf2\u0903\u20dd",
    "\U00011930\U00011935 \u32ff \ua7f2 \U0002ebf0 \u1c89 \U00010d50", "a_b‿c __ ▁▁x ▁",
    "xab abx x x", "\r\na\r\r\nb",
]


SHORT = [("abcdefghijklmnopqrstuvwxyz"[:a], "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:b]) for a, b in (
    (0, 0), (3, 4), (9, 9), (9, 10), (26, 3), (3, 26), (26, 26), (20, 25), (11, 12))]


def rows():
    rng = random.Random(7)
    texts = list(TEXTS) + ["abc", "a" * 21, "a" * 22, "a" * 23]
    for _ in range(4):
        texts.append("".join(rng.choice(TEXTS)[:rng.randrange(1, 12)] for _ in range(3)))
    return [[text] for text in texts] + [list(pair) for pair in SHORT] + [
        [rng.choice(texts), rng.choice(texts)] for _ in range(4)]


def digest(ids, types):
    """FNV-1a of 32 bits over both lists as little-endian integers of 32 bits."""
    value = 0x811C9DC5
    for byte in struct.pack("<%di" % (2 * len(ids)), *ids, *types):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def answer(tokenizer, row):
    try:
        encoding = tokenizer.encode(*row)
    except BaseException:  # the package panics or refuses; what happens then is no matter of ids
        return "-" * 8
    return "%08x" % digest(encoding.ids, encoding.type_ids)


def main():
    output = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "..", "fixtures", "tokenizer")
    given, files = rows(), {}
    for name, fields in variants():
        tokenizer = Tokenizer.from_str(json.dumps(document(fields)))
        answers = '"%s"' % "".join(answer(tokenizer, row) for row in given)
        kind = name.split(" ")[0]
        file = {"normalizer": "normalizers", "pre-tokenizer": "pre-tokenizers"}.get(kind, "rules")
        files.setdefault(file, []).append(
            json.dumps({"name": name, **fields})[:-1] + ',\n"answers": ' + answers + "}")
    for file, lines in files.items():
        with open(os.path.join(output, "parts-%s.json" % file), "w", encoding="ascii") as f:
            f.write('{"model": %s,\n"rows": [\n%s],\n"variants": [\n%s]}\n' % (
                json.dumps(MODEL, separators=(",", ":")),
                ",\n".join(json.dumps(row) for row in given), ",\n".join(lines)))
        print("%-16s %d variants, %d rows" % (file, len(lines), len(given)))


if __name__ == "__main__":
    main()
