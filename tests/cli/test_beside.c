/* Files beside the model that change what it sees: the adapter's own tokenizer with added tokens
 * and a resized embedding, its length and side of truncation, posteriors of before. */
#include "laplora.h"
#include "support/faults.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIT_TEXT                                                                                   \
    "fit --base @/base --adapter @/adapter --data @/calib.jsonl --prior 1 --out @/posterior"
#define ANSWER "predict --posterior @/posterior --data @/test.jsonl --predictive map"

static const char *case_folder(void) {
    static char folder[4096];
    static int n;
    char name[64];
    snprintf(name, sizeof name, "beside-%d", n++);
    snprintf(folder, sizeof folder, "%s", scratch(name));
    copy_folder(fixture("beside/adapter-tokenizer"), folder);
    return folder;
}

static command well(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: exit code %d: %s", line, done.code, done.err);
    return done;
}

/* Runs a line; said: part that stderr must have, NULL: it must be empty. */
static void check_note(const char *folder, const char *line, const char *said) {
    command done = well(folder, line);
    if (said ? !strstr(done.err, said) : *done.err != 0)
        fail_msg("%s: \"%s\", expected \"%s\"", line, done.err, said ? said : "");
    command_free(&done);
}

static void remove_tokenizer(const char *folder, const char *part) {
    char name[64];
    snprintf(name, sizeof name, "%s/tokenizer.json", part);
    remove(in_case(folder, name));
    snprintf(name, sizeof name, "%s/tokenizer_config.json", part);
    remove(in_case(folder, name));
}

/* Largest difference of the plain model's probabilities from expected.json. */
static double difference(const char *folder, const char *line) {
    command done = well(folder, line);
    json_t *expected = load_json(fixture("beside/adapter-tokenizer/expected.json"));
    double worst = 0;
    size_t i = 0;
    for (char *rest = NULL, *row = strtok_r(done.out, "\n", &rest); row;
         row = strtok_r(NULL, "\n", &rest), i++) {
        json_t *got = json_loads(row, 0, NULL);
        for (size_t c = 0; c < 3; c++) {
            double want = json_number_value(json_array_get(json_array_get(expected, i), c));
            double have = json_number_value(json_array_get(json_object_get(got, "map_probs"), c));
            worst = fmax(worst, fabs(want - have));
        }
        json_decref(got);
    }
    assert_int_equal(i, json_array_size(expected));
    json_decref(expected);
    command_free(&done);
    return worst;
}

/* Results of PEFT with the tokenizer saved beside the adapter. */
static void adapter_tokenizer_is_used(void **state) {
    (void)state;
    const char *folder = case_folder();
    check_note(folder, FIT_TEXT, "is the one that is used");
    check_within("probabilities", difference(folder, ANSWER), 1e-5);
    /* the base's is not needed, and nothing is said when it is the same */
    remove_tokenizer(folder, "base");
    check_note(folder, FIT_TEXT " --quiet", NULL);
    check_within("without the base's", difference(folder, ANSWER), 1e-5);
    copy_folder(in_case(folder, "adapter"), in_case(folder, "kept"));
    rename(in_case(folder, "kept/tokenizer.json"), in_case(folder, "base/tokenizer.json"));
    command done = well(folder, FIT_TEXT);
    assert_null(strstr(done.err, "tokenizer"));
    command_free(&done);
}

/* Posteriors know their tokenizer wherever the folders go. */
static void posteriors_know_it(void **state) {
    (void)state;
    const char *folder = case_folder();
    check_note(folder, FIT_TEXT " --quiet", NULL);
    copy_folder(in_case(folder, "adapter"), in_case(folder, "moved"));
    check_within("moved", difference(folder, ANSWER " --adapter @/moved"), 1e-5);
    replace_text(&(fault){.file = "moved/tokenizer.json", .a = "\"refund\"", .b = "\"refunds\""},
                 folder);
    command done = run_line(folder, ANSWER " --adapter @/moved --quiet", NULL);
    static const char *const pieces[] = {"/moved", "tokenizer has digest"};
    check_message(&done, 7, pieces, 2);
    command_free(&done);
    /* the base's does not matter */
    remove_tokenizer(folder, "base");
    check_within("without the base's", difference(folder, ANSWER), 1e-5);
}

