/* Damaged or unsupported adapters, each into one line and one exit code. */
#include "support/faults.h"
#include "support/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BASE .file = "base/model.safetensors"
#define ADAPTER .file = "adapter/adapter_model.safetensors"
#define PEFT .file = "adapter/adapter_config.json"
#define LLAMA .fixture = "llama", .command = FIT_CHOICES
#define QUERY0 "bert.encoder.layer.0.attention.self.query"
#define IN_ADAPTER "adapter/adapter_model.safetensors"
#define IN_PEFT "adapter/adapter_config.json"
#define FIT_JSON "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/out --json"

/* One more tensor, named a, of shape b, all zeros. */
static void add_tensor(const fault *f, const char *folder) {
    static const char zeros[4096];
    const char *path = in_case(folder, f->file);
    json_t *shape = json_loads(f->b, 0, NULL);
    size_t length = sizeof(float);
    for (size_t i = 0; i < json_array_size(shape); i++)
        length *= (size_t)json_integer_value(json_array_get(shape, i));
    assert_true(length <= sizeof zeros);
    tensor_file file = tensors_read(path);
    tensors_add(&file, f->a, "F32", f->b, zeros, length);
    tensors_write(&file, path);
    tensors_free(&file);
    json_decref(shape);
}

/* The trained head, with a classes. */
static void resize_head(const fault *f, const char *folder) {
    char weight[32], bias[32];
    snprintf(weight, sizeof weight, "[%s,32]", f->a);
    snprintf(bias, sizeof bias, "[%s]", f->a);
    reshape_tensor(&(fault){ADAPTER, .a = "classifier.weight", .b = weight}, folder);
    reshape_tensor(&(fault){ADAPTER, .a = "classifier.bias", .b = bias}, folder);
}

/* A pickle that would make a file if it were loaded. */
static void pickle_only(const fault *f, const char *folder) {
    char pickle[4400];
    unlink(in_case(folder, f->file));
    snprintf(pickle, sizeof pickle, "cos\nsystem\n(S'touch %s/pwned'\ntR.", folder);
    write_file(in_case(folder, f->a), pickle, strlen(pickle));
}

static void other_adapter(const fault *f, const char *folder) {
    char config[256], weights[256];
    snprintf(config, sizeof config, "parity/%s/adapter/adapter_config.json", f->a);
    snprintf(weights, sizeof weights, "parity/%s/adapter/adapter_model.safetensors", f->a);
    copy_other(&(fault){.file = IN_PEFT, .a = config}, folder);
    copy_other(&(fault){.file = IN_ADAPTER, .a = weights}, folder);
}

static void ranks_differ(const fault *f, const char *folder) {
    reshape_tensor(&(fault){ADAPTER, .a = QUERY0 ".lora_B.weight", .b = "[32,3]"}, folder);
    (void)f;
}

static void untrained(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    for (size_t i = 0; i < file.n; i++)
        if (strstr(file.tensors[i].name, "lora_B"))
            memset(file.tensors[i].data, 0, file.tensors[i].length);
    tensors_write(&file, path);
    tensors_free(&file);
}

static void make_huge(const char *path, const char *tensor) {
    tensor_file file = tensors_read(path);
    tensor_bytes *t = tensors_find(&file, tensor);
    float value = 1e38f;
    for (size_t i = 0; i + sizeof value <= t->length; i += sizeof value)
        memcpy(t->data + i, &value, sizeof value);
    tensors_write(&file, path);
    tensors_free(&file);
}

static void all_huge(const fault *f, const char *folder) {
    make_huge(in_case(folder, f->file), f->a);
}

/* tanh(1e38) = 1 in all of the 32 pooled numbers, and 32 times 1e38 is beyond float, whatever the
 * order of the sum. */
static void logits_overflow(const fault *f, const char *folder) {
    make_huge(in_case(folder, f->file), "bert.pooler.dense.bias");
    make_huge(in_case(folder, IN_ADAPTER), "base_model.model.classifier.weight");
}

/* Every query is close to 1e38 in all of its numbers, and every key: their products are beyond
 * float. */
static void attention_overflows(const fault *f, const char *folder) {
    make_huge(in_case(folder, f->file), "bert.encoder.layer.0.attention.self.query.bias");
    make_huge(in_case(folder, f->file), "bert.encoder.layer.0.attention.self.key.bias");
}

