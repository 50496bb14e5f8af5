/* Several adapters in one model: unions of the `adapters` library, lists of names. */
#include "support/faults.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEFT .file = "adapter/adapter_config.json"
#define WEIGHTS .file = "adapter/adapter.safetensors"
#define IN_PEFT "adapter/adapter_config.json"
#define IN_WEIGHTS "adapter/adapter.safetensors"
#define UNION .fixture = "union-bert"
#define UNION_LLAMA .fixture = "union-llama", .command = FIT " --choice-ids 12,50,33"
#define MIXED .fixture = "mixed-bert"
#define NAMES(list) .command = FIT " --adapter-name " list

/* The adapter's configuration of the library is a. */
static void of_library(const fault *f, const char *folder) {
    set_key(&(fault){PEFT, .a = "config", .b = f->a}, folder);
}

/* A second adapter, a copy of the first with another name, beside it. */
static void twice(const fault *f, const char *folder) {
    char line[4096], *adapter = in_case(folder, "adapter");
    (void)f;
    snprintf(line, sizeof line, "cd '%s' && mkdir one two && cp adapter_* one && mv adapter_* two",
             adapter);
    assert_int_equal(system(line), 0);
}

/* The same, with another head in one of them. */
static void two_heads(const fault *f, const char *folder) {
    twice(f, folder);
    poison_tensor(&(fault){.file = "adapter/two/adapter_model.safetensors",
                           .a = "classifier.weight",
                           .b = "0.25"},
                  folder);
}

static void two_tasks(const fault *f, const char *folder) {
    (void)f;
    set_key(&(fault){.file = "adapter/inner/adapter_config.json",
                     .a = "task_type",
                     .b = "\"TOKEN_CLS\""},
            folder);
}