/* A posterior fitted with the base's tokenizer goes on with it, and a note says so. */
static void earlier_posteriors(void **state) {
    (void)state;
    const char *folder = case_folder();
    copy_folder(in_case(folder, "adapter"), in_case(folder, "kept"));
    remove_tokenizer(folder, "adapter");
    check_note(folder, FIT_TEXT " --quiet", NULL);
    command before = well(folder, ANSWER);
    rename(in_case(folder, "kept/tokenizer.json"), in_case(folder, "adapter/tokenizer.json"));
    command after = well(folder, ANSWER);
    assert_string_equal(before.out, after.out);
    assert_non_null(strstr(after.err, "fitted with the tokenizer.json of the base,"));
    command_free(&before);
    command_free(&after);
}

static void put(const char *folder, const char *file, const char *text) {
    write_file(in_case(folder, file), text, strlen(text));
}

/* Likewise before the files beside the base's tokenizer.json were read. */
static void earlier_side_files(void **state) {
    (void)state;
    const char *folder = case_folder();
    remove_tokenizer(folder, "adapter");
    remove(in_case(folder, "base/tokenizer_config.json"));
    check_note(folder, FIT_TEXT " --quiet", NULL);
    command before = well(folder, ANSWER);
    put(folder, "base/tokenizer_config.json", "{\"mask_token\":\"the\"}");
    command after = well(folder, ANSWER);
    assert_string_equal(before.out, after.out);
    assert_non_null(strstr(after.err, "of the base alone"));
    command_free(&before);
    command_free(&after);
}

/* tokens.json's ids of one row, cut by what the folders say */
static void check_ids(const char *folder, const char *line, const char *ids) {
    command done = well(folder, line);
    if (!strstr(done.out, ids))
        fail_msg("%s: %s, expected %s", line, done.out, ids);
    command_free(&done);
}

static void lengths_and_sides(void **state) {
    (void)state;
    const char *folder = case_folder();
    put(folder, "row.jsonl", "{\"text\":\"one two three four\"}\n");
    put(folder, "base/tokenizer_config.json", "{\"model_max_length\":3}");
    check_ids(folder, "tokenize --base @/base --data @/row.jsonl", "[1,35,36]");
    put(folder, "base/tokenizer_config.json",
        "{\"model_max_length\":3,\"truncation_side\":\"left\"}");
    check_ids(folder, "tokenize --base @/base --data @/row.jsonl", "[1,37,38]");
    /* the adapter's length stands above the base's: rows of four tokens are not cut to three */
    put(folder, "adapter/tokenizer_config.json", "{\"model_max_length\":4}");
    put(folder, "calib.jsonl",
        "{\"text\":\"one two three four\",\"label\":0}\n"
        "{\"text\":\"four three two one\",\"label\":1}\n");
    command done = well(folder, FIT_TEXT " --json");
    json_t *root = json_loads(done.out, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(root, "n_tokens")), 8);
    json_decref(root);
    command_free(&done);
}

/* A host program's texts are cut where a file's are. */
static void hosts_are_cut_alike(void **state) {
    (void)state;
    static const char text[] = "one two three four";
    const char *folder = case_folder();
    put(folder, "test.jsonl", "{\"text\":\"one two three four\"}\n");
    put(folder, "adapter/tokenizer_config.json",
        "{\"model_max_length\":3,\"truncation_side\":\"left\"}");
    check_note(folder, FIT_TEXT " --quiet", NULL);
    command done = well(folder, ANSWER);
    json_t *row = json_loads(done.out, 0, NULL);
    la_error err;
    la_predictor *predictor;
    la_predict_options options = {.posterior = in_case(folder, "posterior"), .predictive = "map"};
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_OK);
    double memory[18], variance[3];
    la_prediction out = {.probs = memory,
                         .map_probs = memory + 3,
                         .logits = memory + 6,
                         .logit_cov = memory + 9,
                         .variance = variance};
    la_input in = {.text = text, .text_length = strlen(text)};
    assert_int_equal(la_predictor_run(predictor, &in, 1, &out, &err), LA_OK);
    for (size_t c = 0; c < 3; c++)
        check_within("of a file and of a host",
                     relative(memory[c],
                              json_number_value(json_array_get(json_object_get(row, "probs"), c)),
                              0.01),
                     1e-5);
    la_predictor_close(predictor);
    json_decref(row);
    command_free(&done);
}