static const fault faults[] = {
    {"27 no adapter_config.json", 3, {IN_PEFT}, NULL, remove_file, PEFT},
    {"27 adapter_config.json is no JSON", 3, {IN_PEFT, "line 1"}, NULL, put_file, PEFT, .a = "{,}"},
    {"27 no peft_type", 3, {IN_PEFT, "peft_type"}, NULL, set_key, PEFT, .a = "peft_type"},
    {"27 no adapter weights",
     3,
     {"/adapter", "adapter_model.safetensors"},
     NULL,
     remove_file,
     ADAPTER},
    {"27 no task_type is given but no such task",
     4,
     {IN_PEFT, "QUESTION_ANS"},
     NULL,
     set_key,
     PEFT,
     .a = "task_type",
     .b = "\"QUESTION_ANS\""},
    {"28 a folder of the adapters library",
     4,
     {IN_PEFT, "adapters"},
     NULL,
     put_file,
     PEFT,
     .a =
         "{\"config\":{\"architecture\":\"pfeiffer\"},\"hidden_size\":32,\"model_type\":\"bert\"}"},
    {"29 aLoRA",
     4,
     {IN_PEFT, "alora_invocation_tokens"},
     NULL,
     set_key,
     PEFT,
     .a = "alora_invocation_tokens",
     .b = "[5,6]"},
    {"29 Arrow",
     4,
     {IN_PEFT, "arrow_config"},
     NULL,
     set_key,
     PEFT,
     .a = "arrow_config",
     .b = "{\"top_k\":2}"},
    {"29 QA-LoRA", 4, {IN_PEFT, "use_qalora"}, NULL, set_key, PEFT, .a = "use_qalora", .b = "true"},
    {"29 BD-LoRA",
     4,
     {IN_PEFT, "use_bdlora"},
     NULL,
     set_key,
     PEFT,
     .a = "use_bdlora",
     .b = "{\"nblocks\":2}"},
    {"29 layer replication",
     4,
     {IN_PEFT, "layer_replication"},
     NULL,
     set_key,
     PEFT,
     .a = "layer_replication",
     .b = "[[0,2]]"},
    {"29 target_parameters",
     4,
     {IN_PEFT, "target_parameters"},
     NULL,
     set_key,
     PEFT,
     .a = "target_parameters",
     .b = "[\"experts\"]"},
    {"29 a key of tomorrow",
     4,
     {IN_PEFT, "use_hyperlora"},
     NULL,
     set_key,
     PEFT,
     .a = "use_hyperlora",
     .b = "true"},
    {"29 a key of tomorrow, not set",
     0,
     {NULL},
     NULL,
     set_key,
     PEFT,
     .a = "use_hyperlora",
     .b = "false"},
    {"29 megatron_core alone means nothing",
     0,
     {NULL},
     NULL,
     set_key,
     PEFT,
     .a = "megatron_core",
     .b = "\"megatron.core\""},
    {"29 DoRA's magnitudes in the weights",
     4,
     {IN_ADAPTER, "lora_magnitude_vector"},
     NULL,
     add_tensor,
     ADAPTER,
     .a = "base_model.model." QUERY0 ".lora_magnitude_vector",
     .b = "[32]"},
    {"30 PiSSA",
     4,
     {IN_PEFT, "init_lora_weights", "pissa_niter_4", "base"},
     NULL,
     set_key,
     PEFT,
     .a = "init_lora_weights",
     .b = "\"pissa_niter_4\""},
    {"30 OLoRA",
     4,
     {IN_PEFT, "olora", "base"},
     NULL,
     set_key,
     PEFT,
     .a = "init_lora_weights",
     .b = "\"olora\""},
    {"30 CorDA",
     4,
     {IN_PEFT, "corda", "base"},
     NULL,
     set_key,
     PEFT,
     .a = "init_lora_weights",
     .b = "\"corda\""},
    {"30 LoftQ",
     4,
     {IN_PEFT, "loftq", "base"},
     NULL,
     set_key,
     PEFT,
     .a = "init_lora_weights",
     .b = "\"loftq\""},
    {"30 Gaussian init leaves the base alone",
     0,
     {NULL},
     NULL,
     set_key,
     PEFT,
     .a = "init_lora_weights",
     .b = "\"gaussian\""},
    {"31 lora_A without lora_B",
     3,
     {IN_ADAPTER, QUERY0 ".lora_A.weight", "lora_B"},
     NULL,
     drop_tensor,
     ADAPTER,
     .a = QUERY0 ".lora_B.weight"},
    {"31 lora_B without lora_A",
     3,
     {IN_ADAPTER, QUERY0 ".lora_B.weight", "lora_A"},
     NULL,
     drop_tensor,
     ADAPTER,
     .a = QUERY0 ".lora_A.weight"},
    {"32 adapter for a module that is not there",
     3,
     {IN_ADAPTER, "layer.0.attention.self.kwery.lora_A", QUERY0},
     NULL,
     add_tensor,
     ADAPTER,
     .a = "base_model.model.bert.encoder.layer.0.attention.self.kwery.lora_A.weight",
     .b = "[4,32]"},
    {"32 adapter for a layer that is not there",
     3,
     {IN_ADAPTER, "layer.7.attention.self.query"},
     NULL,
     add_tensor,
     ADAPTER,
     .a = "base_model.model.bert.encoder.layer.7.attention.self.query.lora_A.weight",
     .b = "[4,32]"},
    {"32 a tensor name with a line break",
     3,
     {IN_ADAPTER, "surprise"},
     NULL,
     add_tensor,
     ADAPTER,
     .a = "base_model.model.surprise\nlaplora: error: another\x1b[31m",
     .b = "[4]"},
    {"32 a stray tensor",
     3,
     {IN_ADAPTER, "surprise"},
     NULL,
     rename_tensor,
     ADAPTER,
     .a = "classifier.bias",
     .b = "base_model.model.surprise"},
    {"33 r is not the weights'",
     3,
     {IN_PEFT, QUERY0, "4", "8"},
     NULL,
     set_key,
     PEFT,
     .a = "r",
     .b = "8"},
    {"33 rank_pattern is not the weights'",
     3,
     {IN_PEFT, "layer.1", "4", "2"},
     NULL,
     set_key,
     PEFT,
     .a = "rank_pattern",
     .b = "{\"layer.1.attention.self.query\":2}"},
    {"33 A's and B's rank differ",
     3,
     {IN_ADAPTER, QUERY0, "[4, 32]", "[32, 3]"},
     .damage = ranks_differ},
    {"33 rank_pattern is no regular expression",
     3,
     {IN_PEFT, "rank_pattern", "(("},
     NULL,
     set_key,
     PEFT,
     .a = "rank_pattern",
     .b = "{\"((\":2}"},
    {"33 rank_pattern is a list",
     3,
     {IN_PEFT, "rank_pattern"},
     NULL,
     set_key,
     PEFT,
     .a = "rank_pattern",
     .b = "[2]"},
    {"33 alpha_pattern holds a string",
     3,
     {IN_PEFT, "alpha_pattern", "string"},
     NULL,
     set_key,
     PEFT,
     .a = "alpha_pattern",
     .b = "{\"query\":\"8\"}"},
    {"34 one-dimensional lora tensor",
     3,
     {IN_ADAPTER, QUERY0, "gathered"},
     NULL,
     reshape_tensor,
     ADAPTER,
     .a = QUERY0 ".lora_A.weight",
     .b = "[128]"},
    {"34 lora tensor of size zero",
     3,
     {IN_ADAPTER, QUERY0, "gathered"},
     NULL,
     reshape_tensor,
     ADAPTER,
     .a = QUERY0 ".lora_A.weight",
     .b = "[0,32]"},
    {"34 lora tensor of shape [0]",
     3,
     {IN_ADAPTER, QUERY0, "gathered"},
     NULL,
     reshape_tensor,
     ADAPTER,
     .a = QUERY0 ".lora_B.weight",
     .b = "[0]"},
    {"35 r is 0", 3, {IN_PEFT, "\"r\"", "0"}, NULL, set_key, PEFT, .a = "r", .b = "0"},
    {"35 r is negative", 3, {IN_PEFT, "\"r\"", "-4"}, NULL, set_key, PEFT, .a = "r", .b = "-4"},
    {"35 r is missing", 3, {IN_PEFT, "\"r\""}, NULL, set_key, PEFT, .a = "r"},
    {"35 lora_alpha is negative",
     3,
     {IN_PEFT, "lora_alpha", "-8"},
     NULL,
     set_key,
     PEFT,
     .a = "lora_alpha",
     .b = "-8"},
    {"35 lora_alpha is NaN",
     3,
     {IN_PEFT, "NaN"},
     NULL,
     replace_text,
     PEFT,
     .a = "\"lora_alpha\": 8",
     .b = "\"lora_alpha\": NaN"},
    {"35 lora_alpha is a string",
     3,
     {IN_PEFT, "lora_alpha", "string"},
     NULL,
     set_key,
     PEFT,
     .a = "lora_alpha",
     .b = "\"8\""},
    {"35 lora_alpha overflows float",
     3,
     {IN_PEFT, "lora_alpha"},
     NULL,
     set_key,
     PEFT,
     .a = "lora_alpha",
     .b = "1e300"},
    {"35 alpha_pattern is negative",
     3,
     {IN_PEFT, "alpha_pattern"},
     NULL,
     set_key,
     PEFT,
     .a = "alpha_pattern",
     .b = "{\"query\":-8}"},
    {"36 adapter of another hidden size",
     3,
     {IN_ADAPTER, "28", "32"},
     NULL,
     other_adapter,
     .a = "bert-pair"},
    {"36 adapter of another architecture",
     3,
     {IN_ADAPTER, "layers.0.self_attn.q_proj"},
     NULL,
     other_adapter,
     .a = "llama-seq"},
    {"36 wrong shape in the adapter",
     3,
     {IN_ADAPTER, QUERY0, "[16, 4]", "32"},
     NULL,
     reshape_tensor,
     ADAPTER,
     .a = QUERY0 ".lora_B.weight",
     .b = "[16,4]"},
    {"36 replaced bias of the wrong size",
     3,
     {IN_ADAPTER, "base_layer.bias", "29", "30"},
     NULL,
     reshape_tensor,
     ADAPTER,
     .a = "layer.0.attention.self.key.base_layer.bias",
     .b = "[29]",
     .fixture = "bert-all-linear"},
    {"37 head without a class",
     4,
     {IN_ADAPTER, "classifier.weight", "[0, 32]"},
     NULL,
     resize_head,
     .a = "0"},
    {"37 head of one output is a regression",
     0,
     {"\"n_classes\":1,", "\"noise_variance\":"},
     FIT " --json",
     resize_head,
     .a = "1"},
    {"37 head of a single class on every token",
     4,
     {"classifier.weight", "[1, 32]", "TOKEN_CLS", "2 classes"},
     NULL,
     resize_head,
     .a = "1",
     .fixture = "bert-token"},
    {"37 labels beyond the head",
     3,
     {"calib.jsonl:1:", "label 2", "0 to 1"},
     NULL,
     resize_head,
     .a = "2"},
    {"37 head of two classes, bias of three",
     3,
     {IN_ADAPTER, "classifier.bias", "[3]", "2"},
     NULL,
     reshape_tensor,
     ADAPTER,
     .a = "classifier.weight",
     .b = "[2,32]"},
    {"37 head of another width",
     3,
     {IN_ADAPTER, "classifier.weight", "31", "32"},
     NULL,
     reshape_tensor,
     ADAPTER,
     .a = "classifier.weight",
     .b = "[3,31]"},
    {"37 --labels names too few", 3, {"--labels", "2", "3"}, .command = FIT " --labels no,yes"},
    {"35 lora_alpha is 0: a note",
     0,
     {"lora_alpha", "\"log_likelihood\""},
     FIT_JSON " --prior 1",
     set_key,
     PEFT,
     .a = "lora_alpha",
     .b = "0"},
    {"64 lora_alpha is 0: no precision is best",
     6,
     {"prior"},
     NULL,
     set_key,
     PEFT,
     .a = "lora_alpha",
     .b = "0"},
    {"64 untrained adapter, a given prior",
     0,
     {"\"log_likelihood\""},
     FIT_JSON " --prior 1",
     untrained,
     ADAPTER},
    {"64 untrained adapter, a prior per module",
     6,
     {"/adapter", "prior"},
     NULL,
     untrained,
     ADAPTER},
    {"64 untrained adapter, global prior",
     0,
     {"\"log_likelihood\""},
     FIT_JSON " --prior global",
     untrained,
     ADAPTER},
    {"64 logits overflow", 6, {"calib.jsonl:", "infinite"}, NULL, logits_overflow, BASE},
    {"64 attention overflows", 6, {"calib.jsonl:", "NaN"}, NULL, attention_overflows, BASE},
    {"64 the whole residual overflows",
     6,
     {NULL},
     LLAMA,
     .damage = all_huge,
     BASE,
     .a = "embed_tokens.weight"},
};

static void pickle_is_not_run(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    pickle_only(&(fault){ADAPTER, .a = "adapter/adapter_model.bin"}, folder);
    command done = run_line(folder, FIT, NULL);
    assert_int_equal(done.code, 4);
    assert_int_not_equal(access(in_case(folder, "pwned"), F_OK), 0);
    command_free(&done);
}

/* Every prefix of a safetensors file is refused as bad input. */
static void every_truncation(void **state) {
    (void)state;
    const char *folder = open_case("bert-pair");
    size_t length;
    char *data = read_file(in_case(folder, IN_ADAPTER), &length);
    for (size_t keep = 0; keep < length; keep += keep < 16 ? 1 : 37) {
        write_file(in_case(folder, IN_ADAPTER), data, keep);
        command done = run_line(folder, "info @/adapter", NULL);
        const char *pieces[] = {IN_ADAPTER};
        check_message(&done, 3, pieces, 1);
        command_free(&done);
    }
    free(data);
}

int main(void) {
    const struct CMUnitTest more[] = {
        cmocka_unit_test(pickle_is_not_run),
        cmocka_unit_test(every_truncation),
    };
    int failed = run_faults("faulty adapters", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("faulty adapters, more", more, NULL, NULL);
}
