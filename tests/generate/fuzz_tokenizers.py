#!/usr/bin/env python3
"""Compare `laplora tokenize` with the `tokenizers` package on random lines.

Usage:

    pip install tokenizers==0.23.3
    python tests/generate/fuzz_tokenizers.py build/laplora FOLDER... [--lines 20000] [--seed 1]

Every FOLDER holds a tokenizer.json. Lines are made of all Unicode blocks, runs of white space,
control characters, emoji sequences, CJK, right-to-left scripts, combining marks, digits,
contractions, byte tokens and the added tokens of the file; a fifth of them are pairs. Ends with 1
when an id differs; prints the first lines that do, shortened.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RUST_BACKTRACE"] = "0"

from tokenizers import Tokenizer  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
SPACES = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", " \n", "\n ", "\u00a0", "\u3000",
          "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\u1680", "\u180e", "\u200b", "\u202f",
          "\ufeff", " \t \n  ", "        "]
EMOJI = ["😀", "👍🏽", "👩‍🚀", "👨‍👩‍👧‍👦", "🇩🇪", "🇯🇵", "❤️", "1️⃣", "🏴\U000e0067\U000e0062\U000e007f",
         "☕", "🏳️‍🌈"]
PIECES = ["'s", "'S", "'ll", "'LL", "'re", "'Ve", "'t", "'d", "'m", "'\u017f", "don't", "I'M", "``",
          "''", "...", "--", "##", "##ing", "</w>", "▁", "▁▁", "<0x0A>", "<unk>", "<s>", "</s>",
          "http://a.b/c?d=e", "x²", "½", "Ⅷ", "㍻", "ﬁ", "ﷺ", "Å", "Ｆｕｌｌ", "ｶﾞ", "ß", "ẞ", "İ", "ı",
          "ſ", "K", "e\u0301", "\u1e9b\u0323", "한글", "\u1112\u1161\u11ab", "か\u3099", "क़", "ก็",
          "שָׁ", "كَتَبَ", "\u0600a", "\x00", "\x01", "\x1f", "\x7f", "\xad",
          "\u200c", "\u200d", "\u200e", "\ufffd", "\uffff", "\U0010ffff", "\ue000",
          "a\u0300\u0301\u0302", "\u0345\u0301"]


def corpus():
    with open(os.path.join(HERE, "corpus.txt"), encoding="utf-8") as f:
        return [line for line in f.read().split("\n") if line]


class Lines:
    def __init__(self, seed, tokenizer):
        self.rng = random.Random(seed)
        self.corpus = corpus()
        self.added = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
        vocab = sorted(tokenizer.get_vocab(with_added_tokens=False))
        self.vocab = self.rng.sample(vocab, min(len(vocab), 2000))

    def block(self):
        """A few characters of one block of 256; the planes with characters in them, mostly the
        first."""
        rng = self.rng
        base = rng.choice([rng.randrange(0, 0x100), rng.randrange(0, 0x30),
                           rng.randrange(0x100, 0x300), rng.randrange(0, 0x1100)]) << 8
        codes = [base + rng.randrange(256) for _ in range(rng.randrange(1, 6))]
        return "".join(chr(c) for c in codes if c < 0x110000 and not 0xD800 <= c <= 0xDFFF)

    def piece(self):
        rng = self.rng
        kind = rng.randrange(16)
        if kind == 0:
            return rng.choice(SPACES) * rng.choice([1, 1, 1, 2, 5])
        if kind == 1:
            return rng.choice(EMOJI)
        if kind == 2:
            return rng.choice(PIECES)
        if kind == 3:
            return self.block()
        if kind == 4:
            return "".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 9)))
        if kind == 5:
            return chr(rng.randrange(0x300, 0x370)) * rng.choice([1, 1, 2])
        if kind == 6:
            return chr(rng.randrange(0x4E00, 0xA000)) + chr(rng.randrange(0x3040, 0x3100))
        if kind == 7:
            return "".join(chr(rng.randrange(0x590, 0x780)) for _ in range(rng.randrange(1, 6)))
        if kind == 8 and self.added:
            token = rng.choice(self.added)
            return rng.choice([token, token, token.upper(), token[:-1], " " + token + " "])
        if kind == 9:
            return rng.choice(self.vocab)
        if kind == 10:
            return rng.choice("!?.,;:()[]{}<>\"'`~@#$%^&*-_=+|\\/") * rng.choice([1, 1, 1, 3])
        if kind == 11:
            return "".join(rng.choice("abcdefgABCDEFG") for _ in range(rng.randrange(1, 12)))
        if kind == 12:
            return rng.choice("aáxé") * rng.randrange(1, 40)
        line = rng.choice(self.corpus)
        start = rng.randrange(len(line))
        return line[start:start + rng.randrange(1, 30)]

    def text(self):
        rng = self.rng
        glue = rng.choice(["", "", " ", None])
        out = ""
        for _ in range(rng.randrange(0, 12) if rng.random() < 0.9 else rng.randrange(0, 60)):
            out += self.piece() + (rng.choice(["", " "]) if glue is None else glue)
        return out

    def row(self):
        row = {"text": self.text()}
        if self.rng.random() < 0.2:
            row["text_pair"] = self.text()
        return row


def shorten(tokenizer, program, folder, row):
    """The smallest part of a row that still differs, by taking characters away."""
    def differs(candidate):
        want = expected(tokenizer, candidate)
        return want is not None and run(program, folder, [candidate])[0] != want
    for key in [k for k in ("text_pair", "text") if k in row]:
        if key == "text_pair" and differs({"text": row["text"]}):
            row = {"text": row["text"]}
            continue
        size = max(1, len(row[key]) // 2)
        while size:
            at = 0
            while at < len(row[key]):
                candidate = {**row, key: row[key][:at] + row[key][at + size:]}
                if differs(candidate):
                    row = candidate
                else:
                    at += size
            size //= 2
    return row


def expected(tokenizer, row):
    """None where the package refuses or panics."""
    try:
        return tokenizer.encode(row["text"], row.get("text_pair")).ids
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return None


def run(program, folder, rows):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False) as f:
        f.write("".join(json.dumps(row) + "\n" for row in rows))
    try:
        done = subprocess.run([program, "tokenize", "--quiet", "--base", folder, "--data", f.name],
                              capture_output=True)
    finally:
        os.unlink(f.name)
    if done.returncode:
        return [done.stderr.decode(errors="replace").strip()] * len(rows)
    return [json.loads(line)["ids"] for line in done.stdout.splitlines()]


def folders_of_parts(work):
    """A folder for each variant of tokenizer_parts.py."""
    import tokenizer_parts
    for name, fields in tokenizer_parts.variants():
        folder = os.path.join(work, name.replace(" ", "-"))
        os.mkdir(folder)
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
            json.dump(tokenizer_parts.document(fields), f)
        yield folder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--parts", action="store_true",
                        help="the variants of tokenizer_parts.py too")
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5)
    options = parser.parse_args()
    failed = 0
    folders = list(options.folders)
    if options.parts:
        folders += folders_of_parts(tempfile.mkdtemp())
    for folder in folders:
        tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        lines = Lines(options.seed, tokenizer)
        rows = [row for row in (lines.row() for _ in range(options.lines))
                if expected(tokenizer, row) is not None]
        got = run(options.program, folder, rows)
        bad = [row for row, ids in zip(rows, got) if ids != expected(tokenizer, row)]
        print("%-40s %d lines, %d differ" % (os.path.basename(folder.rstrip("/")), len(rows),
                                             len(bad)), flush=True)
        for row in bad[:options.show]:
            row = shorten(tokenizer, options.program, folder, row)
            print("   ", json.dumps(row), "\n      package", expected(tokenizer, row),
                  "\n      laplora", run(options.program, folder, [row])[0])
        failed += len(bad)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
