/* Folders that are no base or adapter themselves: names on the hub, its cache, files, other tools'
 * folders, one in place of the other; and keys with the names of wrappers. */
#include "support/faults.h"
#include "support/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIT_WITH(base, adapter)                                                                    \
    "fit --base " base " --adapter " adapter " --data @/calib.jsonl --out @/out --quiet"

/* The adapter's files under other names: a becomes b. */
static void move_adapter(const fault *f, const char *folder) {
    char from[256], to[256];
    snprintf(from, sizeof from, "adapter/%s", f->a);
    snprintf(to, sizeof to, "adapter/%s", f->b);
    remove(in_case(folder, "adapter/adapter_config.json"));
    assert_int_equal(rename(in_case(folder, from), in_case(folder, to)), 0);
}

/* An empty file in the base's place, or the adapter's: file; without what makes it one. */
static void only_file(const fault *f, const char *folder) {
    remove(in_case(folder, "base/config.json"));
    remove(in_case(folder, "base/model.safetensors"));
    remove(in_case(folder, "adapter/adapter_config.json"));
    remove(in_case(folder, "adapter/adapter_model.safetensors"));
    write_file(in_case(folder, f->file), "", 0);
}

/* The base one folder down. */
static void nest_base(const fault *f, const char *folder) {
    (void)f;
    copy_folder(in_case(folder, "base"), in_case(folder, "base/inner"));
    remove(in_case(folder, "base/config.json"));
    remove(in_case(folder, "base/model.safetensors"));
}

static void mlx_config(const fault *f, const char *folder) {
    static const char text[] = "{\"fine_tune_type\":\"lora\",\"lora_parameters\":{\"rank\":8}}";
    (void)f;
    write_file(in_case(folder, "adapter/adapter_config.json"), text, sizeof text - 1);
}

/* Every key of a file with a in front. */
static void wrap_keys(const fault *f, const char *folder) {
    tensor_file file = tensors_read(in_case(folder, f->file));
    for (size_t i = 0; i < file.n; i++) {
        char *name = malloc(strlen(file.tensors[i].name) + strlen(f->a) + 1);
        sprintf(name, "%s%s", f->a, file.tensors[i].name);
        free(file.tensors[i].name);
        file.tensors[i].name = name;
    }
    tensors_write(&file, in_case(folder, f->file));
    tensors_free(&file);
}

/* One tensor (ending in a) again under its name with b in front, another in its data. */
static void double_key(const fault *f, const char *folder) {
    tensor_file file = tensors_read(in_case(folder, f->file));
    const tensor_bytes *t = tensors_find(&file, f->a);
    char name[512], *shape = json_dumps(t->shape, 0);
    unsigned char *data = malloc(t->length);
    memcpy(data, t->data, t->length);
    data[1] ^= 1;
    snprintf(name, sizeof name, "%s%s", f->b, t->name);
    char dtype[16];
    snprintf(dtype, sizeof dtype, "%s", t->dtype);
    tensors_add(&file, name, dtype, shape, data, t->length);
    tensors_write(&file, in_case(folder, f->file));
    tensors_free(&file);
    free(data);
    free(shape);
}

static void trained_twice(const fault *f, const char *folder) {
    tensor_file file = tensors_read(in_case(folder, f->file));
    tensor_bytes *t = tensors_find(&file, "classifier.weight");
    char *shape = json_dumps(t->shape, 0);
    unsigned char *data = calloc(1, t->length);
    tensors_add(&file, "base_model.model.classifier.modules_to_save.weight", t->dtype, shape, data,
                t->length);
    tensors_write(&file, in_case(folder, f->file));
    tensors_free(&file);
    free(data);
    free(shape);
}

#define OF_BASE .file = "base/model.safetensors"
#define OF_ADAPTER .file = "adapter/adapter_model.safetensors"
#define WORKS 0, {"log_likelihood"}, FIT " --json"

