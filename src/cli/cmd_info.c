#include "base/model_files.h"
#include "base/visible.h"
#include "cli/cli.h"
#include "cli/file_facts.h"
#include "input/folders.h"
#include "input/json.h"
#include "model/adapter.h"
#include "model/config.h"
#include "output/escape.h"
#include "output/posterior_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Element types in use: ["F32"] or ["BF16", "F32"]. */
static json_t *types_of(const la_checkpoint *checkpoint) {
    json_t *list = json_array();
    for (int64_t i = 0; i < la_checkpoint_count(checkpoint); i++) {
        const char *name = la_checkpoint_at(checkpoint, i)->dtype_name;
        size_t j = 0;
        while (j < json_array_size(list) &&
               strcmp(json_string_value(json_array_get(list, j)), name))
            j++;
        if (j == json_array_size(list))
            json_array_append_new(list, json_string(name));
    }
    return list;
}

static la_status add_checkpoint(const char *dir, const char *stem, json_t *out, la_error *err) {
    la_checkpoint *checkpoint;
    LA_TRY(la_checkpoint_open(dir, stem, &checkpoint, err));
    int64_t elements = 0;
    for (int64_t i = 0; i < la_checkpoint_count(checkpoint); i++)
        elements += la_packed_parameters(checkpoint, la_checkpoint_at(checkpoint, i));
    json_object_update_new(out, json_pack("{s:I, s:I, s:I, s:o}", "tensors",
                                          la_checkpoint_count(checkpoint), "parameters", elements,
                                          "bytes", (json_int_t)la_checkpoint_bytes(checkpoint),
                                          "dtypes", types_of(checkpoint)));
    la_checkpoint_close(checkpoint);
    return LA_OK;
}

static la_status describe_base(const char *path, json_t *out, la_error *err) {
    la_config config;
    LA_TRY(la_config_read(path, &config, err));
    const char *quantised =
        config.quantised ? config.quantised : la_base_quant_names[LA_BASE_PLAIN];
    json_object_update_new(
        out,
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:b}", "kind", "base", "model_type",
                  config.arch->model_type, "layers", (json_int_t)config.layers, "hidden",
                  (json_int_t)config.hidden, "heads", (json_int_t)config.heads, "vocabulary",
                  (json_int_t)config.vocab, "positions", (json_int_t)config.max_positions,
                  "quantised", quantised, "tokenizer", (int)la_folder_has(path, "tokenizer.json")));
    la_config_free(&config);
    return add_checkpoint(path, "model", out, err);
}

static la_status describe_adapter(const char *path, const la_log *log, json_t *out, la_error *err) {
    la_adapter adapter;
    LA_TRY(la_adapter_open(path, NULL, &adapter, log, err));
    static const char *const keys[] = {
        "peft_type",      "task_type",       "r",
        "lora_alpha",     "use_rslora",      "use_dora",
        "target_modules", "modules_to_save", "base_model_name_or_path"};
    json_object_set_new(out, "kind", json_string("adapter"));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        json_t *value = json_object_get(adapter.config, keys[i]);
        json_object_set(out, keys[i], value ? value : json_null());
    }
    const la_adapter_library *library = adapter.kind->library;
    if (library->config_key)
        json_object_set(out, library->config_key,
                        json_object_get(adapter.config, library->config_key));
    la_adapter_close(&adapter);
    return add_checkpoint(path, library->weights, out, err);
}

/* Describes the folder that a path or a name of the hub's cache stands for. */
static la_status describe_found(const char *path, const la_log *log, json_t *out, la_error *err) {
    la_pool pool = {0};
    const char *folder = path;
    struct stat info;
    const char *slash = strrchr(path, '/');
    la_folder_kind kind =
        strncmp(slash ? slash + 1 : path, "adapter_", 8) ? LA_FOLDER_BASE : LA_FOLDER_ADAPTER;
    la_status status = la_folder_find(kind, "info", path, &pool, log, &folder, err);
    if (status == LA_OK && (stat(folder, &info) || !la_folder_has(folder, "config.json")))
        status = la_fail(
            err, LA_BAD_INPUT,
            "%s: holds neither config.json (a base) nor adapter_config.json (an adapter)", path);
    if (status == LA_OK)
        status = describe_base(folder, out, err);
    la_pool_free(&pool);
    return status;
}

