#!/usr/bin/env python3
"""Write a tokenizer fixture for every common family but WordPiece's under
tests/fixtures/tokenizer/.

Usage:

    pip install tokenizers==0.23.3
    python tests/generate/tokenizer_families.py [OUTPUT_FOLDER]

Folders are as those of tokenizer_fixtures.py (which see). The pipelines are those the families
publish; vocabularies are trained on corpus.txt. What the trainers do is a matter of their version:
the committed files need not come out the same again, but they belong together.
"""

import collections
import json
import os
import sys

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers  # noqa: E402

import tokenizer_fixtures as fixtures  # noqa: E402
import tokenizer_parts as parts  # noqa: E402
from tokenizer_parts import (  # noqa: E402
    added, byte_level, metaspace, norms, pres, replace, seq, split, t)

BYTES = ["<0x%02X>" % b for b in range(256)]
CORPUS = fixtures.CORPUS


def template(begin, end):
    def special(name, kind):
        return [{"SpecialToken": {"id": name, "type_id": kind}}] if name else []

    def text(which, kind):
        return [{"Sequence": {"id": which, "type_id": kind}}]
    single = special(begin, 0) + text("A", 0) + special(end, 0)
    return single, single + special(begin, 1) + text("B", 1) + special(end, 1)


def frequent(least):
    """The corpus without the lines that have a character of fewer than so many lines."""
    count = collections.Counter(c for line in CORPUS for c in set(line))
    return [line for line in CORPUS if all(count[c] >= least for c in line)]


def trained(model, trainer, normalizer=None, pre_tokenizer=None, corpus=None):
    tok = Tokenizer(model)
    if normalizer:
        tok.normalizer = normalizer
    if pre_tokenizer:
        tok.pre_tokenizer = pre_tokenizer
    tok.train_from_iterator(corpus or CORPUS, trainer)
    return json.loads(tok.to_str())["model"]


def byte_bpe(size, specials):
    return trained(models.BPE(), trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
                   pre_tokenizer=pre_tokenizers.ByteLevel(
                       add_prefix_space=False))


def sentence_bpe(size, specials):
    """Like sentencepiece's: words with a mark before them, bytes for what is unknown."""
    model = trained(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
                    trainers.BpeTrainer(
                        vocab_size=size, special_tokens=specials + BYTES, limit_alphabet=90,
                        show_progress=False),
        pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first"))
    return {**model, "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}


def unigram(size, specials, **fields):
    model = trained(models.Unigram(), trainers.UnigramTrainer(
        vocab_size=size, special_tokens=specials, unk_token="<unk>", show_progress=False),
        normalizers.NFKC(), pre_tokenizers.Metaspace(), frequent(5))
    return {**model, **fields}


def document(model, tokens=(), **fields):
    """tokens: added tokens; those in the vocabulary get its ids, as in files from the hub."""
    vocab = model["vocab"]
    ids = vocab if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
    size, listed = len(ids), []
    for token in tokens:
        if token["content"] not in ids:
            ids = {**ids, token["content"]: size}
            size += 1
        listed.append({"id": ids[token["content"]], **token})
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": sorted(listed, key=lambda x: x["id"]), "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": None, **fields,
            "model": model}


def with_template(model, begin=None, end=None):
    single, pair = template(begin, end)
    vocab = model["vocab"]
    ids = vocab if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {
        name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (begin, end) if name}}


def special(content, **fields):
    return added(content, special=True, **{"normalized": False, **fields})