static void refused(void **state) {
    (void)state;
    const char *folder = case_folder();
    /* tokens that the embedding has no row for */
    put(folder, "adapter/tokenizer_config.json", "{\"mask_token\":\"<new>\"}");
    put(folder, "calib.jsonl", "{\"text\":\"one <new>\",\"label\":0}\n");
    command done = run_line(folder, FIT_TEXT " --quiet", NULL);
    static const char *const beyond[] = {"calib.jsonl:1:", "token id 57", "0 to 56",
                                         "save_embedding_layers"};
    check_message(&done, 3, beyond, 4);
    command_free(&done);
    /* a vocabulary of another form beside the adapter */
    rename(in_case(folder, "adapter/tokenizer.json"), in_case(folder, "adapter/vocab.txt"));
    done = run_line(folder, FIT_TEXT " --quiet", NULL);
    static const char *const other[] = {"adapter/tokenizer.json", "vocab.txt", "save_pretrained"};
    check_message(&done, 4, other, 3);
    command_free(&done);
    /* files that only add to a tokenizer that is missing */
    remove(in_case(folder, "adapter/vocab.txt"));
    put(folder, "calib.jsonl", "{\"text\":\"one\",\"label\":0}\n{\"text\":\"two\",\"label\":1}\n");
    check_note(folder, FIT_TEXT, "adapter/tokenizer_config.json: is passed over");
}

/* config.json beside the adapter: names of classes, and what it says otherwise. */
static void adapter_configuration(void **state) {
    (void)state;
    const char *folder = case_folder();
    put(folder, "adapter/config.json",
        "{\"id2label\":{\"0\":\"low\",\"1\":\"mid\",\"2\":\"high\"},\"vocab_size\":57,"
        "\"rms_norm_eps\":1e-6,\"hidden_dropout\":0.5}");
    put(folder, "calib.jsonl",
        "{\"text\":\"one\",\"label\":\"low\"}\n{\"text\":\"two\",\"label\":\"high\"}\n");
    command done = well(folder, FIT_TEXT);
    assert_null(strstr(done.err, "differs from"));
    command_free(&done);
    done = well(folder, ANSWER);
    assert_non_null(strstr(done.out, "\"prediction_label\":\"mid\""));
    command_free(&done);
    put(folder, "adapter/config.json", "{\"rms_norm_eps\":1e-5}");
    put(folder, "calib.jsonl", "{\"text\":\"one\",\"label\":0}\n{\"text\":\"two\",\"label\":1}\n");
    check_note(folder, FIT_TEXT, "adapter/config.json: rms_norm_eps differs from");
    put(folder, "adapter/config.json", "{\"problem_type\":\"token_ranking\"}");
    done = run_line(folder, FIT_TEXT " --quiet", NULL);
    static const char *const pieces[] = {"adapter/config.json", "token_ranking"};
    check_message(&done, 4, pieces, 2);
    command_free(&done);
}

/* problem_type and id2label count beside the adapter as in the base, and before them. */
static void adapter_problem_type(void **state) {
    static const char names[] = "\"id2label\":{\"0\":\"sport\",\"1\":\"money\",\"2\":\"health\","
                                "\"3\":\"travel\"}";
    static const char fit[] =
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --prior 1 --out @/posterior";
    const char *folder = open_case("bert-multilabel");
    const fault none = {.file = "base/config.json", .a = "problem_type"};
    const fault one = {
        .file = "base/config.json", .a = "problem_type", .b = "\"single_label_classification\""};
    char text[256];
    (void)state;
    check_note(folder, fit, "4 labels)");
    command in_base = well(folder, ANSWER);
    assert_non_null(strstr(in_base.out, "\"prediction\":[1,2],\"prediction_label\":["));
    snprintf(text, sizeof text, "{\"problem_type\":\"multi_label_classification\",%s}", names);
    put(folder, "adapter/config.json", text);
    set_key(&(fault){.file = "base/config.json", .a = "id2label"}, folder);
    for (int i = 0; i < 2; i++) {
        set_key(i ? &one : &none, folder);
        check_note(folder, fit, "4 labels)");
        command beside = well(folder, ANSWER);
        assert_string_equal(beside.out, in_base.out);
        command_free(&beside);
    }
    command_free(&in_base);
    put(folder, "adapter/config.json", "{\"problem_type\":\"regression\"}");
    command done = run_line(folder, FIT, NULL);
    static const char *const numbers[] = {"problem_type regression", "[4, ", "one output"};
    check_message(&done, 4, numbers, 3);
    command_free(&done);
    /* four outputs of which nothing says more are classes, and a list is no class */
    remove(in_case(folder, "adapter/config.json"));
    set_key(&none, folder);
    done = run_line(folder, FIT, NULL);
    static const char *const classes[] = {"calib.jsonl:1:", "label is an array"};
    check_message(&done, 3, classes, 2);
    command_free(&done);
}

