/* Damaged quantised bases: parts of packed weights that are missing or do not fit, and --base-quant
 * where it makes no sense. */
#include "support/faults.h"
#include "support/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE .file = "base/model.safetensors"
#define CONFIG .file = "base/config.json"
#define FP4 .fixture = "bert-fp4"
#define CHOICES " --choice-ids 41,7,93,20"
#define NF4 .fixture = "llama-nf4", .command = FIT CHOICES
#define GPTQ .fixture = "llama-gptq", .command = FIT " --choice-ids 12,50,33"
#define INT8 .fixture = "llama-int8", .command = FIT CHOICES
#define QUERY "bert.encoder.layer.1.attention.self.query.weight"
#define UP "model.layers.1.mlp.up_proj"
#define IN_BASE "base/model.safetensors"
#define IN_CONFIG "base/config.json"
#define STATE ".quant_state.bitsandbytes__"

static void put_bytes(tensor_bytes *tensor, const void *data, size_t length) {
    char shape[32];
    snprintf(shape, sizeof shape, "[%zu]", length);
    free(tensor->data);
    tensor->data = malloc(length + 1);
    memcpy(tensor->data, data, length);
    tensor->length = length;
    json_decref(tensor->shape);
    tensor->shape = json_loads(shape, 0, NULL);
}

/* The quant_state of tensor a becomes the text b. */
static void put_state(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    put_bytes(tensors_find(&file, f->a), f->b, strlen(f->b));
    tensors_write(&file, path);
    tensors_free(&file);
}

/* The first number of tensor a, an I32, becomes 90. */
static void put_number(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    const int32_t number = 90;
    tensor_file file = tensors_read(path);
    memcpy(tensors_find(&file, f->a)->data, &number, sizeof number);
    tensors_write(&file, path);
    tensors_free(&file);
}

/* Keys of JSON b are set in the quant_state of tensor a; null takes them away. */
static void edit_state(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file), *key;
    tensor_file file = tensors_read(path);
    tensor_bytes *tensor = tensors_find(&file, f->a);
    json_t *state = json_loadb((const char *)tensor->data, tensor->length, 0, NULL);
    json_t *change = json_loads(f->b, 0, NULL), *value;
    assert_non_null(state);
    assert_non_null(change);
    json_object_foreach(change, key, value) {
        if (json_is_null(value))
            json_object_del(state, key);
        else
            json_object_set(state, key, value);
    }
    char *text = json_dumps(state, 0);
    put_bytes(tensor, text, strlen(text));
    tensors_write(&file, path);
    tensors_free(&file);
    json_decref(state);
    json_decref(change);
    free(text);
}

/* Tensor a loses its last byte, or b bytes. */
static void shorten(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    tensor_bytes *tensor = tensors_find(&file, f->a);
    unsigned char *copy = malloc(tensor->length);
    size_t length = tensor->length - (size_t)(f->b ? atoi(f->b) : 1);
    memcpy(copy, tensor->data, length);
    put_bytes(tensor, copy, length);
    if (!strcmp(tensor->dtype, "F32")) {
        json_decref(tensor->shape);
        tensor->shape = json_pack("[I]", (json_int_t)(length / 4));
    }
    free(copy);
    tensors_write(&file, path);
    tensors_free(&file);
}

/* Every byte of tensor a becomes b. */
static void fill_bytes(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    tensor_bytes *tensor = tensors_find(&file, f->a);
    memset(tensor->data, atoi(f->b), tensor->length);
    tensors_write(&file, path);
    tensors_free(&file);
}

static void plain_weights(const fault *f, const char *folder) {
    size_t length;
    char *data = read_file(in_case(folder, "plain/model.safetensors"), &length);
    write_file(in_case(folder, f->file), data, length);
    free(data);
}

