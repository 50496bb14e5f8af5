/* Kinds of adapter: those that are refused, each by its name; damage to DoRA, AdaLoRA and IA3;
 * several adapters in one place. */
#include "support/faults.h"
#include "support/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADAPTER .file = "adapter/adapter_model.safetensors"
#define PEFT .file = "adapter/adapter_config.json"
#define QUERY0 "bert.encoder.layer.0.attention.self.query"
#define Q0 "model.layers.0.self_attn.q_proj"
#define IN_ADAPTER "adapter/adapter_model.safetensors"
#define IN_PEFT "adapter/adapter_config.json"
#define WAY_OUT "merge_and_unload()"
#define DORA .fixture = "dora-bert"
#define ADALORA .fixture = "adalora"
#define PRUNED .fixture = "adalora-pruned", .command = FIT " --choice-ids 12,50,33"
#define IA3 .fixture = "ia3-bert"
#define VERA .fixture = "vera-bert"

#define TYPE(type)                                                                                 \
    {                                                                                              \
        "peft_type " type, 4, {IN_PEFT, "\"" type "\"", "LORA, ADALORA, IA3", WAY_OUT}, NULL,      \
            set_key, PEFT, .a = "peft_type", .b = "\"" type "\""                                   \
    }

#define KEY(key, value)                                                                            \
    { key, 4, {IN_PEFT, "\"" key "\" is set", WAY_OUT}, NULL, set_key, PEFT, .a = key, .b = value }

/* Every tensor whose name holds a gets b in its place. */
static void rename_all(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    int n = 0;
    for (size_t i = 0; i < file.n; i++) {
        tensor_bytes *t = &file.tensors[i];
        char *at = strstr(t->name, f->a), *name;
        if (!at)
            continue;
        size_t size = strlen(t->name) + strlen(f->b) + 1;
        name = malloc(size);
        snprintf(name, size, "%.*s%s%s", (int)(at - t->name), t->name, f->b, at + strlen(f->a));
        free(t->name);
        t->name = name;
        n++;
    }
    assert_true(n > 0);
    tensors_write(&file, path);
    tensors_free(&file);
}

/* The row of a frozen weight and that of its B are zeros. */
static void no_row(const fault *f, const char *folder) {
    const char *files[] = {"base/model.safetensors", IN_ADAPTER};
    const char *endings[] = {QUERY0 ".weight", QUERY0 ".lora_B.weight"};
    for (int i = 0; i < 2; i++) {
        const char *path = in_case(folder, files[i]);
        tensor_file file = tensors_read(path);
        tensor_bytes *t = tensors_find(&file, endings[i]);
        size_t row = t->length / 32;
        memset(t->data + 5 * row, 0, row);
        tensors_write(&file, path);
        tensors_free(&file);
    }
    (void)f;
}