static const fault faults[] = {
    /* unions */
    {"a union", 0, {NULL}, UNION},
    {"a union of nothing",
     3,
     {IN_PEFT, "union", "configs"},
     .damage = of_library,
     .a = "{\"architecture\":\"union\",\"configs\":[]}",
     UNION},
    {"a union whose parts are no list",
     3,
     {IN_PEFT, "union", "configs"},
     .damage = of_library,
     .a = "{\"architecture\":\"union\",\"configs\":{\"a\":1}}",
     UNION},
    {"a union with a number in it",
     3,
     {IN_PEFT, "configs[0]", "an integer"},
     .damage = of_library,
     .a = "{\"architecture\":\"union\",\"configs\":[7]}",
     UNION},
    {"a union of unions",
     4,
     {IN_PEFT, "\"union\"", "lora"},
     .damage = of_library,
     .a = "{\"architecture\":\"union\",\"configs\":[{\"architecture\":\"union\"}]}",
     UNION},
    {"prompt tuning of the library",
     4,
     {IN_PEFT, "\"prompt_tuning\"", "prefix_tuning"},
     .damage = of_library,
     .a = "{\"architecture\":\"prompt_tuning\",\"prompt_length\":4}",
     UNION},
    {"an architecture that is a number",
     3,
     {IN_PEFT, "architecture"},
     .damage = of_library,
     .a = "{\"architecture\":5}",
     UNION},
    {"a union and a part of it that the configuration lacks",
     3,
     {IN_WEIGHTS, "loras.task.lora_A", "nearest"},
     .damage = replace_text,
     PEFT,
     .a = "\"architecture\": \"lora\"",
     .b = "\"mh_adapter\": false, \"output_adapter\": false, \"non_linearity\": \"relu\"",
     UNION},
    {"a union with two bottlenecks at one place",
     4,
     {IN_PEFT, "layer 0", "two adapters"},
     .damage = replace_text,
     PEFT,
     .a = "\"architecture\": \"lora\"",
     .b = "\"mh_adapter\": false, \"output_adapter\": true, \"non_linearity\": \"relu\"",
     UNION},
    {"the library's prefix, gated",
     4,
     {IN_PEFT, "use_gating"},
     .damage = replace_text,
     PEFT,
     .a = "\"use_gating\": false",
     .b = "\"use_gating\": true",
     UNION},
    {"the library's prefix, without some layers",
     4,
     {IN_PEFT, "leave_out"},
     .damage = replace_text,
     PEFT,
     .a = "\"leave_out\": []",
     .b = "\"leave_out\": [1]",
     UNION},
    {"the library's prefix, an activation we lack",
     4,
     {IN_PEFT, "non_linearity", "mish"},
     .damage = replace_text,
     PEFT,
     .a = "\"tanh\"",
     .b = "\"mish\"",
     UNION},
    {"the library's prefix, of another length",
     3,
     {IN_WEIGHTS, "wte.weight", "[4, 32]", "[5, 32]"},
     .damage = replace_text,
     PEFT,
     .a = "\"prefix_length\": 4",
     .b = "\"prefix_length\": 5",
     UNION},
    {"the library's prefix, of no length",
     3,
     {IN_PEFT, "prefix_length", "0"},
     .damage = replace_text,
     PEFT,
     .a = "\"prefix_length\": 4",
     .b = "\"prefix_length\": 0",
     UNION},
    {"the library's prefix, of another bottleneck",
     3,
     {IN_WEIGHTS, "control_trans.0.weight", "[8, 32]", "[9, 32]"},
     .damage = replace_text,
     PEFT,
     .a = "\"bottleneck_size\": 8",
     .b = "\"bottleneck_size\": 9",
     UNION},
    {"the library's prefix, said to be flat",
     3,
     {IN_PEFT, "self_prefix.control_trans"},
     .damage = replace_text,
     PEFT,
     .a = "\"flat\": false",
     .b = "\"flat\": true",
     UNION},
    {"the library's prefix, a copy that is none",
     3,
     {IN_WEIGHTS, "layers.1.self_attn.prefix_tuning", "copy"},
     .damage = reshape_tensor,
     WEIGHTS,
     .a = "layers.1.self_attn.prefix_tuning.pool.prefix_tunings.task.self_prefix.control_trans",
     .b = "[100]",
     UNION_LLAMA},
    {"the library's prefix, flat, longer",
     3,
     {IN_WEIGHTS, "control_trans", "[4, "},
     .damage = replace_text,
     PEFT,
     .a = "\"prefix_length\": 3",
     .b = "\"prefix_length\": 4",
     UNION_LLAMA},
    {"the library's prefix without its copies",
     0,
     {NULL},
     .damage = drop_tensor,
     WEIGHTS,
     .a = "layer.0.attention.self.prefix_tuning.pool.prefix_tunings.task.self_prefix.wte.weight",
     UNION},
    {"the library's LoRA, gated",
     4,
     {IN_PEFT, "use_gating"},
     .damage = of_library,
     .a = "{\"architecture\":\"lora\",\"r\":3,\"alpha\":6,\"composition_mode\":\"add\","
          "\"use_gating\":true}",
     UNION},
    {"the library's VeRA",
     4,
     {IN_PEFT, "vera_d"},
     .damage = of_library,
     .a = "{\"architecture\":\"lora\",\"r\":3,\"alpha\":6,\"composition_mode\":\"add\","
          "\"vera_d\":0.1}",
     UNION},
    {"the library's LoRA, of another rank",
     3,
     {IN_PEFT, "intermediate.dense", "rank 3", "expected 2"},
     .damage = replace_text,
     PEFT,
     .a = "\"r\": 3",
     .b = "\"r\": 2",
     UNION},
    {"the library's LoRA, neither added nor scaling",
     4,
     {IN_PEFT, "composition_mode", "\"sub\""},
     .damage = replace_text,
     PEFT,
     .a = "\"add\"",
     .b = "\"sub\"",
     UNION},
    {"the library's (IA)^3 of rank 3",
     4,
     {IN_PEFT, "scale", "r 3"},
     .damage = replace_text,
     PEFT,
     .a = "\"add\"",
     .b = "\"scale\"",
     UNION},
    {"the library's (IA)^3 of another width",
     3,
     {IN_WEIGHTS, "lora_B", "[31, 1]", "[32, 1]"},
     .damage = reshape_tensor,
     WEIGHTS,
     .a = "layer.0.attention.self.key.loras.task.lora_B",
     .b = "[31,1]",
     .fixture = "library-ia3-bert"},
    {"the library's LoRA without alpha",
     3,
     {IN_PEFT, "alpha"},
     .damage = of_library,
     .a = "{\"architecture\":\"lora\",\"r\":3,\"composition_mode\":\"add\"}",
     UNION},
    /* names */
    {"three names", 0, {NULL}, MIXED, NAMES("inner,scale,outer")},
    {"a name that is not there", 2, {"\"other\"", "\"inner\""}, MIXED, NAMES("inner,other")},
    {"a name twice", 2, {"\"inner\" is given twice", "twice"}, MIXED, NAMES("inner,scale,inner")},
    {"an empty name", 2, {"--adapter-name"}, MIXED, NAMES("inner,,outer")},
    {"names and a comma behind", 2, {"--adapter-name"}, MIXED, NAMES("inner,outer,")},
    {"names of a folder of one", 2, {"\"one\""}, NAMES("one,two")},
    {"two names of one adapter", 0, {NULL}, .damage = twice, NAMES("one,two")},
    {"two heads",
     4,
     {"adapter/two/adapter_model.safetensors", "classifier.weight", "one at most"},
     .damage = two_heads,
     NAMES("one,two")},
    {"two tasks",
     3,
     {"task_type", "SEQ_CLS", "TOKEN_CLS"},
     .damage = two_tasks,
     MIXED,
     NAMES("inner,outer")},
    {"two DoRAs on one projection",
     4,
     {"DoRA", "query"},
     .damage = twice,
     .fixture = "dora-bert",
     NAMES("one,two")},
    {"two prompts",
     4,
     {"prompt_embeddings", "virtual tokens"},
     .damage = twice,
     .fixture = "prompt-tuning",
     .command = FIT " --choice-ids 12,50,33 --adapter-name one,two"},
    {"LoRA on one embedding twice",
     4,
     {"word_embeddings", "LoRA"},
     .damage = twice,
     .fixture = "lora-embedding-bert",
     NAMES("one,two")},
    {"a bias behind what scales outputs",
     4,
     {"attention.self.value", "a bias"},
     MIXED,
     NAMES("outer,scale,inner")},
    {"TFB of several",
     4,
     {"tfb", "several"},
     "compare --base @/base --adapter @/adapter --adapter-name inner,outer --calib @/calib.jsonl "
     "--test @/test.jsonl --methods map,tfb --out @/out --quiet",
     MIXED},
};

/* A posterior is of its adapters in their order. */
static void other_names(void **state) {
    (void)state;
    const char *folder = open_case("mixed-bert");
    command fit =
        run_line(folder,
                 "fit --base @/base --adapter @/adapter --adapter-name inner,outer --data "
                 "@/calib.jsonl --out @/posterior --quiet",
                 NULL);
    assert_int_equal(fit.code, 0);
    command_free(&fit);
    command same = run_line(folder, PREDICT, NULL);
    assert_int_equal(same.code, 0);
    command_free(&same);
    static const char *const lists[] = {"outer,inner", "inner,scale,outer", "outer"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        char line[256];
        snprintf(line, sizeof line, PREDICT " --adapter-name %s", lists[i]);
        command other = run_line(folder, line, NULL);
        assert_int_equal(other.code, 7);
        assert_non_null(strstr(other.err, "adapter"));
        command_free(&other);
    }
}

int main(void) {
    const struct CMUnitTest more[] = {cmocka_unit_test(other_names)};
    int failed = run_faults("faulty unions", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("unions, more", more, NULL, NULL);
}