static const fault faults[] = {
    {"a name on the hub",
     3,
     {"meta/some-model", "nothing is downloaded", "hf download meta/some-model"},
     .command = FIT_WITH("meta/some-model", "@/adapter")},
    {"an adapter's name on the hub",
     3,
     {"--adapter some/adapter", "hf download"},
     .command = FIT_WITH("@/base", "some/adapter")},
    {"info of a base's file",
     3,
     {"base/model.safetensors", "is a file", "folder that holds config.json"},
     .command = "info @/base/model.safetensors"},
    {"info of an adapter's file",
     3,
     {"adapter/adapter_config.json", "is a file", "folder that holds adapter_config.json"},
     .command = "info @/adapter/adapter_config.json"},
    {"no folder",
     3,
     {"--base", "/none/model", "No such file"},
     .command = FIT_WITH("@/none/model", "@/adapter")},
    {"swapped",
     3,
     {"--base", "is an adapter", "swapped"},
     .command = FIT_WITH("@/adapter", "@/base")},
    {"a whole model as adapter",
     3,
     {"--adapter", "a whole model", "merged"},
     .command = FIT_WITH("@/base", "@/base")},
    {"the weights' file",
     3,
     {"model.safetensors", "is a file", "give "},
     .command = FIT_WITH("@/base/model.safetensors", "@/adapter")},
    {"the adapter's file",
     3,
     {"--adapter", "is a file", "/adapter"},
     .command = FIT_WITH("@/base", "@/adapter/adapter_model.safetensors")},
    {"GGUF", 4, {"--base", "GGUF", "model.gguf"}, .damage = only_file, .file = "base/model.gguf"},
    {"a pickle's file",
     4,
     {"a pickle", "never read"},
     .command = FIT_WITH("@/base/pytorch_model.bin", "@/adapter"),
     .damage = only_file,
     .file = "base/pytorch_model.bin"},
    {"its maker's own format",
     4,
     {"consolidated.00.pth", "own format"},
     .damage = only_file,
     .file = "base/consolidated.00.pth"},
    {"NeMo",
     4,
     {"NeMo", "model_config.yaml"},
     .damage = only_file,
     .file = "base/model_config.yaml"},
    {"a pipeline of images",
     4,
     {"diffusers", "model_index.json"},
     .damage = only_file,
     .file = "base/model_index.json"},
    {"a base one folder down", 3, {"subfolders", "inner"}, .damage = nest_base},
    {"an adapter of images",
     4,
     {"--adapter", "diffusers", "pytorch_lora_weights.safetensors"},
     .damage = move_adapter,
     .a = "adapter_model.safetensors",
     .b = "pytorch_lora_weights.safetensors"},
    {"an adapter of MLX",
     4,
     {"--adapter", "MLX", "adapters.safetensors"},
     .damage = move_adapter,
     .a = "adapter_model.safetensors",
     .b = "adapters.safetensors"},
    {"a configuration of MLX", 4, {"adapter_config.json", "MLX"}, .damage = mlx_config},
    {"an adapter of llama.cpp",
     4,
     {"--adapter", "GGUF"},
     .damage = move_adapter,
     .a = "adapter_model.safetensors",
     .b = "lora.gguf"},
    {"an adapter of torchtune",
     4,
     {"--adapter", "torchtune"},
     .damage = move_adapter,
     .a = "adapter_model.safetensors",
     .b = "adapter_0.pt"},
    {"a full fine-tune's weights",
     3,
     {"--adapter", "no adapter_config.json"},
     .damage = move_adapter,
     .a = "adapter_model.safetensors",
     .b = "model.safetensors"},
    {"weights without their configuration",
     3,
     {"adapter/adapter_config.json", "save_pretrained"},
     .damage = move_adapter,
     .a = "adapter_model.safetensors",
     .b = "adapter_model.safetensors"},
    {"a reward model's head",
     4,
     {"value_head.safetensors", "TRL"},
     .damage = put_file,
     .file = "adapter/value_head.safetensors",
     .a = ""},
    {"a compiled base", WORKS, wrap_keys, OF_BASE, .a = "_orig_mod."},
    {"a base under DDP and compiled", WORKS, wrap_keys, OF_BASE, .a = "module._orig_mod."},
    {"a base that PEFT was around", WORKS, wrap_keys, OF_BASE, .a = "base_model.model."},
    {"an adapter under DDP", WORKS, wrap_keys, OF_ADAPTER, .a = "module."},
    {"an adapter under FSDP", WORKS, wrap_keys, OF_ADAPTER, .a = "_fsdp_wrapped_module."},
    {"PEFT around PEFT", WORKS, wrap_keys, OF_ADAPTER, .a = "base_model.model."},
    {"two keys that become one",
     3,
     {"base/model.safetensors", "two tensors", "word_embeddings.weight"},
     .damage = double_key,
     OF_BASE,
     .a = "word_embeddings.weight",
     .b = "_orig_mod."},
    {"two keys of an adapter that become one",
     3,
     {"adapter_model.safetensors", "two tensors", "lora_A"},
     .damage = double_key,
     OF_ADAPTER,
     .a = "lora_A.weight",
     .b = "module."},
    {"a head that was trained twice",
     3,
     {"classifier.modules_to_save.weight", "classifier.weight", "differ"},
     .damage = trained_twice,
     OF_ADAPTER},
};

