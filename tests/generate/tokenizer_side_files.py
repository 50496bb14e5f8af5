#!/usr/bin/env python3
"""Writes tests/fixtures/tokenizer/side-files.json: small tokenizers, files beside them that add
tokens or change flags (tokenizer_config.json, special_tokens_map.json, added_tokens.json,
config.json), and a digest of the ids that AutoTokenizer gives in such a folder. Needs transformers
5 (5.24.0) and tokenizers (0.23.3); no torch.

usage: tokenizer_side_files.py [FILE] [VARIANTS A FAMILY] [SEED]   (defaults: the fixture, 24, 1)"""
import json
import os
import random
import struct
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="critical",
                  TRANSFORMERS_NO_ADVISORY_WARNINGS="1")
from transformers import AutoTokenizer  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
MARK = "\u2581"
LETTERS = "abcdefghijklmnopqrstuvwxyzABTW0123456789.,!<>[]|_-'\u00e9"
WORDS = ["the", "ticket", "was", "lost", "again", "word", "in", "at", "on", "es"]


def t(name, **fields):
    return {"type": name, **fields}


def flags(content, **given):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True, **given}


def template(first, last):
    def special(name, kind):
        return {"SpecialToken": {"id": name, "type_id": kind}}

    def text(name, kind):
        return {"Sequence": {"id": name, "type_id": kind}}
    return t("TemplateProcessing", single=[special(first[0], 0), text("A", 0), special(last[0], 0)],
             pair=[special(first[0], 0), text("A", 0), special(last[0], 0), text("B", 1),
                   special(last[0], 1)],
             special_tokens={name: {"id": name, "ids": [number], "tokens": [name]}
                             for name, number in (first, last)})


def document(own, **fields):
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": number, **token} for number, token in own], "normalizer": None,
            "pre_tokenizer": None, "post_processor": None, "decoder": None, **fields}


def bpe(first, marked, join, **fields):
    """A BPE whose merges build WORDS, each behind the mark, from characters."""
    vocab, merges = list(first), []
    for letter in marked:
        if letter not in vocab:
            vocab.append(letter)
    for word in WORDS:
        left = join
        for letter in word:
            if left + letter not in vocab:
                merges.append([left, letter])
                vocab.append(left + letter)
            left += letter
    return t("BPE", dropout=None, unk_token=None, continuing_subword_prefix="",
             end_of_word_suffix="", fuse_unk=False, byte_fallback=False, ignore_merges=False,
             vocab={token: i for i, token in enumerate(vocab)}, merges=merges, **fields)


def byte_letters():
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    return [chr(b) for b in kept] + [chr(256 + i) for i in range(256 - len(kept))]


