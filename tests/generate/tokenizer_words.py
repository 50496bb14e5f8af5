#!/usr/bin/env python3
"""Write words.jsonl beside the tokenizers of tests/fixtures/tokenizer: what transformers makes of
texts that were split before.

    pip install transformers==5.* tokenizers==0.23.3
    python tests/generate/tokenizer_words.py

A case is an object with

    words       the words
    max_length  truncate to this many tokens, special tokens included, from the right
    ids, type_ids
    word_ids    the number of the word that each token is of, null for special tokens
"""

import json
import os
import random

import transformers

import tokenizer_fixtures as fixtures

# those that preset a truncation, which transformers replaces, and those made of characters on which
# Unicode tables disagree
LEFT_OUT = ("truncating", "truncating-left", "unicode-age", "unicode-age-sequence")
ODD = ["", " ", "don't", "U.S.A.", "e-mail", "3,000.5", "New York", " lead", "tail ", "naïve", "ÀÉ",
       "日本", "🙂", "\t", "a\nb", "...", "\u200b", "##ing", "Ġ",
       "▁x", "[MASK]", "[SEP]", "<s>", "</s>", "<mask>"]


def word_lists(rnd):
    lines = [line.split() for line in fixtures.CORPUS]
    yield ["one"]
    for word in ODD:
        yield ["before", word, "after"]
        yield [word, "after"]
    for _ in range(12):
        words = list(rnd.choice(lines))
        for _ in range(rnd.randrange(3)):
            words.insert(rnd.randrange(len(words) + 1), rnd.choice(ODD))
        yield words


def main():
    for name in sorted(os.listdir(fixtures.DEFAULT_OUTPUT)):
        file = os.path.join(fixtures.DEFAULT_OUTPUT, name, "tokenizer.json")
        if name in LEFT_OUT or not os.path.exists(file):
            continue
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=file)
        rnd = random.Random(name)
        with open(os.path.join(fixtures.DEFAULT_OUTPUT, name, "words.jsonl"), "w",
                  encoding="ascii") as out:
            for i, words in enumerate(word_lists(rnd)):
                limit = 512 if i % 4 else rnd.randrange(4, 12)
                got = tokenizer(words, is_split_into_words=True, truncation=True, max_length=limit,
                                return_token_type_ids=True)
                case = {"words": words, "max_length": limit, "ids": got["input_ids"],
                        "type_ids": got["token_type_ids"], "word_ids": got.word_ids()}
                out.write(json.dumps(case) + "\n")


if __name__ == "__main__":
    main()
