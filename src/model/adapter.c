#include "model/adapter.h"
#include "base/list.h"
#include "input/json.h"
#include "model/adapter_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_BYTES_MAX = 64 << 20 };

static const la_adapter_kind *const kinds[] = {
    &la_adapter_lora,   &la_adapter_adalora,  &la_adapter_ia3,
    &la_adapter_prompt, &la_adapter_p_tuning, &la_adapter_prefix,
};

/* Of the `adapters` library. */
static const la_adapter_kind *const library_kinds[] = {
    &la_adapter_bottleneck, &la_adapter_library_lora, &la_adapter_library_prefix};

static int by_key(const void *a, const void *b) {
    const la_adapter_entry *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : strcmp(x->tensor->name, y->tensor->name);
}

/* Keys as the base model's modules are named: saved by save_pretrained or as a raw state dict, the
 * same comes out. Those of the `adapters` library are so already. */
static char *normal_key(la_adapter *adapter, const la_adapter_names *names, const char *name,
                        la_error *err) {
    static const char wrapper[] = "base_model.";
    char *key = la_pool_text(&adapter->pool, name, strlen(name), err);
    size_t length = sizeof wrapper - 1;
    if (!key || !adapter->kind->peft_type)
        return key;
    if (adapter->kind->prompt && !strncmp(key, wrapper, length))
        memmove(key, key + length, strlen(key + length) + 1);
    la_adapter_names_strip(names, key);
    return key;
}

static la_status add_entries(la_adapter *adapter, const la_checkpoint *file,
                             const la_adapter_names *names, la_error *err) {
    for (int64_t i = 0; i < la_checkpoint_count(file); i++) {
        const la_tensor *tensor = la_checkpoint_at(file, i);
        /* the frozen copy that PEFT keeps beside a trained module */
        if (strstr(tensor->name, ".original_module."))
            continue;
        LA_TRY(la_tensor_check_float(tensor, err));
        LA_TRY(la_tensor_check_finite(tensor, err));
        if (la_adapter_names_other(names, tensor->name))
            continue;
        char *key = normal_key(adapter, names, tensor->name, err);
        if (!key)
            return err->status;
        adapter->entries[adapter->n_entries++] = (la_adapter_entry){.key = key, .tensor = tensor};
    }
    return LA_OK;
}

/* PEFT writes a trained embedding under two keys; what differs is not the same parameter. */
static la_status check_twice(const la_adapter *adapter, la_error *err) {
    for (int64_t i = 1; i < adapter->n_entries; i++) {
        const la_adapter_entry *a = &adapter->entries[i - 1], *b = &adapter->entries[i];
        if (!strcmp(a->key, b->key) && !la_tensor_equal(a->tensor, b->tensor))
            return la_fail(err, LA_BAD_INPUT,
                           "%s: tensors \"%s\" and \"%s\" are of one parameter, \"%s\", and "
                           "differ; keep the trained one",
                           b->tensor->file, a->tensor->name, b->tensor->name, b->key);
    }
    return LA_OK;
}

static la_status read_entries(la_adapter *adapter, const char *name, bool in_folder,
                              la_error *err) {
    la_adapter_names names;
    LA_TRY(la_adapter_names_read(adapter->file, name, in_folder, &adapter->pool, &names, err));
    if (names.n > 1)
        adapter->name = la_pool_text(&adapter->pool, names.wanted, strlen(names.wanted), err);
    int64_t n = la_checkpoint_count(adapter->file);
    n += adapter->head ? la_checkpoint_count(adapter->head) : 0;
    adapter->entries = la_pool_take(&adapter->pool, (size_t)n, sizeof *adapter->entries, err);
    if (!adapter->entries)
        return err->status;
    LA_TRY(add_entries(adapter, adapter->file, &names, err));
    if (adapter->head)
        LA_TRY(add_entries(adapter, adapter->head, &names, err));
    qsort(adapter->entries, (size_t)adapter->n_entries, sizeof *adapter->entries, by_key);
    return check_twice(adapter, err);
}

/* A part of a configuration of the `adapters` library: a kind of its own. */
static la_status read_part(la_adapter *adapter, const json_t *part, const la_log *log,
                           la_error *err) {
    const char *name = NULL;
    adapter->own = part;
    LA_TRY(la_json_text(part, adapter->config_path, "architecture", false, &name, err));
    for (size_t i = 0; i < sizeof library_kinds / sizeof *library_kinds; i++) {
        const char *known = library_kinds[i]->architecture;
        if (name && known ? !strcmp(known, name) : !name && !known)
            adapter->kind = library_kinds[i];
    }
    if (!adapter->kind)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: architecture \"%s\" of the `adapters` library is not supported "
                       "(bottleneck adapters, lora, prefix_tuning and unions of these are)",
                       adapter->config_path, name);
    return adapter->kind->check(adapter, log, err);
}