def families():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = names + list(LETTERS) + ["##" + letter for letter in LETTERS] + WORDS
    yield "wordpiece", "BertTokenizer", {"do_lower_case": True}, document(
        [(i, flags(name)) for i, name in enumerate(names)],
        normalizer=t("BertNormalizer", clean_text=True, handle_chinese_chars=True,
                     strip_accents=None, lowercase=True),
        pre_tokenizer=t("BertPreTokenizer"), post_processor=template(("[CLS]", 2), ("[SEP]", 3)),
        model=t("WordPiece", unk_token="[UNK]", continuing_subword_prefix="##",
                max_input_chars_per_word=100, vocab={piece: i for i, piece in enumerate(pieces)}))
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    own = [(0, flags("<s>")), (1, flags("<pad>")), (2, flags("</s>")), (3, flags("<unk>")),
           (4, flags("<mask>", lstrip=True))]
    offsets = t("ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    yield "bytes", "RobertaTokenizer", {}, document(
        own, pre_tokenizer=offsets, model=bpe(names, byte_letters(), "\u0120"),
        post_processor=t("RobertaProcessing", sep=["</s>", 2], cls=["<s>", 0], trim_offsets=True,
                         add_prefix_space=False))
    end = "<|endoftext|>"
    yield "gpt2", "GPT2Tokenizer", {}, document([(0, flags(end))], pre_tokenizer=offsets,
                                                model=bpe([end], byte_letters(), "\u0120"))
    pattern = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
               "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
               "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
    yield "qwen2", "Qwen2Tokenizer", {}, document(
        [(0, flags(end)), (300, flags("<|im_start|>"))], normalizer=t("NFC"),
        pre_tokenizer=t("Sequence", pretokenizers=[
            t("Split", pattern={"Regex": pattern}, behavior="Isolated", invert=False),
            {**offsets, "use_regex": False}]),
        model=bpe([end], byte_letters(), "\u0120"))
    names = ["<unk>", "<s>", "</s>"]
    own = [(i, flags(name)) for i, name in enumerate(names)]
    model = {**bpe(names, MARK + LETTERS, MARK), "unk_token": "<unk>", "fuse_unk": True,
             "byte_fallback": True, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    yield "pieces", None, {}, document(own, normalizer=t("Sequence", normalizers=[
        t("Prepend", prepend=MARK), t("Replace", pattern={"String": " "}, content=MARK)]),
        model=model, post_processor=template(("<s>", 1), ("</s>", 2)))
    yield "llama", "LlamaTokenizer", {}, document(
        own, pre_tokenizer=t("Metaspace", replacement=MARK, prepend_scheme="first", split=False),
        model={**bpe(names + ["<0x%02X>" % b for b in range(256)], MARK + LETTERS, MARK),
               "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True})
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    scored = [[name, 0.0] for name in names] + [[letter, -6.0] for letter in MARK + LETTERS] + [
        [MARK + word, -3.0 - i / 8] for i, word in enumerate(WORDS)] + [["<mask>", 0.0]]
    yield "unigram", "XLMRobertaTokenizer", {}, document(
        [(i, flags(name)) for i, name in enumerate(names)] + [(len(scored) - 1, flags("<mask>"))],
        pre_tokenizer=t("Sequence",
                        pretokenizers=[t("WhitespaceSplit"), t("Metaspace", replacement=MARK,
                                                               prepend_scheme="always",
                                                               split=True)]),
        post_processor=t("TemplateProcessing", **{
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                     {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "</s>", "type_id": 0}},
                     {"SpecialToken": {"id": "</s>", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 0}},
                     {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]}
                               for name, i in (("<s>", 0), ("</s>", 2))}}),
        model=t("Unigram", unk_id=3, byte_fallback=False, vocab=scored))


NAMED = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]
NEW = ["<x>", "<TICKET>", "word", "Lost", "<x><y>", "\u00e9t\u00e9", "[NEW]", " gap ", "<|a|>",
       "at on", "<img>", "9"]


def typed(rng, content, kind=True):
    token = {key: rng.random() < .4 for key in ("single_word", "lstrip", "rstrip", "normalized",
                                                "special")
             if rng.random() < .7}
    return {**({"__type": "AddedToken"} if kind else {}), "content": content, **token}


def named_values(rng, own, count):
    said = {}
    for key in rng.sample(NAMED, count):
        content = rng.choice(own + NEW)
        said[key] = rng.choice([content, content, typed(rng, content), None])
    return said


def random_files(rng, own, size):
    """Files of a folder that were never saved by one version, but could be found in one."""
    config = named_values(rng, own, rng.randrange(0, 4))
    if rng.random() < .5:
        ids = (rng.sample(range(size - 3, size + 9),
                          rng.randrange(1, 6)) + rng.sample(range(len(own)), 1))
        config["added_tokens_decoder"] = {
            str(i): typed(rng, own[i] if i < len(own) and rng.random() < .8 else rng.choice(NEW),
                          False) for i in ids}
    if rng.random() < .4:
        config["additional_special_tokens"] = rng.sample(NEW, 2) + [typed(rng, rng.choice(NEW))]
    if rng.random() < .3:
        config["extra_special_tokens"] = rng.choice([[], rng.sample(NEW, 2),
                                                     {"image_token": "<img>", "b_token": "<x>"}])
    if rng.random() < .2:
        config["video_token"] = rng.choice(NEW)
    if rng.random() < .15:
        config["split_special_tokens"] = True
    files = {"tokenizer_config": config}
    if rng.random() < .35:
        files["special_tokens_map"] = {key: value if not isinstance(value, dict)
                                       else typed(rng, value["content"], False)
                                       for key, value in named_values(rng, own, 2).items() if value}
        if rng.random() < .5:
            files["special_tokens_map"]["additional_special_tokens"] = rng.sample(NEW, 2)
    if rng.random() < .35:
        files["added_tokens"] = {token: size - 1 + i for i, token in enumerate(rng.sample(NEW, 3))}
    return files