static const fault faults[] = {
    TYPE("PROMPT_ELSE"),
    TYPE("ADAMSS"),
    TYPE("ADAPTION_PROMPT"),
    TYPE("BEFT"),
    TYPE("BOFT"),
    TYPE("BONE"),
    TYPE("C3A"),
    TYPE("CPT"),
    TYPE("DELORA"),
    TYPE("FOURIERFT"),
    TYPE("FROD"),
    TYPE("GRALORA"),
    TYPE("HRA"),
    TYPE("LILY"),
    TYPE("LN_TUNING"),
    TYPE("LOHA"),
    TYPE("LOKR"),
    TYPE("MISS"),
    TYPE("OFT"),
    TYPE("OSF"),
    TYPE("POLY"),
    TYPE("PVERA"),
    TYPE("RANDLORA"),
    TYPE("ROAD"),
    TYPE("SHIRA"),
    TYPE("VBLORA"),
    TYPE("WAVEFT"),
    TYPE("XLORA"),
    KEY("layer_replication", "[[0,2]]"),
    KEY("alora_invocation_tokens", "[5,6]"),
    KEY("target_parameters", "[\"mlp.experts.gate_up_proj\"]"),
    KEY("use_bdlora", "{\"nblocks\":2}"),
    KEY("use_qalora", "true"),
    KEY("arrow_config", "{\"top_k\":2}"),
    KEY("kasa_config", "{\"beta\":0.1}"),
    KEY("monteclora_config", "{\"num_samples\":4}"),
    KEY("megatron_config", "{\"tensor_model_parallel_size\":2}"),
    {"lora_ga",
     4,
     {IN_PEFT, "lora_ga", "base"},
     NULL,
     set_key,
     PEFT,
     .a = "init_lora_weights",
     .b = "\"lora_ga\""},
    /* DoRA */
    {"DoRA without magnitudes",
     3,
     {IN_PEFT, "use_dora", QUERY0 ".lora_magnitude_vector"},
     NULL,
     set_key,
     PEFT,
     .a = "use_dora",
     .b = "true"},
    {"DoRA, one magnitude is gone",
     3,
     {IN_PEFT, QUERY0 ".lora_magnitude_vector"},
     NULL,
     drop_tensor,
     ADAPTER,
     DORA,
     .a = QUERY0 ".lora_magnitude_vector"},
    {"DoRA, magnitudes of another width",
     3,
     {IN_ADAPTER, QUERY0 ".lora_magnitude_vector", "31 values", "32"},
     NULL,
     reshape_tensor,
     ADAPTER,
     DORA,
     .a = QUERY0 ".lora_magnitude_vector",
     .b = "[31]"},
    {"DoRA's magnitudes, but use_dora is false",
     4,
     {IN_ADAPTER, "lora_magnitude_vector"},
     NULL,
     set_key,
     PEFT,
     DORA,
     .a = "use_dora",
     .b = "false"},
    {"DoRA, use_dora is a word",
     3,
     {IN_PEFT, "use_dora"},
     NULL,
     set_key,
     PEFT,
     DORA,
     .a = "use_dora",
     .b = "\"yes\""},
    {"DoRA, a row of norm 0", 3, {IN_PEFT, QUERY0, "row 5", "norm 0"}, DORA, .damage = no_row},
    {"DoRA, magnitudes as they are called in memory",
     0,
     {NULL},
     NULL,
     rename_all,
     ADAPTER,
     DORA,
     .a = ".lora_magnitude_vector",
     .b = ".lora_magnitude_vector.default.weight"},
    {"DoRA, magnitudes in the old form",
     0,
     {NULL},
     NULL,
     rename_all,
     ADAPTER,
     DORA,
     .a = ".lora_magnitude_vector",
     .b = ".lora_magnitude_vector.weight"},
    {"magnitudes of an adapter without them",
     3,
     {IN_PEFT, "use_dora", "magnitudes"},
     .command = FIT " --params lora+magnitude"},
    {"magnitudes and a head that was not trained",
     3,
     {"--params", "modules_to_save"},
     .command = FIT " --choice-ids 12,50,33 --params lora+magnitude+head",
     .fixture = "dora-gpt2"},
    /* AdaLoRA */
    {"AdaLoRA, E is gone",
     3,
     {IN_PEFT, QUERY0 ".lora_E"},
     NULL,
     drop_tensor,
     ADAPTER,
     ADALORA,
     .a = QUERY0 ".lora_E"},
    {"AdaLoRA, E of another rank",
     3,
     {IN_ADAPTER, QUERY0 ".lora_E", "3 values", "4"},
     NULL,
     reshape_tensor,
     ADAPTER,
     ADALORA,
     .a = QUERY0 ".lora_E",
     .b = "[3,1]"},
    {"AdaLoRA, B is gone",
     3,
     {IN_ADAPTER, QUERY0 ".lora_A", "lora_B"},
     NULL,
     drop_tensor,
     ADAPTER,
     ADALORA,
     .a = QUERY0 ".lora_B"},
    {"AdaLoRA, init_r is not the weights'",
     3,
     {IN_PEFT, QUERY0, "rank 4", "expected 12"},
     NULL,
     set_key,
     PEFT,
     ADALORA,
     .a = "init_r",
     .b = "12"},
    {"AdaLoRA, no init_r", 3, {IN_PEFT, "init_r"}, NULL, set_key, PEFT, ADALORA, .a = "init_r"},
    {"AdaLoRA, rank_pattern is gone",
     3,
     {IN_PEFT, Q0, "rank 3", "expected 4"},
     .damage = set_key,
     PEFT,
     PRUNED,
     .a = "rank_pattern"},
    {"AdaLoRA, rank_pattern of another length",
     3,
     {IN_PEFT, Q0 ".lora_E", "init_r = 4"},
     .damage = set_key,
     PEFT,
     PRUNED,
     .a = "rank_pattern",
     .b = "{\"" Q0 ".lora_E\":[true,true,true]}"},
    {"AdaLoRA, rank_pattern keeps others",
     3,
     {IN_PEFT, Q0, "rank 3", "expected 2"},
     .damage = set_key,
     PEFT,
     PRUNED,
     .a = "rank_pattern",
     .b = "{\"" Q0 ".lora_E\":[true,false,false,true]}"},
    {"AdaLoRA with DoRA",
     4,
     {IN_PEFT, "use_dora", "ADALORA"},
     NULL,
     set_key,
     PEFT,
     ADALORA,
     .a = "use_dora",
     .b = "true"},
    {"AdaLoRA, keys as they are called in memory",
     0,
     {NULL},
     NULL,
     rename_all,
     ADAPTER,
     ADALORA,
     .a = ".lora_E",
     .b = ".lora_E.default"},
    {"TFB is for LoRA",
     4,
     {"tfb", IN_PEFT, "ADALORA"},
     "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl "
     "--methods map,tfb --out @/out --quiet",
     ADALORA},
    /* IA3 */
    {"IA3, a vector of another width",
     3,
     {IN_ADAPTER, "key.ia3_l", "[31, 1]", "[32, 1]"},
     NULL,
     reshape_tensor,
     ADAPTER,
     IA3,
     .a = "layer.0.attention.self.key.ia3_l",
     .b = "[31,1]"},
    {"IA3, a vector without its second side",
     3,
     {IN_ADAPTER, "key.ia3_l", "[32]", "[32, 1]"},
     NULL,
     reshape_tensor,
     ADAPTER,
     IA3,
     .a = "layer.0.attention.self.key.ia3_l",
     .b = "[32]"},
    {"IA3, a module that is not there",
     3,
     {IN_ADAPTER, "self.quay.ia3_l", "nearest"},
     NULL,
     rename_all,
     ADAPTER,
     IA3,
     .a = "self.key.ia3_l",
     .b = "self.quay.ia3_l"},
    {"IA3, a key of tomorrow",
     4,
     {IN_PEFT, "use_more", "IA3"},
     NULL,
     set_key,
     PEFT,
     IA3,
     .a = "use_more",
     .b = "true"},
    {"IA3, keys as they are called in memory",
     0,
     {NULL},
     NULL,
     rename_all,
     ADAPTER,
     IA3,
     .a = ".ia3_l",
     .b = ".ia3_l.default"},
    {"compare leaves TFB out",
     0,
     {"kron"},
     "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl --quiet "
     "--format text",
     IA3},
    /* VeRA */
    {"VeRA without its projections",
     4,
     {IN_PEFT, "base_model.vera_A", "save_projection=True"},
     NULL,
     rename_all,
     ADAPTER,
     VERA,
     .a = "base_model.vera_A",
     .b = "base_model.vera_C"},
    {"VeRA, projections for smaller layers",
     3,
     {IN_ADAPTER, "base_model.vera_A", "[8, 30]", "[6, 32]"},
     NULL,
     reshape_tensor,
     ADAPTER,
     VERA,
     .a = "base_model.vera_A",
     .b = "[8,30]"},
    {"VeRA, a vector of another width",
     3,
     {IN_ADAPTER, "0.attention.self.query.vera_lambda_b", "31 values", "32"},
     NULL,
     reshape_tensor,
     ADAPTER,
     VERA,
     .a = "0.attention.self.query.vera_lambda_b",
     .b = "[31]"},
    {"VeRA, one vector of two",
     3,
     {IN_PEFT, "self.value.vera_lambda_d"},
     NULL,
     rename_all,
     ADAPTER,
     VERA,
     .a = "self.value.vera_lambda_d",
     .b = "self.valve.vera_lambda_d"},
    {"VeRA, another rank than the configuration's",
     3,
     {IN_ADAPTER, "vera_lambda_d", "6 values", "expected 5"},
     NULL,
     set_key,
     PEFT,
     VERA,
     .a = "r",
     .b = "5"},
    {"VeRA, a key of tomorrow",
     4,
     {IN_PEFT, "use_more", "VERA"},
     NULL,
     set_key,
     PEFT,
     VERA,
     .a = "use_more",
     .b = "true"},
    {"VeRA, keys as they are called in memory",
     0,
     {NULL},
     NULL,
     rename_all,
     ADAPTER,
     VERA,
     .a = ".vera_lambda_d",
     .b = ".vera_lambda_d.default"},
    /* names */
    {"a name for a folder of one",
     2,
     {IN_ADAPTER, "--adapter-name \"other\""},
     .command = FIT " --adapter-name other"},
    {"a name with a slash", 2, {"--adapter-name \"../x\""}, .command = FIT " --adapter-name ../x"},
    {"a name within the keys, not said",
     2,
     {IN_ADAPTER, "\"default\"", "\"mine\"", "--adapter-name"},
     NULL,
     rename_all,
     ADAPTER,
     .a = ".lora_B.weight",
     .b = ".lora_B.mine.weight"},
};

