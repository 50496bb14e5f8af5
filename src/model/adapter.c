#include "model/adapter.h"
#include "base/list.h"
#include "input/json.h"
#include "model/adapter_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 64 << 20 };

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
    if (!key || !adapter->kind->library->strips)
        return key;
    if (adapter->kind->strips_model && !strncmp(key, wrapper, length))
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

static la_status read_entries(la_adapter *adapter, const char *name, bool in_directory,
                              la_error *err) {
    la_adapter_names names;
    LA_TRY(la_adapter_names_read(adapter->file, name, in_directory, &adapter->pool, &names, err));
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

static la_status read_config(const char *dir, la_adapter *adapter, la_error *err) {
    static const la_adapter_library *const libraries[] = {&la_adapters_library, &la_peft};
    size_t size = strlen(dir) + 32;
    char *path = la_pool_take(&adapter->pool, size, 1, err);
    if (!path)
        return err->status;
    snprintf(path, size, "%s/adapter_config.json", dir);
    adapter->config_path = path;
    LA_TRY(la_json_load(path, CONFIG_BYTES_MAX, &adapter->config, err));
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        const char *key = libraries[i]->config_key;
        const json_t *own = key ? json_object_get(adapter->config, key) : adapter->config;
        if (!key || json_is_object(own))
            return libraries[i]->read(adapter, own, err);
    }
    return LA_OK;
}

/* One directory's adapter: one, or the parts of a union. */
static la_status open_one(const char *dir, const char *name, la_adapter *adapter, la_error *err) {
    const char *found = dir;
    LA_TRY(la_adapter_directory(dir, name, &adapter->pool, &found, err));
    LA_TRY(read_config(found, adapter, err));
    LA_TRY(adapter->kind->library->open(found, adapter, err));
    LA_TRY(read_entries(adapter, name, found != dir, err));
    for (la_adapter *part = adapter->next; part; part = part->next) {
        part->file = adapter->file;
        part->head = adapter->head;
        part->entries = adapter->entries;
        part->n_entries = adapter->n_entries;
    }
    return LA_OK;
}

/* Several directories, as a chain. */
static la_status open_several(const char *dir, const la_list *names, la_adapter *adapter,
                              la_error *err) {
    la_adapter *first = adapter, *last = NULL;
    for (size_t i = 0; i < names->n; i++) {
        char *name = la_pool_text(&first->pool, names->items[i], strlen(names->items[i]), err);
        if (name && last) {
            while (last->next)
                last = last->next;
            adapter = last->next = la_pool_take(&first->pool, 1, sizeof *adapter, err);
        }
        LA_TRY(err->status);
        adapter->log = first->log;
        LA_TRY(open_one(dir, name, adapter, err));
        for (la_adapter *part = adapter; part && names->n > 1; part = part->next)
            part->mark = name;
        last = adapter;
    }
    return LA_OK;
}

la_status la_adapter_open(const char *dir, const char *name, la_adapter *adapter, const la_log *log,
                          la_error *err) {
    la_list names = {0};
    *adapter = (la_adapter){.log = log};
    if (name)
        LA_TRY(la_list_parse("--adapter-name", name, &names, err));
    la_status status =
        name ? open_several(dir, &names, adapter, err) : open_one(dir, NULL, adapter, err);
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

/* ---- digest ---- */

/* Key and value of the configuration, and only where it sets the key unless always. */
static void add_key(const la_adapter *adapter, const char *key, bool always, size_t flags,
                    la_digest *digest) {
    const json_t *value = json_object_get(adapter->config, key);
    bool set = la_json_is_set(value);
    if (!set && !always)
        return;
    char *text = set ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | flags) : NULL;
    la_digest_add_text(digest, key);
    la_digest_add_text(digest, text ? text : "");
    free(text);
}

static la_status digest_one(const la_adapter *adapter, char out[LA_DIGEST_TEXT], la_error *err) {
    /* only keys that change the numbers: a re-saved configuration is still the same adapter */
    static const char *const keys[] = {
        "peft_type",     "r", "lora_alpha", "use_rslora", "alpha_pattern", "rank_pattern",
        "fan_in_fan_out"};
    char content[33];
    LA_TRY(la_checkpoint_digest(adapter->file, content, err));
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    la_digest_add_text(digest, content);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        add_key(adapter, keys[i], true, 0, digest);
    for (const char *const *key = adapter->kind->digested; key && *key; key++)
        add_key(adapter, *key, false, 0, digest);
    if (adapter->name) {
        la_digest_add_text(digest, "adapter_name");
        la_digest_add_text(digest, adapter->name);
    }
    const char *config_key = adapter->kind->library->config_key;
    if (config_key) {
        char *text =
            json_dumps(json_object_get(adapter->config, config_key), JSON_COMPACT | JSON_SORT_KEYS);
        la_digest_add_text(digest, text ? text : "");
        free(text);
    }
    if (adapter->head) {
        la_status status = la_checkpoint_digest(adapter->head, content, err);
        la_digest_add_text(digest, status == LA_OK ? content : "");
    }
    /* only where it is set: adapters without keep the digest that posteriors hold */
    add_key(adapter, "trainable_token_indices", false, JSON_SORT_KEYS, digest);
    /* the same head, on every token */
    if (adapter->task_type && !strcmp(adapter->task_type, "TOKEN_CLS"))
        la_digest_add_text(digest, adapter->task_type);
    la_digest_finish(digest, out);
    return err->status;
}

/* Digest of one adapter; of several in a chain, of the list of these. The parts of a union share
 * their configuration and file, which the first one's digest covers. */
la_status la_adapter_digest(const la_adapter *adapter, char out[LA_DIGEST_TEXT], la_error *err) {
    bool several = false;
    for (const la_adapter *other = adapter->next; other; other = other->next)
        several |= !other->shares;
    LA_TRY(digest_one(adapter, out, err));
    if (!several)
        return LA_OK;
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    for (; adapter; adapter = adapter->next) {
        char each[LA_DIGEST_TEXT] = "";
        if (adapter->shares)
            continue;
        (void)digest_one(adapter, each, err);
        la_digest_add_text(digest, each);
    }
    la_digest_finish(digest, out);
    return err->status;
}