def chosen_files(own, size):
    """Pairs of a name and files, each a thing that is seen in folders."""
    plain = {"content": "<TICKET>", "lstrip": False, "normalized": False, "rstrip": False,
             "single_word": False, "special": True}
    def decoder(*tokens):
        return {"tokenizer_config": {"added_tokens_decoder": {
            **{str(i): flags(name) for i, name in enumerate(own)},
            **{str(size + i): x for i, x in enumerate(tokens)}}}}
    yield "nothing", {"tokenizer_config": {}}
    yield "no file", {}
    yield "a token more", decoder(plain)
    yield "a token far off", {"tokenizer_config": {"added_tokens_decoder": {str(size + 90): plain}}}
    yield "flags that differ", {"tokenizer_config": {"added_tokens_decoder": {
        str(i): flags(name, lstrip=True, rstrip=True) for i, name in enumerate(own)}}}
    yield "stripping", decoder({**plain, "lstrip": True},
                               {**plain, "content": "<x>", "rstrip": True})
    yield "normalised", decoder({**plain, "content": "Ticket", "normalized": True,
                                 "special": False},
                                {**plain, "content": "Word", "normalized": True,
                                 "single_word": True})
    yield "special tokens that are text", {"tokenizer_config": {
        **decoder(plain)["tokenizer_config"], "split_special_tokens": True}}
    yield "lists", {"tokenizer_config": {"additional_special_tokens": ["<x>", "<TICKET>"],
                                         "video_token": "<img>"}}
    yield "both lists", {"tokenizer_config": {"additional_special_tokens": ["<x>"],
                                              "extra_special_tokens": ["<TICKET>"]}}
    yield "named extras", {
        "tokenizer_config": {"extra_special_tokens": {"image_token": "<img>", "end": "<x>"}}}
    yield "new names", {"tokenizer_config": {"sep_token": "<sep>",
                                             "cls_token": {"__type": "AddedToken", **plain},
                                             "mask_token": "<x>"}}
    yield "no mask", {"tokenizer_config": {"mask_token": None, "pad_token": None}}
    yield "untyped", {"tokenizer_config": {"sep_token": plain}}
    yield "a number", {"tokenizer_config": {"sep_token": 7}}
    yield "untyped in a list", {"tokenizer_config": {"additional_special_tokens": [plain]}}
    yield "a map", {"special_tokens_map": {"sep_token": plain,
                                           "additional_special_tokens": ["<x>", "<y>"]}}
    yield "a map over a configuration", {"special_tokens_map": {"sep_token": "<y>"},
                                         "tokenizer_config": {"sep_token": "<x>"}}
    yield "a map that is not read", {"special_tokens_map": {"sep_token": "<y>"}, **decoder(plain)}
    yield "added tokens", {"added_tokens": {"<x>": size, "<TICKET>": size + 1, "word": size + 2}}
    yield "added tokens out of order", {"added_tokens": {"<x>": size + 1, "<TICKET>": size},
                                        "tokenizer_config": {"mask_token": "<TICKET>"}}
    yield "added tokens that are not read", {"added_tokens": {"<y>": size}, **decoder(plain)}
    yield "ends that tokenizer.json has", {"tokenizer_config": {"add_bos_token": True,
                                                                "add_eos_token": True}}
    yield "other settings", {"tokenizer_config": {
        "model_max_length": 64, "padding_side": "left", "clean_up_tokenization_spaces": True,
        "chat_template": "{{ x }}"}}