/* Refuses a configuration that may exist and cannot be looked at. */
static la_status check_seen(const char *dir, la_error *err) {
    static const char *const names[] = {"adapter_config.json", "config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (access(path, F_OK) && errno != ENOENT)
            return la_fail(err, LA_BAD_INPUT, "%s: cannot be read: %s", path, la_errno_text(errno));
    }
    return LA_OK;
}

static la_status describe(const char *path, bool all, const la_log *log, json_t *out,
                          la_error *err) {
    struct stat info;
    la_facts_text(out, "path", path);
    const char *slash = strrchr(path, '/');
    bool is_main = la_model_file_of(slash ? slash + 1 : path) == LA_MODEL_FILE_MAIN;
    if (stat(path, &info) || (S_ISREG(info.st_mode) && is_main))
        return describe_found(path, log, out, err);
    const char *dot = strrchr(path, '.');
    bool named = dot && (!strcmp(dot, ".h5") || !strcmp(dot, ".hdf5"));
    if (!S_ISDIR(info.st_mode) && la_sums_looks_like(path))
        return la_sums_facts(path, out, err);
    if (!S_ISDIR(info.st_mode))
        return named || la_posterior_looks_like(path) ? la_posterior_facts(path, all, out, err)
                                                      : la_file_facts(path, out, err);
    if (la_folder_has(path, "adapter_config.json"))
        return describe_adapter(path, log, out, err);
    if (la_folder_has(path, "config.json"))
        return describe_base(path, out, err);
    LA_TRY(check_seen(path, err));
    return describe_found(path, log, out, err);
}

/* A line a value; objects in objects become "a.b", and from there on JSON. */
static void print_lines(const json_t *object, const char *prefix, int depth) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", prefix, key);
        if (json_is_object(value) && depth < 2) {
            strncat(name, ".", sizeof name - strlen(name) - 1);
            print_lines(value, name, depth + 1);
            continue;
        }
        char shown[4 * sizeof name];
        la_visible(name, shown, sizeof shown);
        printf("%-25s ", shown);
        if (json_is_string(value))
            la_visible_write(json_string_value(value), stdout);
        else
            la_json_write(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(10), stdout);
        fputc('\n', stdout);
    }
}

static la_status print(const json_t *root, bool as_json, la_error *err) {
    if (as_json) {
        la_json_write(root, JSON_COMPACT | JSON_ENSURE_ASCII, stdout);
        fputc('\n', stdout);
    } else {
        print_lines(root, "", 0);
    }
    return fflush(stdout) ? la_fail(err, LA_RESOURCE, "standard output: cannot write") : LA_OK;
}

typedef struct info_given {
    la_common common;
    bool json, all;
} info_given;

static const la_option options[] = {
    LA_ROW(FLAG, info_given, json, "json", .help = "as one JSON object"),
    LA_ROW(FLAG, info_given, all, "all",
           .help = "of a posterior, every field of the file, block by block"),
};

static int run(const void *args) {
    const info_given *given = args;
    la_error err = {0};
    if (given->common.n_operands != 1) {
        (void)la_fail(&err, LA_USAGE, "info takes one path; see laplora info --help");
        return la_cli_exit(&err);
    }
    json_t *root = json_object();
    la_log log = la_cli_log(&given->common);
    if (!root)
        (void)la_fail(&err, LA_RESOURCE, "out of memory");
    else if (describe(given->common.operands[0], given->all, &log, root, &err) == LA_OK)
        (void)print(root, given->json, &err);
    json_decref(root);
    return la_cli_exit(&err);
}

const la_command la_command_info = {
    .name = "info",
    .summary =
        "what a base, an adapter, a posterior, or a file of predictions, data or a prompt is",
    .usage = "PATH [--json] [--all]",
    .groups = {LA_GROUP(options, 0), LA_GROUP(la_common_rows, offsetof(info_given, common))},
    .size = sizeof(info_given),
    .run = run,
};