static void make_folder(const char *folder, const char *name) {
    assert_int_equal(mkdir(in_case(folder, name), 0777), 0);
}

/* hub/models--org--tiny as huggingface_hub leaves it, with the base in a snapshot. */
static void make_cache(const char *folder) {
    static const char *const names[] = {"hub", "hub/models--org--tiny",
                                        "hub/models--org--tiny/refs",
                                        "hub/models--org--tiny/snapshots"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        make_folder(folder, names[i]);
    write_file(in_case(folder, "hub/models--org--tiny/refs/main"), "0123abcd\n", 9);
    copy_folder(in_case(folder, "base"),
                in_case(folder, "hub/models--org--tiny/snapshots/0123abcd"));
    setenv("HF_HUB_CACHE", in_case(folder, "hub"), 1);
}

static void check_well(const char *folder, const char *line, const char *said) {
    command done = run_line(folder, line, NULL);
    if (done.code || !strstr(done.err, said))
        fail_msg("%s: exit code %d: %s", line, done.code, done.err);
    command_free(&done);
}

/* Names on the hub without a connection, as users of transformers give them. */
static void cached_names(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    make_cache(folder);
    check_well(folder,
               "fit --base org/tiny --adapter @/adapter --data @/calib.jsonl --out @/posterior",
               "taken from the local hub cache");
    check_well(folder, "predict --posterior @/posterior --data @/test.jsonl --predictive map", "");
    check_well(folder, "info org/tiny", "taken from the local hub cache");
    check_well(folder,
               "fit --base @/hub/models--org--tiny --adapter @/adapter --data @/calib.jsonl --out "
               "@/posterior",
               "snapshots/0123abcd");
    remove(in_case(folder, "hub/models--org--tiny/snapshots/0123abcd/config.json"));
    command done = run_line(folder, FIT_WITH("org/tiny", "@/adapter"), NULL);
    static const char *const pieces[] = {"org/tiny", "without config.json", "hf download"};
    check_message(&done, 3, pieces, 3);
    command_free(&done);
    remove(in_case(folder, "hub/models--org--tiny/refs/main"));
    make_folder(folder, "hub/models--org--tiny/snapshots/other");
    done = run_line(folder, FIT_WITH("@/hub/models--org--tiny", "@/adapter"), NULL);
    static const char *const two[] = {"hub cache", "2 snapshots", "refs/main"};
    check_message(&done, 3, two, 3);
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cached_names)};
    setenv("HF_HUB_CACHE", scratch("empty"), 1);
    int failed = run_faults("folders", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("the hub's cache", tests, NULL, NULL);
}
