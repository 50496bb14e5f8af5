/* Damaged bases, each into one line and one exit code: weights, shards, configurations. */
#include "support/faults.h"
#include "support/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BASE .file = "base/model.safetensors"
#define CONFIG .file = "base/config.json"
#define ADAPTER .file = "adapter/adapter_model.safetensors"
#define PEFT .file = "adapter/adapter_config.json"
#define INDEX .file = "base/model.safetensors.index.json"
#define GQA .fixture = "llama-gqa", .command = FIT " --choice-ids 41,7,93,20,64"
#define LLAMA .fixture = "llama", .command = FIT_CHOICES
#define QUERY0 "bert.encoder.layer.0.attention.self.query"
#define IN_BASE "base/model.safetensors"
#define IN_ADAPTER "adapter/adapter_model.safetensors"
#define IN_CONFIG "base/config.json"
#define IN_PEFT "adapter/adapter_config.json"
#define LFS "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 133000000\n"

#define SHORT_HEADER "\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

/* A configuration that no disk block backs. */
static void huge_file(const fault *f, const char *folder) {
    write_file(in_case(folder, f->file), "{", 1);
    assert_int_equal(truncate(in_case(folder, f->file), (off_t)1 << 30), 0);
}

/* Base as before, but half of the tensor's bytes count as the next one's: overlap of b bytes, or a
 * hole of -b. */
static void shift_tensor(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file), *name;
    json_t *header = tensors_header(path), *entry;
    json_int_t by = atoi(f->b);
    json_object_foreach(header, name, entry) {
        json_t *offsets = json_object_get(entry, "data_offsets");
        if (!strstr(name, f->a) || !offsets)
            continue;
        for (size_t i = 0; i < 2; i++)
            json_array_set_new(offsets, i,
                               json_integer(json_integer_value(json_array_get(offsets, i)) - by));
    }
    char *text = json_dumps(header, JSON_COMPACT);
    tensors_set_header(path, text, strlen(text));
    free(text);
    json_decref(header);
}

/* Rounded to the type b, as far as its size goes. */
static void retype_tensor(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    tensor_bytes *tensor = tensors_find(&file, f->a);
    free(tensor->dtype);
    tensor->dtype = strdup(f->b);
    tensor->length /= f->b[1] == '4' ? 8 : 4;
    tensors_write(&file, path);
    tensors_free(&file);
}

static void add_quantised(const fault *f, const char *folder) {
    const char *path = in_case(folder, f->file);
    tensor_file file = tensors_read(path);
    tensors_find(&file, QUERY0 ".weight")->dtype[0] = 'I'; /* I32: packed codes */
    tensors_write(&file, path);
    tensors_free(&file);
}

/* The same tensor in two shards. */
static void repeat_in_shard(const fault *f, const char *folder) {
    tensor_file one = tensors_read(in_case(folder, "base/model-00001-of-00003.safetensors"));
    char path[4096];
    snprintf(path, sizeof path, "%s", in_case(folder, "base/model-00002-of-00003.safetensors"));
    tensor_file two = tensors_read(path);
    const tensor_bytes *t = &one.tensors[0];
    char *shape = json_dumps(t->shape, 0);
    tensors_add(&two, t->name, t->dtype, shape, t->data, t->length);
    tensors_write(&two, path);
    free(shape);
    tensors_free(&one);
    tensors_free(&two);
    (void)f;
}

/* All shards say file a. */
static void map_all_to(const fault *f, const char *folder) {
    json_t *index = load_json(in_case(folder, f->file));
    const char *name;
    json_t *value;
    void *next;
    json_object_foreach_safe(json_object_get(index, "weight_map"), next, name, value) {
        json_object_set_new(json_object_get(index, "weight_map"), name, json_string(f->a));
        break;
    }
    json_dump_file(index, in_case(folder, f->file), 0);
    json_decref(index);
}

static void map_unknown(const fault *f, const char *folder) {
    json_t *index = load_json(in_case(folder, f->file));
    json_object_set_new(json_object_get(index, "weight_map"), f->a, json_string(f->b));
    json_dump_file(index, in_case(folder, f->file), 0);
    json_decref(index);
}

/* A pickle that would make a file if it were loaded. */
static void pickle_only(const fault *f, const char *folder) {
    char pickle[4400];
    unlink(in_case(folder, f->file));
    snprintf(pickle, sizeof pickle, "cos\nsystem\n(S'touch %s/pwned'\ntR.", folder);
    write_file(in_case(folder, f->a), pickle, strlen(pickle));
}

