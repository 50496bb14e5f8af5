/* Damaged tokenizers, choices, templates and prediction files, each into one line and one exit
 * code. */
#include "support/faults.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENIZER .file = "base/tokenizer.json"
#define CALIB .file = "calib.jsonl"
#define LLAMA .fixture = "llama"
#define TOKENIZE "tokenize --base @/base --data @/calib.jsonl --out @/out --quiet"
#define FIT_LLAMA "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/out --quiet"
#define REPORT "report @/p.jsonl --out @/out --format json --quiet"
#define P .file = "p.jsonl"
#define ROW(label, a, b)                                                                           \
    "{\"index\":0,\"label\":" #label ",\"prediction\":0,\"confidence\":" #a ",\"probs\":[" #a      \
    "," #b "],\"map_probs\":[" #a "," #b "]}\n"

/* A tokenizer first, then the damage to it: a := b in its text. */
static void damage_tokenizer(const fault *f, const char *folder) {
    use_tokenizer(f, folder);
    if (f->a)
        replace_text(&(fault){TOKENIZER, .a = f->a, .b = f->b}, folder);
}

/* Neither "bad" nor the unknown token is in the vocabulary. */
static void no_unknown(const fault *f, const char *folder) {
    damage_tokenizer(&(fault){.a = "\"bad\":5", .b = "\"worse\":5"}, folder);
    replace_text(&(fault){TOKENIZER, .a = "\"[UNK]\":1,", .b = "\"[OTHER]\":1,"}, folder);
    (void)f;
}

static void deep_tokenizer(const fault *f, const char *folder) {
    use_tokenizer(f, folder);
    nest_deeply(f, folder);
}

static void cut_tokenizer(const fault *f, const char *folder) {
    use_tokenizer(f, folder);
    cut_file(f, folder);
}

/* Rows with text, and no tokenizer.json for them; a vocab.txt is there. */
static void no_tokenizer(const fault *f, const char *folder) {
    use_tokenizer(f, folder);
    remove_file(&(fault){TOKENIZER}, folder);
    put_file(&(fault){.file = "base/vocab.txt", .a = "[PAD]\n[UNK]\n"}, folder);
}

/* A tokenizer, and the file := a. */
static void rows_with_tokenizer(const fault *f, const char *folder) {
    use_tokenizer(f, folder);
    put_file(f, folder);
}

/* Ten million times the same letter in one row. */
static void huge_word(const fault *f, const char *folder) {
    use_tokenizer(f, folder);
    FILE *file = fopen(in_case(folder, f->file), "wb");
    fputs("{\"text\":\"", file);
    for (int i = 0; i < 10000000; i++)
        fputc('a', file);
    fputs("\",\"label\":1}\n", file);
    fclose(file);
}