/* Keys and files of a base or an adapter that would change what the model computes. */
static void refused_keys(void **state) {
    (void)state;
    static const struct {
        const char *file, *a, *b;
        int code;
        const char *said;
    } cases[] = {
        {"base/config.json", "quantization", "{\"group_size\":64,\"bits\":4}", 4, "quantization"},
        {"base/config.json", "compression_config", "{\"format\":\"x\"}", 4, "compression_config"},
        {"base/config.json", "pruned_heads", "{\"0\":[1]}", 4, "pruned_heads"},
        {"base/config.json", "auto_map", "{\"AutoModel\":\"modeling.Own\"}", 0, "is not run"},
        {"base/quantize_config.json", "bits", "4", 4, "quantize_config.json"},
        {"adapter/adapter_config.json", "ensure_weight_tying", "true", 4, "ensure_weight_tying"},
        {"adapter/adapter_config.json", "use_qalora", "true", 4, "use_qalora"},
        {"adapter/adapter_config.json", "some_new_key", "{\"x\":1}", 4, "some_new_key"},
        {"adapter/adapter_config.json", "some_new_key", "null", 0, "log likelihood"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *folder = case_folder();
        if (access(in_case(folder, cases[i].file), F_OK))
            put(folder, cases[i].file, "{}");
        set_key(&(fault){.file = cases[i].file, .a = cases[i].a, .b = cases[i].b}, folder);
        command done = run_line(folder, FIT_TEXT, NULL);
        if (done.code != cases[i].code || !strstr(done.err, cases[i].said))
            fail_msg("%s of %s: exit code %d: %s", cases[i].a, cases[i].file, done.code, done.err);
        command_free(&done);
    }
}

static void chat_templates(void **state) {
    (void)state;
    const char *folder = case_folder();
    put(folder, "base/chat_template.jinja", "{{ messages }}");
    command done = well(folder, FIT_TEXT);
    assert_null(strstr(done.err, "chat template"));
    command_free(&done);
    put(folder, "adapter/chat_template.jinja", "{{ messages }}");
    check_note(folder, FIT_TEXT, "adapter: its chat template is not applied");
    remove(in_case(folder, "adapter/chat_template.jinja"));
    put(folder, "adapter/tokenizer_config.json", "{\"chat_template\":\"{{ messages }}\"}");
    check_note(folder, FIT_TEXT, "adapter: its chat template is not applied");
}

/* An adapter inside of the base's folder, which transformers would load with it. */
static void adapter_in_base(void **state) {
    (void)state;
    const char *folder = case_folder();
    put(folder, "base/adapter_config.json", "{\"peft_type\":\"LORA\"}");
    check_note(folder, FIT_TEXT, "holds an adapter as well");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapter_tokenizer_is_used), cmocka_unit_test(posteriors_know_it),
        cmocka_unit_test(earlier_posteriors),        cmocka_unit_test(earlier_side_files),
        cmocka_unit_test(lengths_and_sides),         cmocka_unit_test(refused),
        cmocka_unit_test(hosts_are_cut_alike),       cmocka_unit_test(adapter_configuration),
        cmocka_unit_test(adapter_problem_type),      cmocka_unit_test(refused_keys),
        cmocka_unit_test(adapter_in_base),           cmocka_unit_test(chat_templates),
    };
    return cmocka_run_group_tests_name("files beside the model", tests, NULL, NULL);
}
