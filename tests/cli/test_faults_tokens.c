/* Token classification: damaged rows of words and tags, and rows of the other task. */
#include "support/faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS .fixture = "bert-token"
#define CALIB .file = "calib.jsonl"
#define TEST .file = "test.jsonl"

/* A tokenizer, and the file := a. */
static void rows_with_tokenizer(const fault *f, const char *folder) {
    use_tokenizer(f, folder);
    put_file(f, folder);
}

#define WORDS(rows) .damage = rows_with_tokenizer, CALIB, TOKENS, .a = rows

static const fault faults[] = {
    {"more tags than words",
     3,
     {"calib.jsonl:2:", "\"tags\"", "3 tags", "expected 2"},
     WORDS(
         "{\"tokens\":[\"a\",\"b\"],\"tags\":[0,1]}\n{\"tokens\":[\"a\",\"b\"],\"tags\":[0,1,1]}")},
    {"fewer tags than words",
     3,
     {"calib.jsonl:1:", "\"ner_tags\"", "1 tags", "expected 2, one a word"},
     WORDS("{\"tokens\":[\"a\",\"b\"],\"ner_tags\":[0]}")},
    {"fewer labels than ids",
     3,
     {"calib.jsonl:1:", "\"labels\"", "expected 3, one a token id"},
     .damage = put_file,
     CALIB,
     TOKENS,
     .a = "{\"input_ids\":[5,6,7],\"labels\":[0]}"},
    {"no tags to fit", 3, {"calib.jsonl:1:", "no tags", "ner_tags"}, WORDS("{\"tokens\":[\"a\"]}")},
    {"nothing tagged",
     3,
     {"calib.jsonl:", "no tagged tokens"},
     WORDS("{\"tokens\":[\"a\"],\"tags\":[-100]}")},
    {"tags are no list",
     3,
     {"calib.jsonl:1:", "\"tags\"", "expected a list"},
     WORDS("{\"tokens\":[\"a\"],\"tags\":1}")},
    {"no such class",
     3,
     {"calib.jsonl:1:", "label 3", "0 to 2", "tags[1]"},
     WORDS("{\"tokens\":[\"a\",\"b\"],\"tags\":[0,3]}")},
    {"no such name",
     3,
     {"calib.jsonl:1:", "\"PER\"", "tags[0]"},
     WORDS("{\"tokens\":[\"a\",\"b\"],\"tags\":[\"PER\",1]}")},
    {"a tag is a list",
     3,
     {"calib.jsonl:1:", "tags[0]", "expected an integer class"},
     WORDS("{\"tokens\":[\"a\",\"b\"],\"tags\":[[0],1]}")},
    {"a word is a number",
     3,
     {"calib.jsonl:1:", "tokens[1]", "expected a word"},
     WORDS("{\"tokens\":[\"a\",2],\"tags\":[0,1]}")},
    {"no words", 3, {"calib.jsonl:1:", "empty"}, WORDS("{\"tokens\":[],\"tags\":[]}")},
    {"words are a text",
     3,
     {"calib.jsonl:1:", "\"tokens\"", "expected a list"},
     WORDS("{\"tokens\":\"a b\",\"tags\":[0,1]}")},
    {"text for tokens",
     3,
     {"calib.jsonl:1:", "classifies tokens", "\"tokens\" or \"words\"", "text, label"},
     WORDS("{\"text\":\"a\",\"label\":1}")},
    {"a label for tags",
     3,
     {"calib.jsonl:1:", "no tags"},
     .damage = put_file,
     CALIB,
     TOKENS,
     .a = "{\"input_ids\":[5,6],\"label\":1}"},
    {"words and no tokenizer",
     4,
     {"calib.jsonl:1:", "tokenizer.json"},
     .damage = put_file,
     CALIB,
     TOKENS,
     .a = "{\"tokens\":[\"a\"],\"tags\":[1]}"},
    {"words for whole rows",
     3,
     {"calib.jsonl:1:", "adapters that classify tokens", "tokens, tags"},
     .damage = rows_with_tokenizer,
     CALIB,
     .a = "{\"tokens\":[\"a\"],\"tags\":[1]}"},
    {"labels for whole rows",
     3,
     {"calib.jsonl:1:", "no label", "classify tokens"},
     .damage = put_file,
     CALIB,
     .a = "{\"input_ids\":[5,6],\"labels\":[0,1]}"},
    {"flat for whole rows", 2, {"--flat", "classify tokens"}, .command = PREDICT " --flat"},
    {"a template for tokens",
     2,
     {"--template", "classifies tokens"},
     .command = FIT " --template @/calib.jsonl.txt",
     .damage = put_file,
     .file = "calib.jsonl.txt",
     TOKENS,
     .a = "{tokens}"},
    {"an error head without held-out rows",
     2,
     {"--adue", "--val"},
     .command = FIT " --adue",
     TOKENS},
    {"a decoder for tokens",
     4,
     {"TOKEN_CLS", "model_type"},
     .damage = set_key,
     .file = "adapter/adapter_config.json",
     .a = "task_type",
     .b = "\"TOKEN_CLS\"",
     .fixture = "llama-seq"},
    {"a table of nested tokens",
     2,
     {"--format csv", "--flat"},
     .command = PREDICT " --format csv",
     TOKENS},
    {"bad rows skipped",
     0,
     {"\"n_errors\":1"},
     .command = "predict --posterior @/posterior --data @/test.jsonl --out @/out --quiet --json "
                "--skip-bad",
     .damage = put_file,
     TEST,
     TOKENS,
     .a = "{\"input_ids\":[5,6],\"labels\":[0]}\n{\"input_ids\":[5,6]}\n"},
};

int main(void) {
    return run_faults("faulty rows of tokens", faults, sizeof faults / sizeof *faults);
}