def families():
    model = byte_bpe(700, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    roberta = t("RobertaProcessing", sep=["</s>", model["vocab"]["</s>"]],
                cls=["<s>", model["vocab"]["<s>"]], trim_offsets=True, add_prefix_space=False)
    yield "roberta", document(model,
                              [special("<s>"), special("</s>"), special("<mask>", lstrip=True)],
                              pre_tokenizer=byte_level(False, True), post_processor=roberta)
    llama3 = byte_bpe(700, ["<|begin_of_text|>", "<|end_of_text|>"])
    # words that no merge makes: ignore_merges finds them all the same
    for word in ("Ġferry", "harbour", "Ġ12", "xyz"):
        llama3["vocab"].setdefault(word, len(llama3["vocab"]))
    llama3["ignore_merges"] = True
    yield "llama3", document(llama3, [special("<|begin_of_text|>"), special("<|end_of_text|>")]
                             + [special("<|reserved_special_token_%d|>" % i) for i in range(20)],
                             pre_tokenizer=pres(split(parts.LLAMA3, "Isolated", regex=True),
                                                byte_level(False, False)),
                             post_processor=seq("processors", byte_level(True, False),
                                                with_template(llama3, "<|begin_of_text|>")))
    qwen = byte_bpe(600, [])
    yield "qwen2", document(qwen, [special("<|endoftext|>"), special("<|im_start|>"),
                                   added("<tool_call>", normalized=False)],
                            normalizer=t("NFC"), post_processor=byte_level(False, False),
                            pre_tokenizer=pres(
                                split(parts.QWEN2, "Isolated", regex=True),
                                byte_level(False, False)))
    modern = byte_bpe(600, ["[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    yield "modernbert", document(modern, [special("[CLS]"), special("[SEP]"),
                                          special("[MASK]", lstrip=True)]
                                 + [added(" " * n) for n in range(24, 1, -1)],
                                 normalizer=t("NFC"), pre_tokenizer=byte_level(False, True),
                                 post_processor=with_template(modern, "[CLS]", "[SEP]"))
    llama2 = sentence_bpe(800, ["<unk>", "<s>", "</s>"])
    llama2["merges"] = [" ".join(pair) for pair in llama2["merges"]]
    yield "llama2", document(llama2, [special("<unk>"), special("<s>"), special("</s>")],
                             normalizer=norms(t("Prepend", prepend="▁"), replace(" ", "▁")),
                             post_processor=with_template(llama2, "<s>"))
    yield "mistral", document(llama2, [special("<unk>"), special("<s>"), special("</s>"),
                                       special("[INST]"), added("Inst")],
                              pre_tokenizer=metaspace("first", cut=False),
                              post_processor=with_template(llama2, "<s>"))
    gemma = sentence_bpe(800, ["<pad>", "<eos>", "<bos>", "<unk>"])
    yield "gemma", document(gemma, [special("<bos>"), added("\n\n", normalized=False),
                                    added("<b>", normalized=False)],
                            normalizer=replace(" ", "▁"),
                            pre_tokenizer=split(" ", "MergedWithPrevious"),
                            post_processor=with_template(gemma, "<bos>"))
    # no token for some bytes, and unknown tokens that are not fused
    partial = {**llama2, "fuse_unk": False, "vocab": {
        ("missing" + token if token.startswith("<0xE") else token): i
        for token, i in llama2["vocab"].items()}}
    yield "bpe-partial-bytes", document(partial, normalizer=replace(" ", "▁"))
    yield "bpe-fused-bytes", document({**partial, "fuse_unk": True}, normalizer=replace(" ", "▁"))
    clip = trained(models.BPE(end_of_word_suffix="</w>"), trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<|startoftext|>", "<|endoftext|>"],
        end_of_word_suffix="</w>", limit_alphabet=80, show_progress=False), normalizers.Lowercase(),
                   pre_tokenizers.ByteLevel(add_prefix_space=False))
    clip.update(unk_token="<|endoftext|>", end_of_word_suffix="</w>")
    yield "clip", document(clip, [special("<|endoftext|>")],
                           normalizer=norms(t("NFC"), replace(r"\s+", " ", True), t("Lowercase")),
                           pre_tokenizer=pres(split(
                               r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|"
                               r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
                               "Removed", True, True), byte_level(False, False)),
                           post_processor=t("RobertaProcessing", sep=["<|endoftext|>", 1],
                                            cls=["<|startoftext|>", 0],
                                            trim_offsets=False, add_prefix_space=False))
    prefixed = trained(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##"),
                       trainers.BpeTrainer(
                           vocab_size=600, special_tokens=["[UNK]"], continuing_subword_prefix="##",
                           limit_alphabet=60, show_progress=False),
                       pre_tokenizer=pre_tokenizers.Whitespace())
    prefixed.update(unk_token="[UNK]", continuing_subword_prefix="##")
    yield "bpe-prefix", document(prefixed, pre_tokenizer=t("Whitespace"))
    pieces = ["<s>", "<pad>", "</s>", "<unk>"]
    charsmap = t("Precompiled", precompiled_charsmap=parts.charsmap(parts.RULES))
    xlmr = unigram(700, pieces, unk_id=3)
    yield "xlmr", document(xlmr, [special("<s>"), special("</s>"), special("<mask>", lstrip=True)],
                           normalizer=charsmap,
                           pre_tokenizer=pres(t("WhitespaceSplit"), metaspace("always")),
                           post_processor=with_template(xlmr, "<s>", "</s>"))
    deberta = unigram(700, ["[PAD]", "[CLS]", "[SEP]", "<unk>"], unk_id=3)
    yield "deberta", document(deberta, [special("[CLS]"), special("[SEP]"), special("[MASK]")],
                              normalizer=norms(
                                  replace(r"\s{2,}|[\n\r\t]", " ", True), t("NFC"),
                                  t("Strip", strip_left=False, strip_right=True)),
        pre_tokenizer=pres(metaspace("always")),
                              post_processor=with_template(deberta, "[CLS]", "[SEP]"))
    albert = unigram(600, ["<pad>", "<unk>", "[CLS]", "[SEP]"], unk_id=1)
    yield "albert", document(albert, [special("[CLS]"), special("[SEP]"),
                                      special("[MASK]", lstrip=True)], normalizer=norms(
                                          replace("``", '"'), replace("''", '"'), t("NFKD"),
                                          t("StripAccents"), t("Lowercase"), charsmap,
                                          replace(" {2,}", " ", True)),
                             pre_tokenizer=pres(t("WhitespaceSplit"), metaspace("always")),
        post_processor=with_template(albert, "[CLS]", "[SEP]"))
    # the texts of sums that come out equal show the order of addition
    bytes_too = unigram(600, ["<unk>"] + BYTES, unk_id=0, byte_fallback=True)
    bytes_too["vocab"] += [[("ab" * n)[:n], -0.1 * n] for n in range(2, 9)]
    bytes_too["vocab"] += [["aa", -7.3], ["aaa", -10.95], ["ab", -3.1]]
    yield "unigram-bytes", document(bytes_too, normalizer=norms(t("Nmt"), t("NFKC")),
                                    pre_tokenizer=metaspace("never", cut=False))
    words = trained(models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(
        vocab_size=400, special_tokens=["[UNK]"], show_progress=False), normalizers.Lowercase(),
                    pre_tokenizers.Whitespace())
    yield "wordlevel", document({**words, "unk_token": "[UNK]"}, [added("The", single_word=True)],
                                normalizer=t("Lowercase"), pre_tokenizer=t("Whitespace"))