/* ---- several adapters ---- */

static void move_to(const char *folder, const char *name) {
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors"};
    char to[512], from[128];
    snprintf(to, sizeof to, "adapter/%s", name);
    assert_int_equal(mkdir(in_case(folder, to), 0777), 0);
    for (int i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "adapter/%s", files[i]);
        snprintf(to, sizeof to, "adapter/%s/%s", name, files[i]);
        rename_file(&(fault){.file = from, .a = to}, folder);
    }
}

/* The adapter's digest, and with it the model's, is of its keys as well. */
static void drop_model(char *rows) {
    static const char key[] = ",\"model\":\"";
    for (char *at = rows; (at = strstr(at, key));) {
        const char *end = strchr(at + strlen(key), '"') + 1;
        memmove(at, end, strlen(end) + 1);
    }
}

static char *output_of(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("exit code %d: %.600s", done.code, done.err);
    command_free(&done);
    size_t length;
    char *out = read_file(in_case(folder, "out"), &length);
    out = realloc(out, length + 1);
    out[length] = 0;
    return out;
}

#define FIT_NAMED                                                                                  \
    "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/posterior --quiet"

static void run_good(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("exit code %d: %.600s", done.code, done.err);
    command_free(&done);
}

static void refuse(const char *folder, const char *line, int code, const char *const pieces[3]) {
    command done = run_line(folder, line, NULL);
    check_message(&done, code, pieces, 3);
    command_free(&done);
}

