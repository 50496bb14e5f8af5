/* Tensors that the model does not use. */
#include "base/names.h"
#include "model/binder.h"

#include <stdio.h>
#include <string.h>

/* The module of the architecture whose name is nearest to a stray key. */
static void nearest_module(const la_model *model, const char *key, char *out, size_t size) {
    size_t best = SIZE_MAX;
    char name[NAME_MAX_BYTES], pattern[NAME_MAX_BYTES];
    const la_arch *arch = model->config.arch;
    *out = 0;
    for (int64_t i = 0; i < model->config.layers; i++) {
        for (int slot = 0; slot < LA_SLOTS; slot++) {
            if (!arch->linear[slot])
                continue;
            snprintf(pattern, sizeof pattern, "%s%s", arch->prefix, arch->linear[slot]);
            snprintf(name, sizeof name, pattern, (long long)i);
            size_t distance = la_edit_distance(key, name);
            if (distance < best) {
                best = distance;
                snprintf(out, size, "%s", name);
            }
        }
    }
}

/* The ending of key that belongs to one of the adapters that read this file; NULL: none. */
static const char *known_ending(const la_adapter *adapter, const char *key) {
    const char *ending = NULL;
    size_t length = strlen(key);
    for (const la_adapter *part = adapter; part; part = part->next) {
        if (part != adapter && !part->shares)
            break;
        for (const char *const *s = part->kind->suffixes; s && *s; s++)
            if (length > strlen(*s) && !strcmp(key + length - strlen(*s), *s))
                ending = *s;
    }
    return ending;
}

/* True when a variant of some kind has such tensors. */
static bool is_announced(const char *key) {
    for (const la_adapter_kind *const *kind = la_adapter_kinds; *kind; kind++)
        for (const char *const *s = (*kind)->announced; s && *s; s++)
            if (strstr(key, *s))
                return true;
    return false;
}

static la_status check_used(const la_model *model, const la_adapter *adapter, la_error *err) {
    for (int64_t i = 0; i < adapter->n_entries; i++) {
        const la_adapter_entry *entry = &adapter->entries[i];
        if (entry->used)
            continue;
        const char *ending = known_ending(adapter, entry->key);
        if (is_announced(entry->key))
            return la_tensor_fail(err, LA_UNSUPPORTED, entry->tensor,
                                  " is of a kind of adapter that is not supported, or that "
                                  "adapter_config.json does not say");
        char module[NAME_MAX_BYTES], nearest[NAME_MAX_BYTES];
        size_t length = strlen(entry->key) - (ending ? strlen(ending) + 1 : 0);
        snprintf(module, sizeof module, "%.*s", (int)(length < 400 ? length : 400), entry->key);
        nearest_module(model, module, nearest, sizeof nearest);
        return la_tensor_fail(err, LA_BAD_INPUT, entry->tensor,
                              " belongs to no module of this base; the nearest is \"%s\"", nearest);
    }
    return LA_OK;
}

/* Two adapters cannot replace one parameter of the base, unless by the same values. */
static la_status check_replaced(const la_adapter *adapter, const la_adapter *other, la_error *err) {
    for (int64_t i = 0; i < adapter->n_entries; i++)
        for (int64_t j = 0; adapter->entries[i].replaces && j < other->n_entries; j++)
            if (other->entries[j].replaces &&
                !strcmp(adapter->entries[i].key, other->entries[j].key) &&
                !la_tensor_equal(adapter->entries[i].tensor, other->entries[j].tensor))
                return la_tensor_fail(err, LA_UNSUPPORTED, other->entries[j].tensor,
                                      " is brought by %s as well; of adapters that are used "
                                      "together one at most can have trained it",
                                      adapter->entries[i].tensor->file);
    return LA_OK;
}

la_status la_leftover_check(const la_model *model, la_error *err) {
    for (const la_adapter *adapter = &model->adapter; adapter; adapter = adapter->next) {
        if (adapter->shares)
            continue;
        LA_TRY(check_used(model, adapter, err));
        for (const la_adapter *other = adapter->next; other; other = other->next)
            if (!other->shares)
                LA_TRY(check_replaced(adapter, other, err));
    }
    return LA_OK;
}

void la_leftover_report(const la_binder *b) {
    /* buffers, and heads of other tasks */
    static const char *const known[] = {"position_ids", "rotary_emb.inv_freq", "cls.",  "lm_head.",
                                        "pooler.",      "classifier.",         "score."};
    int64_t count = 0;
    const char *first = NULL;
    for (int64_t i = 0; i < la_checkpoint_count(b->model->base); i++) {
        const char *name = la_checkpoint_at(b->model->base, i)->name;
        bool expected = b->base_used[i] || la_packed_is_part(name);
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            expected |= strstr(name, known[k]) != NULL;
        if (!expected && !count++)
            first = name;
    }
    if (count)
        la_warn(b->log, "%lld tensors of the base are not used, the first is \"%s\"",
                (long long)count, first);
}