EXTRA = parts.TEXTS + ["abababab" * 5 + "a", "a" * 30, "aabaabab",
                       "the  ferry   leaves    the     harbour", "[INST] a [INST]b",
                       "<mask>  <mask>", "<|im_start|>user\nHi<|im_end|>", "\n\n\n\n<b>x</b>",
                       "the ferry<s>leaves</s> <s> the", "渡船渡船每天", "日本語のテキスト", "\u0378\u0379 ᬅ ꙮ",
                       "\U0001F9FF\U000E0001x", "Ξένος ёлка", "x" * 300, "é" * 200]


def main():
    output = sys.argv[1] if len(sys.argv) > 1 else fixtures.DEFAULT_OUTPUT
    for name, content in families():
        cases = fixtures.Cases(name, Tokenizer.from_str(json.dumps(content)))
        cases.json = json.dumps(content, separators=(",", ":"))
        cases.preset, cases.limited = Tokenizer.from_str(cases.json), Tokenizer.from_str(cases.json)
        cases.texts(EXTRA)
        fixtures.general(cases, 15, 8, 8, 3, 3, 2, 15)
        # lengths that do not hold the special tokens: laplora refuses them, the package does not
        # cut then
        least = {pair: cases.preset.num_special_tokens_to_add(pair) for pair in (False, True)}
        cases.rows = [row for row in cases.rows
                      if row.get("max_length", 99) >= least["pair" in row]]
        count = cases.write(output)
        size = max(os.path.getsize(os.path.join(output, name, file))
                   for file in ("tokenizer.json", name + ".jsonl"))
        print("%-20s %4d cases, largest file %d bytes" % (name, count, size))


if __name__ == "__main__":
    main()