static void no_head(const fault *f, const char *folder) {
    drop_tensor(&(fault){ADAPTER, .a = "classifier.weight"}, folder);
    drop_tensor(&(fault){ADAPTER, .a = "classifier.bias"}, folder);
    (void)f;
}

static const fault faults[] = {
    {"1 empty adapter weights", 3, {IN_ADAPTER, "truncated"}, NULL, cut_file, ADAPTER, .a = "0"},
    {"1 seven bytes of base", 3, {IN_BASE, "truncated"}, NULL, cut_file, BASE, .a = "7"},
    {"2 header of 2^63 bytes",
     3,
     {IN_BASE, "9223372036854775808"},
     NULL,
     header_length_is,
     BASE,
     .a = "9223372036854775808"},
    {"2 header of 2^64-1 bytes",
     3,
     {IN_ADAPTER, "18446744073709551615"},
     NULL,
     header_length_is,
     ADAPTER,
     .a = "18446744073709551615"},
    {"2 header over 100 MB",
     3,
     {IN_BASE, "100000001"},
     NULL,
     header_length_is,
     BASE,
     .a = "100000001"},
    {"3 header longer than the file",
     3,
     {IN_BASE, "truncated"},
     NULL,
     header_length_is,
     BASE,
     .a = "1000000"},
    {"4 Git LFS pointer as base",
     3,
     {IN_BASE, "Git LFS pointer", "git lfs pull"},
     NULL,
     put_file,
     BASE,
     .a = LFS},
    {"4 Git LFS pointer as adapter",
     3,
     {IN_ADAPTER, "Git LFS pointer", "git lfs pull"},
     NULL,
     put_file,
     ADAPTER,
     .a = LFS},
    {"4 Git LFS pointer as config",
     3,
     {IN_CONFIG, "Git LFS pointer", "git lfs pull"},
     NULL,
     put_file,
     CONFIG,
     .a = LFS},
    {"5 header is no JSON",
     3,
     {IN_BASE, "not valid JSON"},
     NULL,
     set_header,
     BASE,
     .a = "{\"x\": nonsense}"},
    {"5 header is no UTF-8",
     3,
     {IN_BASE, "not valid JSON"},
     NULL,
     set_header,
     BASE,
     .a = "{\"\xff\xfe\": {}}"},
    {"5 header is an array",
     3,
     {IN_BASE, "header", "array"},
     NULL,
     set_header,
     BASE,
     .a = "["
          "{" SHORT_HEADER "}"
          "]"},
    {.name = "0 the healthy case fits"},
    {.name = "0 the healthy shards fit", GQA},
    {"5 metadata is no object",
     3,
     {IN_BASE, "__metadata__"},
     NULL,
     set_header,
     BASE,
     .a = "{\"__metadata__\":3}"},
    {"6 deep header", 3, {IN_BASE, "depth"}, NULL, nest_header, BASE},
    {"6 deep config.json", 3, {IN_CONFIG, "depth"}, NULL, nest_deeply, CONFIG},
    {"6 deep adapter_config.json", 3, {IN_PEFT, "depth"}, NULL, nest_deeply, PEFT},
    {"6 deep index", 3, {"index.json", "depth"}, GQA, .damage = nest_deeply, INDEX},
    {"7 tensor twice in a header",
     3,
     {IN_BASE, "uplicate", "query.weight"},
     NULL,
     repeat_entry,
     BASE,
     .a = QUERY0 ".weight"},
    {"8 tensors overlap",
     3,
     {IN_BASE, "overlap", "layer.1.output.dense"},
     NULL,
     shift_tensor,
     BASE,
     .a = "layer.1.output.dense.weight",
     .b = "64"},
    {"8 reversed offsets",
     3,
     {IN_BASE, QUERY0},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"data_offsets\":[8192,4096]}"},
    {"8 offsets past the end",
     3,
     {IN_BASE, QUERY0},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"data_offsets\":[9223372036854771712,9223372036854775807]}"},
    {"8 negative offsets",
     3,
     {IN_BASE, QUERY0},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"data_offsets\":[-4096,0]}"},
    {"8 a hole",
     3,
     {IN_BASE, "hole"},
     NULL,
     set_header,
     BASE,
     .a = "{\"y\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]}," SHORT_HEADER "}"},
    {"9 shape overflows",
     3,
     {IN_BASE, QUERY0, "overflow"},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"shape\":[4294967296,4294967296]}"},
    {"9 shape overflows in bytes",
     3,
     {IN_BASE, QUERY0, "overflow"},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"shape\":[4611686018427387904]}"},
    {"9 negative size",
     3,
     {IN_BASE, QUERY0, "shape"},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"shape\":[-32,-32]}"},
    {"9 float size",
     3,
     {IN_BASE, QUERY0, "shape"},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"shape\":[32.0,32]}"},
    {"9 no shape",
     3,
     {IN_BASE, QUERY0, "shape"},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"shape\":null}"},
    {"9 dtype is no string",
     3,
     {IN_BASE, QUERY0, "dtype"},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"dtype\":32}"},
    {"10 bytes are not shape x dtype",
     3,
     {IN_BASE, QUERY0, "4096"},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"shape\":[32,31]}"},
    {"11 truncated base", 3, {IN_BASE, "truncated"}, NULL, cut_file, BASE, .a = "-1"},
    {"11 truncated adapter", 3, {IN_ADAPTER, "truncated"}, NULL, cut_file, ADAPTER, .a = "-100"},
    {"11 extra bytes", 3, {IN_ADAPTER, "extra"}, NULL, append_text, ADAPTER, .a = "x"},
    {"12 F8 adapter weights",
     4,
     {IN_ADAPTER, QUERY0 ".lora_A.weight", "F8_E4M3"},
     NULL,
     retype_tensor,
     ADAPTER,
     .a = QUERY0 ".lora_A.weight",
     .b = "F8_E4M3"},
    {"12 F4 base weights",
     4,
     {IN_BASE, QUERY0 ".weight", "F4"},
     NULL,
     retype_tensor,
     BASE,
     .a = QUERY0 ".weight",
     .b = "F4"},
    {"12 F8 base weights",
     4,
     {IN_BASE, QUERY0 ".weight", "F8_E5M2"},
     NULL,
     retype_tensor,
     BASE,
     .a = QUERY0 ".weight",
     .b = "F8_E5M2"},
    {"12 unknown dtype I4",
     4,
     {IN_BASE, QUERY0 ".weight", "I4"},
     NULL,
     merge_entry,
     BASE,
     .a = QUERY0 ".weight",
     .b = "{\"dtype\":\"I4\"}"},
    {"14 NaN in the adapter",
     6,
     {IN_ADAPTER, QUERY0 ".lora_A.weight", "element 5", "NaN"},
     NULL,
     poison_tensor,
     ADAPTER,
     .a = QUERY0 ".lora_A.weight",
     .b = "nan"},
    {"14 infinity in the trained head",
     6,
     {IN_ADAPTER, "classifier.weight", "element 5", "inf"},
     NULL,
     poison_tensor,
     ADAPTER,
     .a = "classifier.weight",
     .b = "-inf"},
    {"15 NaN in the base",
     6,
     {IN_BASE, "layer.2.output.dense.weight", "element 5", "NaN"},
     NULL,
     poison_tensor,
     BASE,
     .a = "layer.2.output.dense.weight",
     .b = "nan"},
    {"15 infinity in the embeddings",
     6,
     {IN_BASE, "word_embeddings.weight", "element 5"},
     NULL,
     poison_tensor,
     BASE,
     .a = "word_embeddings.weight",
     .b = "inf"},
    {"15 NaN in a norm",
     6,
     {IN_BASE, "embeddings.LayerNorm.weight", "element 5"},
     NULL,
     poison_tensor,
     BASE,
     .a = "embeddings.LayerNorm.weight",
     .b = "nan"},
    {"16 a shard is missing",
     3,
     {"index.json", "model-00002-of-00003.safetensors", "missing"},
     GQA,
     .damage = remove_file,
     .file = "base/model-00002-of-00003.safetensors"},
    {"16 the index is no JSON",
     3,
     {"index.json", "not valid JSON"},
     GQA,
     .damage = put_file,
     INDEX,
     .a = "{"},
    {"16 the index has no weight_map",
     3,
     {"index.json", "weight_map"},
     GQA,
     .damage = set_key,
     INDEX,
     .a = "weight_map"},
    {"17 a shard outside the folder",
     3,
     {"index.json", "../secret"},
     GQA,
     .damage = map_all_to,
     INDEX,
     .a = "../secret.safetensors"},
    {"17 a shard with an absolute path",
     3,
     {"index.json", "/etc/passwd"},
     GQA,
     .damage = map_all_to,
     INDEX,
     .a = "/etc/passwd"},
    {"18 a tensor in two shards",
     3,
     {"model-00001-of-00003", "model-00002-of-00003"},
     GQA,
     .damage = repeat_in_shard},
    {"18 a tensor that its shard lacks",
     3,
     {"index.json", "model.norm.extra", "00001"},
     GQA,
     .damage = map_unknown,
     INDEX,
     .a = "model.norm.extra",
     .b = "model-00001-of-00003.safetensors"},
    {"18 a truncated shard",
     3,
     {"model-00003-of-00003.safetensors", "truncated"},
     GQA,
     .damage = cut_file,
     .file = "base/model-00003-of-00003.safetensors",
     .a = "-2"},
    {"19 pickled adapter",
     4,
     {"adapter_model.bin", "safetensors.torch"},
     NULL,
     pickle_only,
     ADAPTER,
     .a = "adapter/adapter_model.bin"},
    {"19 pickled base",
     4,
     {"pytorch_model.bin", "safetensors.torch"},
     NULL,
     pickle_only,
     BASE,
     .a = "base/pytorch_model.bin"},
    {"20 no config.json", 3, {IN_CONFIG}, NULL, remove_file, CONFIG},
    {"20 config.json is no JSON",
     3,
     {IN_CONFIG, "line 2"},
     NULL,
     put_file,
     CONFIG,
     .a = "{\n\"model_type\" \"bert\"}"},
    {"20 config.json is an array", 3, {IN_CONFIG, "array"}, NULL, put_file, CONFIG, .a = "[]"},
    {"20 config.json of 1 GB", 3, {IN_CONFIG, "larger"}, NULL, huge_file, CONFIG},
    {"20 empty config.json", 3, {IN_CONFIG}, NULL, cut_file, CONFIG, .a = "0"},
    {"20 no base weights", 3, {"/base", "model.safetensors"}, NULL, remove_file, BASE},
    {"20 no such base folder",
     3,
     {"/nowhere"},
     .command =
         "fit --base @/nowhere --adapter @/adapter --data @/calib.jsonl --out @/out --quiet"},
    {"20 no such adapter folder",
     3,
     {"/nowhere"},
     .command = "fit --base @/base --adapter @/nowhere --data @/calib.jsonl --out @/out --quiet"},
    {"21 unknown model type",
     4,
     {IN_CONFIG, "mamba", "bert", "llama"},
     NULL,
     set_key,
     CONFIG,
     .a = "model_type",
     .b = "\"mamba\""},
    {"21 no model type", 3, {IN_CONFIG, "model_type"}, NULL, set_key, CONFIG, .a = "model_type"},
    {"21 unknown activation",
     4,
     {IN_CONFIG, "hidden_act", "mish", "gelu"},
     NULL,
     set_key,
     CONFIG,
     .a = "hidden_act",
     .b = "\"mish\""},
    {"21 unknown rope type",
     4,
     {IN_CONFIG, "axial", "llama3"},
     LLAMA,
     .damage = set_key,
     CONFIG,
     .a = "rope_parameters",
     .b = "{\"rope_type\":\"axial\",\"rope_theta\":10000.0,\"factor\":2}"},
    {"21 unknown v4 rope type",
     4,
     {IN_CONFIG, "helical", "llama3"},
     GQA,
     .damage = set_key,
     CONFIG,
     .a = "rope_scaling",
     .b = "{\"type\":\"helical\",\"factor\":2}"},
    {"21 relative positions",
     4,
     {IN_CONFIG, "position_embedding_type", "relative_key"},
     NULL,
     set_key,
     CONFIG,
     .a = "position_embedding_type",
     .b = "\"relative_key\""},
    {"21 a regression of several outputs",
     4,
     {"classifier.weight", "[3, ", "problem_type regression", "one output"},
     NULL,
     set_key,
     CONFIG,
     .a = "problem_type",
     .b = "\"regression\""},
    {"22 heads do not divide",
     3,
     {IN_CONFIG, "num_attention_heads", "5"},
     NULL,
     set_key,
     CONFIG,
     .a = "num_attention_heads",
     .b = "5"},
    {"22 key heads do not divide",
     3,
     {IN_CONFIG, "num_key_value_heads", "3"},
     LLAMA,
     .damage = set_key,
     CONFIG,
     .a = "num_key_value_heads",
     .b = "3"},
    {"22 no layers",
     3,
     {IN_CONFIG, "num_hidden_layers", "0"},
     NULL,
     set_key,
     CONFIG,
     .a = "num_hidden_layers",
     .b = "0"},
    {"22 a billion layers",
     3,
     {IN_CONFIG, "num_hidden_layers", "1000000000"},
     NULL,
     set_key,
     CONFIG,
     .a = "num_hidden_layers",
     .b = "1000000000"},
    {"22 hidden size 2^62",
     3,
     {IN_CONFIG, "hidden_size"},
     NULL,
     set_key,
     CONFIG,
     .a = "hidden_size",
     .b = "4611686018427387904"},
    {"22 negative heads",
     3,
     {IN_CONFIG, "num_attention_heads", "-4"},
     NULL,
     set_key,
     CONFIG,
     .a = "num_attention_heads",
     .b = "-4"},
    {"22 hidden size is a string",
     3,
     {IN_CONFIG, "hidden_size", "string"},
     NULL,
     set_key,
     CONFIG,
     .a = "hidden_size",
     .b = "\"32\""},
    {"22 odd rotary head size",
     3,
     {IN_CONFIG, "head"},
     LLAMA,
     .damage = set_key,
     CONFIG,
     .a = "head_dim",
     .b = "7"},
    {"22 layer_norm_eps is negative",
     3,
     {IN_CONFIG, "layer_norm_eps"},
     NULL,
     set_key,
     CONFIG,
     .a = "layer_norm_eps",
     .b = "-1e-12"},
    {"22 more layers than weights",
     3,
     {"/base", "encoder.layer.3"},
     NULL,
     set_key,
     CONFIG,
     .a = "num_hidden_layers",
     .b = "4"},
    {"23 vocab_size is not the rows",
     3,
     {IN_BASE, "word_embeddings.weight", "97", "98"},
     NULL,
     set_key,
     CONFIG,
     .a = "vocab_size",
     .b = "98"},
    {"23 positions are not the rows",
     3,
     {IN_BASE, "position_embeddings.weight", "64", "512"},
     NULL,
     set_key,
     CONFIG,
     .a = "max_position_embeddings",
     .b = "512"},
    {"23 wrong shape in the base",
     3,
     {IN_BASE, "layer.1.output.dense.weight", "[32, 48]", "56"},
     NULL,
     reshape_tensor,
     BASE,
     .a = "layer.1.output.dense.weight",
     .b = "[32,48]"},
    {"24 a base tensor is missing",
     3,
     {"/base", "encoder.layer.2.output.dense.weight"},
     NULL,
     drop_tensor,
     BASE,
     .a = "layer.2.output.dense.weight"},
    {"24 a base bias is missing",
     3,
     {"/base", "encoder.layer.1.attention.self.key.bias"},
     NULL,
     drop_tensor,
     BASE,
     .a = "layer.1.attention.self.key.bias"},
    {"24 a base norm is missing",
     3,
     {"/base", "encoder.layer.0.output.LayerNorm"},
     NULL,
     drop_tensor,
     BASE,
     .a = "layer.0.output.LayerNorm.bias"},
    {"24 no language-model head",
     3,
     {"/base", "lm_head"},
     LLAMA,
     .damage = drop_tensor,
     BASE,
     .a = "lm_head.weight"},
    {"25 no pooler anywhere",
     3,
     {"/base", "bert.pooler.dense.weight", "modules_to_save"},
     NULL,
     drop_tensor,
     BASE,
     .a = "bert.pooler.dense.weight"},
    {"25 no pooler bias",
     3,
     {"/base", "bert.pooler.dense.bias", "modules_to_save"},
     NULL,
     drop_tensor,
     BASE,
     .a = "bert.pooler.dense.bias"},
    {"26 AWQ base",
     4,
     {IN_CONFIG, "awq", "--base-quant"},
     NULL,
     set_key,
     CONFIG,
     .a = "quantization_config",
     .b = "{\"quant_method\":\"awq\",\"bits\":4}"},
    {"26 GPTQ base of 8 bits",
     4,
     {IN_CONFIG, "gptq", "8 bits"},
     LLAMA,
     .damage = set_key,
     CONFIG,
     .a = "quantization_config",
     .b = "{\"quant_method\":\"gptq\",\"bits\":8}"},
    {"26 packed codes without a word in config.json",
     4,
     {IN_BASE, QUERY0 ".weight", "I32"},
     NULL,
     add_quantised,
     BASE},
};

/* The head may only be missing together with the adapter's promise to have saved it. */
static void missing_head(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    no_head(NULL, folder);
    const char *base = in_case(folder, IN_BASE);
    tensor_file file = tensors_read(base);
    for (size_t i = file.n; i-- > 0;)
        if (!strncmp(file.tensors[i].name, "classifier", 10))
            tensors_drop(&file, file.tensors[i].name);
    tensors_write(&file, base);
    tensors_free(&file);
    command done = run_line(folder, FIT, NULL);
    const char *pieces[] = {"/base", "classifier", "modules_to_save"};
    check_message(&done, 3, pieces, 3);
    check_nothing_written(folder);
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest more[] = {
        cmocka_unit_test(missing_head),
    };
    int failed = run_faults("faulty bases", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("faulty bases, more", more, NULL, NULL);
}
