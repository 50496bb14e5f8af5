#include "input/folders.h"
#include "base/visible.h"
#include "input/json.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, LIST_BYTES = 512, NAME_SHOWN = 64, CONFIG_BYTES_MAX = 64 << 20 };

typedef struct search {
    la_folder_kind kind;
    const char *option, *given;
    la_pool *pool;
    const la_log *log;
    la_error *err;
} search;

/* ---- what is in a folder ---- */

bool la_folder_has(const char *dir, const char *name) {
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && (size_t)n < sizeof path && !access(path, F_OK);
}

static bool is_folder(const char *path) {
    struct stat info;
    return !stat(path, &info) && S_ISDIR(info.st_mode);
}

static bool ends(const char *name, const char *ending) {
    size_t n = strlen(name), m = strlen(ending);
    return n >= m && !strcmp(name + n - m, ending);
}

/* An entry that begins and ends so; false: none. The first by name. */
static bool find_entry(const char *dir, const char *begin, const char *ending, char name[256]) {
    DIR *stream = opendir(dir);
    struct dirent *entry;
    *name = 0;
    while (stream && (entry = readdir(stream))) {
        const char *at = entry->d_name;
        bool fits = *at != '.' && !strncmp(at, begin, strlen(begin)) && ends(at, ending);
        if (fits && strlen(at) < 256 && (!*name || strcmp(at, name) < 0))
            strcpy(name, at);
    }
    if (stream)
        closedir(stream);
    return *name != 0;
}

/* Subfolders that hold file, as text; their number. */
static int list_holders(const char *dir, const char *file, char text[LIST_BYTES]) {
    DIR *stream = opendir(dir);
    struct dirent *entry;
    int n = 0;
    *text = 0;
    while (stream && (entry = readdir(stream))) {
        char path[PATH_BYTES];
        size_t used = strlen(text);
        int length = snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (*entry->d_name == '.' || length < 0 || (size_t)length >= sizeof path ||
            !la_folder_has(path, file))
            continue;
        if (used + NAME_SHOWN + 3 < LIST_BYTES)
            snprintf(text + used, LIST_BYTES - used, "%s%.*s", n ? ", " : "",
                     (int)la_visible_cut(entry->d_name, NAME_SHOWN), entry->d_name);
        n++;
    }
    if (stream)
        closedir(stream);
    return n;
}

static const char *config_of(la_folder_kind kind) {
    return kind == LA_FOLDER_BASE ? "config.json" : "adapter_config.json";
}

static bool has_weights(const char *dir) {
    char name[256];
    return la_folder_has(dir, "model.safetensors") ||
           la_folder_has(dir, "model.safetensors.index.json") ||
           find_entry(dir, "model-", ".safetensors", name) ||
           find_entry(dir, "pytorch_model", ".bin", name);
}

/* ---- the hub ---- */

/* "NAME" or "ORGANISATION/NAME". */
static bool is_hub_name(const char *given) {
    int slashes = 0;
    if (!isalnum((unsigned char)*given) || ends(given, "/") || strstr(given, ".."))
        return false;
    for (const char *c = given; *c; c++) {
        slashes += *c == '/';
        if (!isalnum((unsigned char)*c) && !strchr("._-/", *c))
            return false;
    }
    return slashes <= 1 && strlen(given) <= 200;
}