TEXTS = ["", "the ticket was lost again", "<TICKET> was lost",
         "the<TICKET>  again <x>  at<x><y> on", "word Word wordy Lost lost",
         "\u00e9t\u00e9 [NEW]x", "in gap at", "at on <|a|><img> 9 99",
         "[SEP] </s><s> <mask> [MASK] <|endoftext|>  <unk>", "Ticket ticket TICKET <ticket>",
         "<sep>a<y>", " <pad>[PAD]  [CLS] <|im_start|>the"]
PAIRS = [("the ticket", "was <x> lost"), ("<TICKET>", "at")]


def digest(ids):
    value = 0x811C9DC5
    for byte in struct.pack("<%di" % len(ids), *ids):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return "%08x" % value


def answer(loaded, row):
    try:
        return digest(loaded(*row).input_ids)
    except Exception:  # a class whose unknown token the vocabulary lacks
        return "-" * 8


def answers(tokenizer, files):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {"tokenizer": tokenizer, **files}.items():
            with open(os.path.join(folder, name + ".json"), "w") as f:
                json.dump(content, f)
        try:
            loaded = AutoTokenizer.from_pretrained(folder)
        except Exception:  # a file that it cannot read is refused
            return None
        return "".join(answer(loaded, row) for row in [(text,) for text in TEXTS] + PAIRS)


def main():
    output = (sys.argv[1] if len(sys.argv) > 1
              else os.path.join(HERE, "..", "fixtures", "tokenizer", "side-files.json"))
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 24
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    documents, variants = [], []
    for family, kind, settings, tokenizer in families():
        documents.append("%s: %s" % (json.dumps(family),
                                     json.dumps(tokenizer, separators=(",", ":"))))
        size = len(tokenizer["model"]["vocab"])
        own = [token["content"] for token in tokenizer["added_tokens"]]
        cases = (list(chosen_files(own, size)) + [("random %d" % i, random_files(rng, own, size))
                                                  for i in range(n)])
        for name, files in cases:
            for of_class in (None, "PreTrainedTokenizerFast", kind) if "random" not in name else (
                    rng.choice([None, "PreTrainedTokenizerFast", "TokenizersBackend", kind]),):
                if (of_class is None and name not in ("no file", "a token more")
                    and "random" not in name):
                    continue
                made = dict(files)
                if of_class:
                    made["tokenizer_config"] = {**files.get("tokenizer_config", {}),
                                                "tokenizer_class": of_class,
                                                **(settings if of_class == kind else {})}
                elif kind is None and name == "no file":
                    made["config"] = {"model_type": "llama"}
                elif name == "no file":
                    made["config"] = {"model_type": {"BertTokenizer": "electra",
                                                     "RobertaTokenizer": "roberta", "GPT2Tokenizer":
                                                     "gpt2", "Qwen2Tokenizer": "qwen3",
                                                     "LlamaTokenizer": "llama",
                                                     "XLMRobertaTokenizer": "xlm-roberta"}[kind]}
                else:
                    # without a class and a model type AutoTokenizer gives up
                    made["config"] = {"model_type": "llama"}
                variants.append(
                    json.dumps({"name": "%s, %s, %s" % (family, name, of_class), "family": family,
                                "files": made, "answers": answers(tokenizer, made)}))
    with open(output, "w", encoding="ascii") as f:
        f.write('{"families": {\n%s},\n"rows": %s,\n"variants": [\n%s]}\n' % (
            ",\n".join(documents),
            json.dumps([[text] for text in TEXTS] + [list(pair) for pair in PAIRS]),
            ",\n".join(variants)))
    print("%d variants, %d of them refused" % (len(variants),
                                               sum('"answers": null' in x for x in variants)))


if __name__ == "__main__":
    main()