/* Subdirectories: predict gives the same as for the directory alone, without the name. */
static void subfolders(void **state) {
    (void)state;
    const char *const listed[] = {"/adapter", "\"one\", \"two\"", "--adapter-name"};
    const char *const none[] = {"\"three\"", "\"one\", \"two\"", "--adapter-name"};
    const char *folder = open_case("bert");
    fit_case(folder);
    char *want = output_of(folder, PREDICT);
    move_to(folder, "two");
    char from[64] = "adapter/one";
    assert_int_equal(mkdir(in_case(folder, from), 0777), 0);
    put_file(&(fault){.file = "adapter/one/adapter_config.json", .a = "{}"}, folder);
    refuse(folder, FIT_NAMED, 2, listed);
    refuse(folder, FIT_NAMED " --adapter-name three", 2, none);
    run_good(folder, FIT_NAMED " --adapter-name two");
    char *got = output_of(folder, PREDICT);
    assert_string_equal(got, want);
    free(got);
    got = output_of(folder, PREDICT " --adapter-name two");
    assert_string_equal(got, want);
    free(got), free(want);
}

/* Two adapters in one file: the wanted one's numbers, and another digest for each. */
static void names_in_keys(void **state) {
    (void)state;
    const char *const listed[] = {IN_ADAPTER, "\"more\", \"worse\"", "--adapter-name"};
    const char *const mismatch[] = {"adapter", "digest", "fitted"};
    const char *folder = open_case("bert");
    fit_case(folder);
    char *want = output_of(folder, PREDICT);
    const char *path = in_case(folder, IN_ADAPTER);
    tensor_file file = tensors_read(path);
    size_t n = file.n;
    for (size_t i = 0; i < n; i++) {
        static const char *const leaves[] = {"lora_A", "lora_B"};
        for (int k = 0; k < 2; k++) {
            tensor_bytes *t = &file.tensors[i];
            char *at = strstr(t->name, leaves[k]), name[512], shape[64];
            if (!at)
                continue;
            int before = (int)(at - t->name);
            snprintf(name, sizeof name, "%.*s%s.worse.weight", before, t->name, leaves[k]);
            snprintf(shape, sizeof shape, "[%lld,%lld]",
                     (long long)json_integer_value(json_array_get(t->shape, 0)),
                     (long long)json_integer_value(json_array_get(t->shape, 1)));
            float *half = calloc(1, t->length);
            memcpy(half, t->data, t->length);
            for (size_t v = 0; v < t->length / sizeof *half; v++)
                half[v] *= 0.5f;
            tensors_add(&file, name, "F32", shape, half, t->length);
            free(half);
            t = &file.tensors[i];
            snprintf(name, sizeof name, "%.*s%s.more.weight", before, t->name, leaves[k]);
            free(t->name);
            t->name = strdup(name);
        }
    }
    tensors_write(&file, path);
    tensors_free(&file);
    refuse(folder, FIT_NAMED, 2, listed);
    run_good(folder, FIT_NAMED " --adapter-name more");
    char *got = output_of(folder, PREDICT);
    drop_model(got);
    drop_model(want);
    assert_string_equal(got, want);
    free(got);
    refuse(folder, PREDICT " --adapter-name worse", 7, mismatch);
    run_good(folder, FIT_NAMED " --adapter-name worse");
    got = output_of(folder, PREDICT);
    drop_model(got);
    assert_string_not_equal(got, want);
    free(got), free(want);
}

/* An adapter without any of the later keys keeps the digest that stored posteriors have. */
static void digest_stays(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    command done = run_line(folder, "info @/posterior --json", NULL);
    assert_int_equal(done.code, 0);
    assert_non_null(strstr(done.out, "\"adapter_digest\":\"9b0d59149af9443243badea2e7ef2cf2\""));
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest more[] = {
        cmocka_unit_test(subfolders),
        cmocka_unit_test(names_in_keys),
        cmocka_unit_test(digest_stays),
    };
    int failed = run_faults("kinds of adapter", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("several adapters", more, NULL, NULL);
}