static const fault faults[] = {
    /* ---- tokenizers ---- */
    {"38 only vocab.txt", 4, {"calib.jsonl:1:", "tokenizer.json"}, .damage = no_tokenizer},
    {"38 only vocab.txt, tokenize",
     4,
     {"base/tokenizer.json", "save_pretrained"},
     TOKENIZE,
     no_tokenizer,
     TOKENIZER},
    {"39 unknown model",
     4,
     {"base/tokenizer.json", "Markov"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "\"model\":{\"type\":\"WordPiece\"",
     .b = "\"model\":{\"type\":\"Markov\""},
    {"39 unknown normalizer",
     4,
     {"base/tokenizer.json", "Prettify"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "BertNormalizer",
     .b = "Prettify"},
    {"39 unknown pre-tokenizer",
     4,
     {"base/tokenizer.json", "ByVowels"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "BertPreTokenizer",
     .b = "ByVowels"},
    {"39 unknown post-processor",
     4,
     {"base/tokenizer.json", "Postscript"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "TemplateProcessing",
     .b = "Postscript"},
    {"39 tokenizer without a model",
     3,
     {"base/tokenizer.json", "model"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "\"model\":{",
     .b = "\"modell\":{"},
    {"6 deep tokenizer.json", 3, {"base/tokenizer.json", "depth"}, NULL, deep_tokenizer, TOKENIZER},
    {"38 truncated tokenizer.json",
     3,
     {"base/tokenizer.json"},
     NULL,
     cut_tokenizer,
     TOKENIZER,
     .a = "-20"},
    {"40 duplicate id",
     3,
     {"base/tokenizer.json", "bad"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "\"bad\":5",
     .b = "\"bad\":4"},
    {"40 negative id",
     3,
     {"base/tokenizer.json", "bad"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "\"bad\":5",
     .b = "\"bad\":-5"},
    {"40 huge id",
     3,
     {"base/tokenizer.json", "bad"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "\"bad\":5",
     .b = "\"bad\":4294967301"},
    {"40 id is text",
     3,
     {"base/tokenizer.json", "bad"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "\"bad\":5",
     .b = "\"bad\":\"5\""},
    {"40 empty vocabulary",
     3,
     {"base/tokenizer.json", "vocab"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "\"vocab\":{",
     .b = "\"vocab\":{},\"old\":{"},
    {"40 the template names a token that is not there",
     3,
     {"base/tokenizer.json", "[BOS]"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "{\"SpecialToken\":{\"id\":\"[CLS]\"",
     .b = "{\"SpecialToken\":{\"id\":\"[BOS]\""},
    {"40 added token with a negative id",
     3,
     {"base/tokenizer.json", "-3"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "{\"id\":3,\"content\":\"[SEP]\"",
     .b = "{\"id\":-3,\"content\":\"[SEP]\""},
    {"42 ten million letters", 0, {NULL}, NULL, huge_word, CALIB},
    {"43 tokenizer id beyond the embeddings",
     3,
     {"calib.jsonl:2:", "500", "96"},
     NULL,
     damage_tokenizer,
     TOKENIZER,
     .a = "\"bad\":5",
     .b = "\"bad\":500"},
    {"43 a word that nothing covers", 3, {"calib.jsonl:2:", "[UNK]"}, NULL, no_unknown, TOKENIZER},
    {"44 a tokenizer class of transformers 5",
     0,
     {NULL},
     NULL,
     rows_with_tokenizer,
     .file = "base/tokenizer_config.json",
     .a = "{\"tokenizer_class\":\"TokenizersBackend\"}"},
    {"50 longer text is truncated and counted",
     0,
     {"\"n_truncated\":1"},
     "predict --posterior @/posterior --base @/base --adapter @/adapter --data @/rows.jsonl "
     "--max-length 4 --out @/out --quiet --json",
     rows_with_tokenizer,
     .file = "rows.jsonl",
     .a = "{\"text\":\"good\"}\n{\"text\":\"good good good\"}\n"},
    {"50 --max-length below the special tokens",
     2,
     {"1", "2"},
     .command = FIT " --max-length 1",
     .damage = use_tokenizer},
    {"50 --max-length beyond the positions",
     2,
     {"--max-length", "65", "64"},
     .command = FIT " --max-length 65"},

    /* ---- choices ---- */
    {"causal LM without choices", 2, {"--choice"}, .command = FIT_LLAMA, LLAMA},
    {"--choice-ids on a classification head", 2, {"--choice"}, .command = FIT " --choice-ids 1,2"},
    {"--choices on a classification head",
     2,
     {"--choice"},
     .command = FIT " --choices yes,no",
     .damage = use_tokenizer},
    {"choices and ids",
     2,
     {"--choices", "--choice-ids"},
     .command = FIT_LLAMA " --choice-ids 1,2 --choices a,b",
     LLAMA},
    {"duplicate choice id", 3, {"37"}, .command = FIT_LLAMA " --choice-ids 37,76,37", LLAMA},
    {"choice id beyond the vocabulary",
     3,
     {"101", "100"},
     .command = FIT_LLAMA " --choice-ids 37,101",
     LLAMA},
    {"a single choice", 2, {"--choice"}, .command = FIT_LLAMA " --choice-ids 37", LLAMA},
    {"negative choice id",
     2,
     {"--choice-ids", "-1"},
     .command = FIT_LLAMA " --choice-ids 37,-1",
     LLAMA},
    {"choice id is no number",
     2,
     {"--choice-ids", "x"},
     .command = FIT_LLAMA " --choice-ids 37,x",
     LLAMA},
    {"choice ids end in a comma",
     2,
     {"--choice-ids"},
     .command = FIT_LLAMA " --choice-ids 37,76,",
     LLAMA},
    {"no choice ids", 2, {"--choice-ids"}, .command = FIT_LLAMA " --choice-ids ''", LLAMA},
    {"choice id of 2^32",
     2,
     {"--choice-ids"},
     .command = FIT_LLAMA " --choice-ids 37,4294967333",
     LLAMA},
    {"choices without a tokenizer",
     4,
     {"--choices", "tokenizer.json"},
     .command = FIT_LLAMA " --choices yes,no",
     LLAMA},
    {"53 a choice of two tokens",
     3,
     {"--choices", "films", "6", "8"},
     .command = FIT_LLAMA " --choices good,films",
     .damage = use_tokenizer,
     LLAMA},
    {"53 choices of the same token",
     3,
     {"4"},
     .command = FIT_LLAMA " --choices good,Good",
     .damage = use_tokenizer,
     LLAMA},
    {"53 the same choice twice",
     2,
     {"--choices"},
     .command = FIT_LLAMA " --choices good,good",
     .damage = use_tokenizer,
     LLAMA},
    {"53 an empty choice",
     2,
     {"--choices"},
     .command = FIT_LLAMA " --choices good,,bad",
     .damage = use_tokenizer,
     LLAMA},
    {"labels other than the choices",
     3,
     {"--labels", "3", "4"},
     FIT_CHOICES " --labels a,b,c",
     LLAMA},

    /* ---- templates ---- */
    {"template: no such file", 3, {"t.txt"}, .command = FIT " --template @/t.txt"},
    {"template: open brace",
     3,
     {"t.txt"},
     FIT " --template @/t.txt",
     put_file,
     .file = "t.txt",
     .a = "Review: {text\n"},
    {"template: field missing in a row",
     3,
     {"calib.jsonl:1:", "review"},
     FIT " --template @/t.txt",
     rows_with_tokenizer,
     .file = "t.txt",
     .a = "Review: {review}\n"},

    /* ---- prediction files ---- */
    {"report: no such file", 3, {"p.jsonl"}, .command = REPORT},
    {"report: no JSON",
     3,
     {"p.jsonl:2:", "JSON"},
     REPORT,
     put_file,
     P,
     .a = ROW(0, 0.75, 0.25) "{\n"},
    {"report: no probs", 3, {"p.jsonl:1:", "probs"}, REPORT, put_file, P, .a = "{\"label\":0}\n"},
    {"report: probs that do not add up",
     3,
     {"p.jsonl:2:", "probs"},
     REPORT,
     put_file,
     P,
     .a = ROW(0, 0.75, 0.25) ROW(0, 0.75, 0.5)},
    {"report: negative probability",
     3,
     {"p.jsonl:1:", "probs", "-0.5"},
     REPORT,
     put_file,
     P,
     .a = ROW(0, -0.5, 1.5)},
    {"report: NaN probability", 3, {"p.jsonl:1:"}, REPORT, put_file, P, .a = ROW(0, NaN, 0.25)},
    {"report: other number of classes",
     3,
     {"p.jsonl:2:", "probs", "3", "2"},
     REPORT,
     put_file,
     P,
     .a = ROW(0, 0.75, 0.25) "{\"label\":0,\"probs\":[0.5,0.25,0.25]}\n"},
    {"report: label beyond the classes",
     3,
     {"p.jsonl:1:", "label", "2"},
     REPORT,
     put_file,
     P,
     .a = ROW(2, 0.75, 0.25)},
    {"report: label is a name",
     3,
     {"p.jsonl:1:", "label", "string"},
     REPORT,
     put_file,
     P,
     .a = "{\"label\":\"yes\",\"probs\":[0.5,0.5]}\n"},
    {"6 report: deep row", 3, {"p.jsonl:1:", "depth"}, REPORT, nest_deeply, P},
};

static void report_baseline(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    put_file(&(fault){P, .a = ROW(0, 0.75, 0.25) ROW(1, 0.75, 0.25)}, folder);
    put_file(&(fault){.file = "b.json", .a = "{\"schema\":\"laplora.fit/1\"}"}, folder);
    command done = run_line(folder, REPORT " --baseline @/b.json --max-regression nll=0.1", NULL);
    const char *pieces[] = {"b.json", "schema", "laplora.fit/1"};
    check_message(&done, 3, pieces, 3);
    check_nothing_written(folder);
    command_free(&done);
}

/* 52: AUROC of predictions that are all right is no number: null, and a gate on it fails. */
static void auroc_undefined(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    put_file(&(fault){P, .a = ROW(0, 0.75, 0.25) ROW(0, 0.625, 0.375)}, folder);
    command done = run_line(folder, "report @/p.jsonl --format json --min auroc=0.5", NULL);
    assert_int_equal(done.code, 1);
    json_t *report = json_loads(done.out, 0, NULL);
    assert_non_null(report);
    assert_true(json_is_null(at(report, "metrics/auroc")));
    assert_true(json_is_false(at(report, "gates/0/pass")));
    assert_true(json_is_null(at(report, "gates/0/value")));
    assert_non_null(strstr(done.err, "gate"));
    json_decref(report);
    command_free(&done);
    done = run_line(folder, "report @/p.jsonl --format json --min-samples 3", NULL);
    assert_int_equal(done.code, 1);
    command_free(&done);
    done = run_line(folder, "report @/p.jsonl --format json --max ece=1", NULL);
    assert_int_equal(done.code, 0);
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest more[] = {
        cmocka_unit_test(report_baseline),
        cmocka_unit_test(auroc_undefined),
    };
    int failed = run_faults("faulty texts and predictions", faults, sizeof faults / sizeof *faults);
    return failed +
           cmocka_run_group_tests_name("faulty texts and predictions, more", more, NULL, NULL);
}