/* One or a union of several, which become a chain. */
static la_status read_library(la_adapter *adapter, const json_t *config, const la_log *log,
                              la_error *err) {
    const char *path = adapter->config_path;
    const json_t *parts = json_object_get(config, "configs");
    const char *architecture = json_string_value(json_object_get(config, "architecture"));
    if (!architecture || strcmp(architecture, "union"))
        return read_part(adapter, config, log, err);
    if (!json_array_size(parts))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: architecture is \"union\", but \"configs\" is no list of its parts",
                       path);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        if (!json_is_object(part))
            return la_fail(err, LA_BAD_INPUT, "%s: configs[%zu] is %s, expected an object", path, i,
                           la_json_kind(part));
        if (i) {
            adapter->next = la_pool_take(&adapter->pool, 1, sizeof *adapter, err);
            if (!adapter->next)
                return err->status;
            *adapter->next =
                (la_adapter){.config = adapter->config, .config_path = path, .shares = true};
            adapter = adapter->next;
        }
        LA_TRY(read_part(adapter, part, log, err));
    }
    return LA_OK;
}

static la_status read_config(const char *dir, la_adapter *adapter, const la_log *log,
                             la_error *err) {
    size_t room = strlen(dir) + 32;
    char *path = la_pool_take(&adapter->pool, room, 1, err);
    if (!path)
        return err->status;
    snprintf(path, room, "%s/adapter_config.json", dir);
    adapter->config_path = path;
    LA_TRY(la_json_load(path, CONFIG_BYTES_MAX, &adapter->config, err));
    const char *type = NULL;
    const json_t *of_library = json_object_get(adapter->config, "config");
    if (json_is_object(of_library))
        return read_library(adapter, of_library, log, err);
    adapter->own = adapter->config;
    LA_TRY(la_json_text(adapter->config, path, "peft_type", true, &type, err));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i]->peft_type, type))
            adapter->kind = kinds[i];
    if (!adapter->kind)
        return la_fail(
            err, LA_UNSUPPORTED,
            "%s: peft_type \"%s\" is not supported (LORA, ADALORA, IA3, PROMPT_TUNING, P_TUNING "
            "and PREFIX_TUNING are); train one of these: merge_and_unload() would give a base "
            "without an adapter to be uncertain about",
            path, type);
    LA_TRY(la_json_text(adapter->config, path, "task_type", false, &adapter->task_type, err));
    return adapter->kind->check(adapter, log, err);
}

/* The library's default is a pickle. */
static la_status check_pickle(const char *dir, la_error *err) {
    char safe[4096], pickle[4096];
    snprintf(safe, sizeof safe, "%s/adapter.safetensors", dir);
    snprintf(pickle, sizeof pickle, "%s/pytorch_adapter.bin", dir);
    if (!access(safe, F_OK) || access(pickle, F_OK))
        return LA_OK;
    return la_fail(
        err, LA_UNSUPPORTED,
        "%s: is a pickle, which can run code and is not read; save the adapter with "
        "use_safetensors=True, or, where the library cannot (prefix tuning), write what "
        "torch.load(\"pytorch_adapter.bin\") gives with safetensors.torch.save_file, each "
        "tensor cloned, as adapter.safetensors (the head as model_head.safetensors)",
        pickle);
}

/* A head of a static model; those of AutoAdapterModel are modules of their own. */
static la_status open_head(const char *dir, la_adapter *adapter, la_error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/model_head.safetensors", dir);
    if (access(path, F_OK))
        return LA_OK;
    LA_TRY(la_checkpoint_open(dir, "model_head", &adapter->head, err));
    for (int64_t i = 0; i < la_checkpoint_count(adapter->head); i++)
        if (!strncmp(la_checkpoint_at(adapter->head, i)->name, "heads.", 6))
            return la_fail(
                err, LA_UNSUPPORTED,
                "%s: holds a flexible head (\"%s\"), which is not supported; the head of "
                "a static model is",
                path, la_checkpoint_at(adapter->head, i)->name);
    return LA_OK;
}