static void cache_folder(char path[PATH_BYTES]) {
    const struct {
        const char *variable, *behind;
    } places[] = {{"HF_HUB_CACHE", ""},
                  {"HUGGINGFACE_HUB_CACHE", ""},
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"},
                  {"HOME", "/.cache/huggingface/hub"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *value = getenv(places[i].variable);
        int n = value && *value ? snprintf(path, PATH_BYTES, "%s%s", value, places[i].behind) : -1;
        if (n > 0 && n < PATH_BYTES)
            return;
    }
    strcpy(path, ".cache/huggingface/hub");
}

/* The snapshot of a folder models--ORG--NAME that "main" is, else the only one; false: none. */
static bool find_snapshot(const char *cached, char path[PATH_BYTES], int *n_snapshots) {
    char ref[PATH_BYTES], list[LIST_BYTES], revision[128] = "";
    char snapshots[PATH_BYTES];
    int n = snprintf(ref, sizeof ref, "%s/refs/main", cached);
    snprintf(snapshots, sizeof snapshots, "%s/snapshots", cached);
    FILE *file = n > 0 && (size_t)n < sizeof ref ? fopen(ref, "r") : NULL;
    if (file) {
        size_t length = fread(revision, 1, sizeof revision - 1, file);
        revision[length] = 0;
        revision[strcspn(revision, " \r\n")] = 0;
        fclose(file);
    }
    *n_snapshots = list_holders(snapshots, ".", list);
    if (!*revision && *n_snapshots == 1)
        snprintf(revision, sizeof revision, "%.120s", list);
    if (!*revision || strchr(revision, '/'))
        return false;
    n = snprintf(path, PATH_BYTES, "%s/%s", snapshots, revision);
    return n > 0 && n < PATH_BYTES && is_folder(path);
}

static la_status take_snapshot(const search *s, const char *path, const char **folder) {
    if (!la_folder_has(path, config_of(s->kind)))
        return la_fail(
            s->err, LA_BAD_INPUT,
            "%s %s: the local hub cache has it without %s (%s); fetch all of it with `hf "
            "download %s --local-dir DIR` and give DIR",
            s->option, s->given, config_of(s->kind), path, s->given);
    la_warn(s->log, "%s %s: taken from the local hub cache, %s", s->option, s->given, path);
    *folder = la_pool_text(s->pool, path, strlen(path), s->err);
    return s->err->status;
}

static la_status find_on_hub(const search *s, const char **folder) {
    char cache[PATH_BYTES], cached[PATH_BYTES], path[PATH_BYTES], name[256] = "";
    int n_snapshots = 0;
    cache_folder(cache);
    for (const char *c = s->given; *c; c++) {
        size_t used = strlen(name);
        snprintf(name + used, sizeof name - used, "%.*s", *c == '/' ? 2 : 1, *c == '/' ? "--" : c);
    }
    int n = snprintf(cached, sizeof cached, "%s/models--%s", cache, name);
    if (n > 0 && (size_t)n < sizeof cached && find_snapshot(cached, path, &n_snapshots))
        return take_snapshot(s, path, folder);
    return la_fail(s->err, LA_BAD_INPUT,
                   "%s %s: no such folder; if it is a name on the Hugging Face hub, it is not in "
                   "the local cache (%s), and nothing is downloaded here: run `hf download %s "
                   "--local-dir DIR` and give DIR",
                   s->option, s->given, cache, s->given);
}

/* ---- what else it may be ---- */

static la_status refuse_file(const search *s) {
    const char *given = s->given, *slash = strrchr(given, '/');
    int length = slash ? (int)(slash - given) : 1;
    if (ends(given, ".gguf"))
        return la_fail(s->err, LA_UNSUPPORTED,
                       "%s %s: is a GGUF file, which is not read; take the folder of "
                       "safetensors that it was made from",
                       s->option, given);
    if (ends(given, ".bin") || ends(given, ".pt") || ends(given, ".pth") || ends(given, ".ckpt"))
        return la_fail(
            s->err, LA_UNSUPPORTED,
            "%s %s: is a pickle, which can run code and is never read; give a folder with "
            "%s and safetensors",
            s->option, given, config_of(s->kind));
    if (ends(given, ".h5") || ends(given, ".hdf5"))
        return la_fail(
            s->err, LA_BAD_INPUT,
            "%s %s: is a file; a posterior goes with --posterior, and this takes a folder",
            s->option, given);
    if (ends(given, ".nemo") || ends(given, ".npz"))
        return la_fail(
            s->err, LA_UNSUPPORTED,
            "%s %s: is a file of another tool, which is not read; export to the format of "
            "transformers and PEFT",
            s->option, given);
    return la_fail(s->err, LA_BAD_INPUT,
                   "%s %s: is a file, expected the folder that holds %s; give %.*s", s->option,
                   given, config_of(s->kind), length, slash ? given : ".");
}

/* Folders of other tools, by a file that they have. end NULL: this very name. */
static const struct {
    const char *begin, *end, *what, *advice;
} others[] = {
    {"", ".gguf", "GGUF files", "take the folder of safetensors that they were made from"},
    {"", ".nemo", "a NeMo checkpoint", "export it to the format of transformers and PEFT"},
    {"model_config.yaml", NULL, "a NeMo checkpoint",
     "export it to the format of transformers and PEFT"},
    {"pytorch_lora_weights.safetensors", NULL, "LoRA weights of diffusers or kohya (images)",
     "adapters of language models in PEFT's format are read"},
    {"model_index.json", NULL, "a pipeline of diffusers", "give a language model"},
    {"adapters.safetensors", NULL, "an adapter of MLX", "convert it to PEFT's format"},
    {"adapters.npz", NULL, "an adapter of MLX", "convert it to PEFT's format"},
    {"adapter_0.pt", NULL, "an adapter of torchtune",
     "save it with `save_adapter_weights_only` in PEFT's format (adapter_model.safetensors)"},
    {"consolidated", ".pth", "a model in its maker's own format",
     "take the version in the format of transformers, or convert it"},
    {"consolidated", ".safetensors", "a model in its maker's own format",
     "take the version in the format of transformers, or convert it"},
    {"global_step", "", "a checkpoint of DeepSpeed",
     "gather it with its zero_to_fp32.py, or with save_pretrained()"},
    {"pytorch_model_fsdp", "", "a sharded checkpoint of FSDP",
     "merge it with `accelerate merge-weights`, or save with FULL_STATE_DICT"},
    {"__0_0.distcp", NULL, "a sharded checkpoint of torch", "save it with save_pretrained()"},
    {"tf_model.h5", NULL, "weights of TensorFlow", "save them as safetensors with transformers"},
    {"flax_model.msgpack", NULL, "weights of Flax", "save them as safetensors with transformers"},
    {"model.onnx", NULL, "a model in ONNX", "take the folder of safetensors"},
};

static la_status refuse_other(const search *s, const char *dir) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char name[256];
        const char *begin = others[i].begin, *end = others[i].end;
        if (end ? find_entry(dir, begin, end, name) : la_folder_has(dir, begin))
            return la_fail(s->err, LA_UNSUPPORTED, "%s %s: holds %s (%s), not supported; %s",
                           s->option, s->given, others[i].what, end ? name : begin,
                           others[i].advice);
    }
    return LA_OK;
}

