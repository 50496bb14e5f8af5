#include "input/json.h"
#include "model/adapter.h"

#include <stdlib.h>
#include <string.h>

/* Key and value, only where the configuration sets it. */
static void add_where_set(const la_adapter *adapter, const char *key, size_t flags,
                          la_digest *digest) {
    const json_t *value = json_object_get(adapter->config, key);
    if (!la_json_is_set(value))
        return;
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | flags);
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
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *value = json_object_get(adapter->config, keys[i]);
        char *text =
            la_json_is_set(value) ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
        la_digest_add_text(digest, keys[i]);
        la_digest_add_text(digest, text ? text : "");
        free(text);
    }
    for (const char *const *key = adapter->kind->digested; key && *key; key++)
        add_where_set(adapter, *key, 0, digest);
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
    add_where_set(adapter, "trainable_token_indices", JSON_SORT_KEYS, digest);
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