/* One folder's adapter: one, or the parts of a union. */
static la_status open_one(const char *dir, const char *name, la_adapter *adapter, const la_log *log,
                          la_error *err) {
    const char *folder = dir;
    LA_TRY(la_adapter_folder(dir, name, &adapter->pool, &folder, err));
    LA_TRY(read_config(folder, adapter, log, err));
    bool of_peft = adapter->kind->peft_type != NULL;
    if (!of_peft)
        LA_TRY(check_pickle(folder, err));
    LA_TRY(la_checkpoint_open(folder, of_peft ? "adapter_model" : "adapter", &adapter->file, err));
    if (!of_peft)
        LA_TRY(open_head(folder, adapter, err));
    LA_TRY(read_entries(adapter, name, folder != dir, err));
    for (la_adapter *part = adapter->next; part; part = part->next) {
        part->file = adapter->file;
        part->head = adapter->head;
        part->entries = adapter->entries;
        part->n_entries = adapter->n_entries;
    }
    return LA_OK;
}

/* One behind the other. */
static la_status open_several(const char *dir, const la_list *names, la_adapter *adapter,
                              const la_log *log, la_error *err) {
    la_adapter *first = adapter, *last = NULL;
    for (size_t i = 0; i < names->n; i++) {
        char *name = la_pool_text(&first->pool, names->items[i], strlen(names->items[i]), err);
        if (name && last) {
            while (last->next)
                last = last->next;
            adapter = last->next = la_pool_take(&first->pool, 1, sizeof *adapter, err);
        }
        LA_TRY(err->status);
        LA_TRY(open_one(dir, name, adapter, log, err));
        for (la_adapter *part = adapter; part && names->n > 1; part = part->next)
            part->mark = name;
        last = adapter;
    }
    return LA_OK;
}

la_status la_adapter_open(const char *dir, const char *name, la_adapter *adapter, const la_log *log,
                          la_error *err) {
    la_list names = {0};
    *adapter = (la_adapter){0};
    if (name)
        LA_TRY(la_list_parse("--adapter-name", name, &names, err));
    la_status status = name ? open_several(dir, &names, adapter, log, err)
                            : open_one(dir, NULL, adapter, log, err);
    la_list_free(&names);
    if (status != LA_OK)
        la_adapter_close(adapter);
    return status;
}

void la_adapter_close(la_adapter *adapter) {
    if (adapter->next)
        la_adapter_close(adapter->next);
    if (!adapter->shares) {
        la_checkpoint_close(adapter->file);
        la_checkpoint_close(adapter->head);
        json_decref(adapter->config);
    }
    la_pool_free(&adapter->pool);
    *adapter = (la_adapter){0};
}

la_adapter_entry *la_adapter_find(la_adapter *adapter, const char *key) {
    int64_t low = 0, high = adapter->n_entries;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (strcmp(adapter->entries[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    la_adapter_entry *found = NULL;
    for (int64_t i = low; i < adapter->n_entries && !strcmp(adapter->entries[i].key, key); i++) {
        adapter->entries[i].used = true;
        if (!found)
            found = &adapter->entries[i];
    }
    return found;
}

const la_tensor *la_adapter_tensor(la_adapter *adapter, const char *module, const char *suffix,
                                   const char **key) {
    char text[1024];
    snprintf(text, sizeof text, "%s.%s", module, suffix);
    la_adapter_entry *entry = la_adapter_find(adapter, text);
    if (entry && key)
        *key = entry->key;
    return entry ? entry->tensor : NULL;
}

float *la_adapter_values(la_pool *pool, const la_tensor *tensor, double *square, la_error *err) {
    float *values = la_pool_take(pool, (size_t)tensor->count, sizeof *values, err);
    if (!values)
        return NULL;
    la_dtype_to_f32(tensor->dtype, tensor->data, tensor->count, values);
    *square = 0;
    for (int64_t i = 0; i < tensor->count; i++)
        *square += (double)values[i] * (double)values[i];
    return values;
}

static bool is_listed(const char *const *list, const char *key) {
    for (; *list; list++)
        if (!strcmp(*list, key))
            return true;
    return false;
}

la_status la_adapter_check_keys(const la_adapter *adapter, const char *const *known,
                                const char *const *more, la_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(adapter->config, key, value) {
        if (la_json_is_set(value) && !is_listed(known, key) && !is_listed(more, key))
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: \"%s\" is set; this variant of %s is not supported; train without "
                           "it: merge_and_unload() would give a base without an adapter to be "
                           "uncertain about",
                           adapter->config_path, key, adapter->kind->peft_type);
    }
    return LA_OK;
}