static la_status refuse_base(const search *s, const char *dir) {
    char list[LIST_BYTES];
    if (la_folder_has(dir, "adapter_config.json"))
        return la_fail(s->err, LA_BAD_INPUT,
                       "%s %s: is an adapter (adapter_config.json), expected the model that it was "
                       "trained on (config.json); are --base and --adapter swapped?",
                       s->option, s->given);
    LA_TRY(refuse_other(s, dir));
    if (list_holders(dir, "config.json", list))
        return la_fail(s->err, LA_BAD_INPUT,
                       "%s %s: holds no config.json itself; these subfolders do: %s; give one of "
                       "them",
                       s->option, s->given, list);
    if (has_weights(dir))
        return la_fail(s->err, LA_BAD_INPUT,
                       "%s/config.json: no such file, though there are weights; copy it from where "
                       "the model is from",
                       dir);
    return LA_OK; /* reported where config.json is read */
}

static la_status refuse_adapter(const search *s, const char *dir) {
    char list[LIST_BYTES];
    if (list_holders(dir, "adapter_config.json", list))
        return LA_OK; /* chosen by name */
    LA_TRY(refuse_other(s, dir));
    if (la_folder_has(dir, "adapter_model.safetensors") || la_folder_has(dir, "adapter_model.bin"))
        return la_fail(s->err, LA_BAD_INPUT,
                       "%s/adapter_config.json: no such file, though there are adapter weights; "
                       "save_pretrained() writes both",
                       dir);
    if (la_folder_has(dir, "config.json") && has_weights(dir))
        return la_fail(s->err, LA_BAD_INPUT,
                       "%s %s: is a whole model (config.json and its weights), not an adapter: "
                       "fine-tuned in full, or merged; are --base and --adapter swapped? A model "
                       "without an adapter is not what this is for",
                       s->option, s->given);
    if (la_folder_has(dir, "pytorch_model.bin") || has_weights(dir))
        return la_fail(s->err, LA_BAD_INPUT,
                       "%s %s: holds weights and no adapter_config.json: of a whole model, or of "
                       "another library's adapter; adapters of PEFT and of `adapters` are read",
                       s->option, s->given);
    return LA_OK; /* reported where adapter_config.json is read */
}