static const fault faults[] = {
    {.name = "the healthy cases: fp4", .code = 0, FP4},
    {.name = "nf4", .code = 0, NF4},
    {.name = "int8", .code = 0, INT8},
    {.name = "codes stored as if they were bf16 (bnb_4bit_quant_storage)",
     .code = 0,
     .damage = merge_entry,
     BASE,
     .a = UP ".weight",
     .b = "{\"dtype\":\"BF16\",\"shape\":[1280,1]}",
     NF4},
    {"absmax is too short",
     3,
     {IN_BASE, QUERY ".absmax", "expected F32 [15]"},
     NULL,
     shorten,
     BASE,
     .a = QUERY ".absmax",
     .b = "4",
     FP4},
    {"absmax is missing",
     3,
     {IN_BASE, QUERY ".absmax", "missing"},
     NULL,
     drop_tensor,
     BASE,
     .a = QUERY ".absmax",
     FP4},
    {"absmax is infinite",
     6,
     {IN_BASE, QUERY ".absmax", "block 5"},
     NULL,
     poison_tensor,
     BASE,
     .a = QUERY ".absmax",
     .b = "inf",
     FP4},
    {"quant_map is missing",
     3,
     {IN_BASE, QUERY ".quant_map", "missing"},
     NULL,
     drop_tensor,
     BASE,
     .a = QUERY ".quant_map",
     FP4},
    {"quant_map of another type",
     3,
     {IN_BASE, QUERY ".quant_map", "element 5"},
     NULL,
     poison_tensor,
     BASE,
     .a = QUERY ".quant_map",
     .b = "0.25",
     FP4},
    {"quant_state is missing",
     3,
     {IN_BASE, QUERY, "quant_state"},
     NULL,
     drop_tensor,
     BASE,
     .a = QUERY STATE "fp4",
     FP4},
    {"quant_state is no JSON",
     3,
     {IN_BASE, QUERY STATE "fp4", "JSON"},
     NULL,
     put_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"blocksize\":64,",
     FP4},
    {"quant_state is a list",
     3,
     {IN_BASE, QUERY STATE "fp4", "an array"},
     NULL,
     put_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "[]",
     FP4},
    {"quant_state is empty",
     3,
     {IN_BASE, QUERY STATE "fp4", "JSON"},
     NULL,
     put_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "",
     FP4},
    {"quant_state of the other type",
     3,
     {IN_BASE, QUERY STATE "fp4", "nf4"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"quant_type\":\"nf4\"}",
     FP4},
    {"blocksize is no power of two",
     3,
     {IN_BASE, QUERY STATE "fp4", "48", "power of two"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"blocksize\":48}",
     FP4},
    {"blocksize is negative",
     3,
     {IN_BASE, QUERY STATE "fp4", "blocksize"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"blocksize\":-64}",
     FP4},
    {"blocksize is zero",
     3,
     {IN_BASE, QUERY STATE "fp4", "blocksize"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"blocksize\":0}",
     FP4},
    {"blocksize is missing",
     3,
     {IN_BASE, QUERY STATE "fp4", "blocksize"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"blocksize\":null}",
     FP4},
    {"another blocksize than the scales are of",
     3,
     {IN_BASE, QUERY ".absmax", "expected F32 [8]"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"blocksize\":128}",
     FP4},
    {"shape of another weight",
     3,
     {IN_BASE, QUERY, "[15, 60]", "[30, 30]"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"shape\":[15,60]}",
     FP4},
    {"shape larger than the codes",
     3,
     {IN_BASE, QUERY, "450 bytes", "465"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"shape\":[30,31]}",
     FP4},
    {"shape that overflows",
     3,
     {IN_BASE, QUERY STATE "fp4", "shape"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"shape\":[4611686018427387904,4]}",
     FP4},
    {"shape of one number",
     3,
     {IN_BASE, QUERY STATE "fp4", "shape"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"shape\":[900]}",
     FP4},
    {"dtype that is not known",
     4,
     {IN_BASE, QUERY STATE "fp4", "float8_e4m3fn"},
     NULL,
     edit_state,
     BASE,
     .a = QUERY STATE "fp4",
     .b = "{\"dtype\":\"float8_e4m3fn\"}",
     FP4},
    {"codes are cut",
     3,
     {IN_BASE, QUERY, "449 bytes", "expected 450"},
     NULL,
     shorten,
     BASE,
     .a = QUERY,
     FP4},
    {"nested codes are cut",
     3,
     {IN_BASE, UP ".weight.absmax", "expected U8 [80]"},
     .damage = shorten,
     BASE,
     .a = UP ".weight.absmax",
     NF4},
    {"nested absmax of another length",
     3,
     {IN_BASE, UP ".weight.nested_absmax", "expected F32 [2]"},
     .damage = edit_state,
     BASE,
     .a = UP ".weight" STATE "nf4",
     .b = "{\"nested_blocksize\":64}",
     NF4},
    {"nested absmax is missing",
     3,
     {IN_BASE, UP ".weight.absmax", "U8", "F32"},
     .damage = drop_tensor,
     BASE,
     .a = UP ".weight.nested_absmax",
     NF4},
    {"nested map is missing",
     3,
     {IN_BASE, UP ".weight.nested_quant_map", "missing"},
     .damage = drop_tensor,
     BASE,
     .a = UP ".weight.nested_quant_map",
     NF4},
    {"nested offset is missing",
     3,
     {IN_BASE, UP ".weight" STATE "nf4", "nested_offset"},
     .damage = edit_state,
     BASE,
     .a = UP ".weight" STATE "nf4",
     .b = "{\"nested_offset\":null}",
     NF4},
    {"nested scales are not finite",
     6,
     {IN_BASE, UP ".weight.nested_absmax"},
     .damage = fill_bytes,
     BASE,
     .a = UP ".weight.nested_absmax",
     .b = "255",
     NF4},
    {"SCB is missing",
     3,
     {IN_BASE, UP ".SCB", "missing"},
     .damage = drop_tensor,
     BASE,
     .a = UP ".SCB",
     INT8},
    {"SCB is too short",
     3,
     {IN_BASE, UP ".SCB", "expected F32 [80]"},
     .damage = shorten,
     BASE,
     .a = UP ".SCB",
     .b = "8",
     INT8},
    {"SCB is NaN",
     6,
     {IN_BASE, UP ".SCB", "block 5"},
     .damage = poison_tensor,
     BASE,
     .a = UP ".SCB",
     .b = "nan",
     INT8},
    {"8-bit weights in the layout of a device",
     4,
     {IN_BASE, UP ".weight_format"},
     .damage = fill_bytes,
     BASE,
     .a = UP ".weight_format",
     .b = "2",
     INT8},
    {"8-bit weight of another shape",
     3,
     {IN_BASE, UP ".weight", "[5120]"},
     .damage = merge_entry,
     BASE,
     .a = UP ".weight",
     .b = "{\"shape\":[5120]}",
     INT8},
    {"config.json says packed, the weights are plain",
     3,
     {"/base", "nf4-double", "packed"},
     .damage = plain_weights,
     BASE,
     NF4},
    {"config.json says both widths",
     3,
     {IN_CONFIG, "load_in_4bit", "load_in_8bit"},
     .damage = set_key,
     CONFIG,
     .a = "quantization_config",
     .b = "{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true,\"load_in_8bit\":true}",
     NF4},
    {"config.json names a type that is not known",
     4,
     {IN_CONFIG, "af4"},
     .damage = set_key,
     CONFIG,
     .a = "quantization_config",
     .b = "{\"load_in_4bit\":true,\"bnb_4bit_quant_type\":\"af4\"}",
     NF4},
    {"quantization_config is a word",
     3,
     {IN_CONFIG, "quantization_config", "object"},
     .damage = set_key,
     CONFIG,
     .a = "quantization_config",
     .b = "\"nf4\"",
     NF4},
    {"GPTQ without zeros",
     3,
     {IN_BASE, UP ".qweight", "qzeros"},
     .damage = drop_tensor,
     BASE,
     .a = UP ".qzeros",
     GPTQ},
    {"GPTQ, codes of another module",
     3,
     {IN_BASE, UP ".scales", "[4, 80]", "[4, 64]"},
     .damage = reshape_tensor,
     BASE,
     .a = UP ".qweight",
     .b = "[10,64]",
     GPTQ},
    {"GPTQ, zeros of another size",
     3,
     {IN_BASE, UP ".qzeros", "[2, 10]", "[4, 10]"},
     .damage = reshape_tensor,
     BASE,
     .a = UP ".qzeros",
     .b = "[2,10]",
     GPTQ},
    {"GPTQ, an input of no group",
     3,
     {IN_BASE, UP ".g_idx", "90", "0 to 3"},
     .damage = put_number,
     BASE,
     .a = UP ".g_idx",
     GPTQ},
    {"GPTQ without an order of groups",
     0,
     {NULL},
     .damage = drop_tensor,
     BASE,
     .a = UP ".g_idx",
     GPTQ},
    {"GPTQ in its second format",
     4,
     {IN_CONFIG, "gptq_v2"},
     .damage = set_key,
     CONFIG,
     .a = "quantization_config",
     .b = "{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"gptq_v2\"}",
     GPTQ},
#define METHOD(name)                                                                               \
    {                                                                                              \
        name " base", 4, {IN_CONFIG, name, "--base-quant"},                                        \
            .damage = set_key, CONFIG, .a = "quantization_config",                                 \
            .b = "{\"quant_method\":\"" name "\"}", NF4                                            \
    }
    METHOD("awq"),
    METHOD("fp8"),
    METHOD("compressed-tensors"),
    METHOD("hqq"),
    METHOD("mxfp4"),
    {.name = "a quantised base is not quantised again",
     .code = 2,
     .pieces = {"--base-quant nf4", "already", "fp4"},
     .command = FIT " --base-quant nf4",
     FP4},
    {.name = "--base-quant of nothing known",
     .code = 2,
     .pieces = {"--base-quant", "int4", "nf4-double"},
     .command = FIT " --base-quant int4"},
    {.name = "--base-quant is part of the posterior",
     .code = 7,
     .pieces = {"/posterior", "--base-quant none", "nf4"},
     .command = PREDICT " --base-quant nf4"},
    {.name = "--base-quant none is what it was",
     .code = 0,
     .command = PREDICT " --base-quant none"},
};

/* Fits, which must work, and runs the other command. */
static command fit_then(const char *folder, const char *fit, const char *then) {
    command done = run_line(folder, fit, NULL);
    if (done.code)
        fail_msg("the healthy case does not fit: %s", done.err);
    command_free(&done);
    return run_line(folder, then, NULL);
}

#define FIT_PLAIN                                                                                  \
    "fit --base @/plain --adapter @/adapter --data @/calib.jsonl --out @/posterior --quiet "       \
    "--base-quant nf4-double" CHOICES

static void other_base(void **state) {
    (void)state;
    const char *folder = open_case("llama-nf4");
    const char *quantised[] = {"/base", "already", "nf4-double"};
    command done = fit_then(folder, FIT_PLAIN, PREDICT " --base @/base");
    check_message(&done, 7, quantised, 3);
    check_nothing_written(folder);
    command_free(&done);

    const char *plain[] = {"/plain", "digest"};
    folder = open_case("llama-nf4");
    done = fit_then(folder,
                    "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out "
                    "@/posterior --quiet" CHOICES,
                    PREDICT " --base @/plain");
    check_message(&done, 7, plain, 2);
    check_nothing_written(folder);
    command_free(&done);
}

/* info says how a base is stored, and how a posterior's base was packed. */
static void info(void **state) {
    (void)state;
    const char *folder = open_case("llama-nf4");
    command done = fit_then(folder, FIT_PLAIN, "info --json @/posterior");
    assert_non_null(strstr(done.out, "\"base_quant\":\"nf4-double\""));
    command_free(&done);
    done = run_line(folder, "info --json @/base", NULL);
    assert_non_null(strstr(done.out, "\"quantised\":\"nf4-double\""));
    json_t *packed = json_loads(done.out, 0, NULL);
    command_free(&done);
    done = run_line(folder, "info --json @/plain", NULL);
    assert_non_null(strstr(done.out, "\"quantised\":\"none\""));
    json_t *plain = json_loads(done.out, 0, NULL);
    command_free(&done);
    /* packing does not change how many parameters there are */
    assert_true(number_at(plain, "parameters") > 60000);
    assert_true(number_at(packed, "parameters") == number_at(plain, "parameters"));
    json_decref(packed);
    json_decref(plain);
}

int main(void) {
    const struct CMUnitTest more[] = {cmocka_unit_test(other_base), cmocka_unit_test(info)};
    int failed = run_faults("faulty quantised bases", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("quantised bases, more", more, NULL, NULL);
}