/* Another library's adapter_config.json; those of AdapterHub have "config". */
static la_status check_adapter_config(const search *s, const char *dir) {
    char path[PATH_BYTES];
    json_t *root = NULL;
    la_error ignored = {0};
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    if (la_json_load(path, CONFIG_BYTES_MAX, &root, &ignored) != LA_OK)
        return LA_OK;
    bool peft = json_object_get(root, "peft_type") || json_object_get(root, "config");
    bool mlx = json_object_get(root, "lora_parameters") || json_object_get(root, "fine_tune_type");
    json_decref(root);
    if (!peft && mlx)
        return la_fail(s->err, LA_UNSUPPORTED,
                       "%s: is of an adapter of MLX, which is not supported; convert it to PEFT's "
                       "format",
                       path);
    static const char *const heads[] = {"value_head.safetensors", "value_head.bin", "v_head.bin"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (la_folder_has(dir, heads[i]))
            return la_fail(s->err, LA_UNSUPPORTED,
                           "%s/%s: is the head of a reward model of TRL, which is not supported; "
                           "train one as a sequence classifier with one label",
                           dir, heads[i]);
    return LA_OK;
}

/* ---- all together ---- */

/* Warns of code beside the model, which transformers runs with trust_remote_code alone. */
static void warn_of_code(const search *s, const char *dir) {
    char path[PATH_BYTES];
    json_t *root = NULL;
    la_error ignored = {0};
    snprintf(path, sizeof path, "%s/config.json", dir);
    if (la_json_load(path, CONFIG_BYTES_MAX, &root, &ignored) == LA_OK &&
        la_json_is_set(json_object_get(root, "auto_map")))
        la_warn(s->log,
                "%s: auto_map names code of the model's own, which is not run; what counts is the "
                "architecture of its model_type",
                path);
    json_decref(root);
}

static la_status check_folder(const search *s, const char *dir) {
    if (!la_folder_has(dir, config_of(s->kind)))
        return s->kind == LA_FOLDER_BASE ? refuse_base(s, dir) : refuse_adapter(s, dir);
    if (s->kind == LA_FOLDER_ADAPTER)
        return check_adapter_config(s, dir);
    if (!has_weights(dir))
        LA_TRY(refuse_other(s, dir));
    warn_of_code(s, dir);
    if (la_folder_has(dir, "adapter_config.json"))
        la_warn(s->log,
                "%s: holds an adapter as well (adapter_config.json), which transformers would load "
                "with it; it is passed over here, --adapter counts",
                dir);
    return LA_OK;
}

la_status la_folder_find(la_folder_kind kind, const char *option, const char *given, la_pool *pool,
                         const la_log *log, const char **folder, la_error *err) {
    search s = {kind, option, given, pool, log, err};
    struct stat info;
    char path[PATH_BYTES];
    int n_snapshots = 0;
    *folder = given;
    if (stat(given, &info)) {
        if ((errno == ENOENT || errno == ENOTDIR) && is_hub_name(given))
            return find_on_hub(&s, folder);
        return la_fail(err, la_errno_status(errno), "%s %s: cannot be read: %s; expected a folder",
                       option, given, la_errno_text(errno));
    }
    if (!S_ISDIR(info.st_mode))
        return refuse_file(&s);
    if (la_folder_has(given, "snapshots") && !la_folder_has(given, config_of(kind))) {
        if (find_snapshot(given, path, &n_snapshots))
            return take_snapshot(&s, path, folder);
        return la_fail(
            err, LA_BAD_INPUT,
            "%s %s: is a folder of the hub cache with %d snapshots and no refs/main; give "
            "one of those in snapshots/",
            option, given, n_snapshots);
    }
    return check_folder(&s, given);
}
