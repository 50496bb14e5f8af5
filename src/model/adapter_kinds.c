/* The kinds of adapter, and PEFT's configurations, which name them. A new kind is a file of its
 * own and a row here. */
#include "input/json.h"
#include "model/adapter.h"

#include <stdio.h>
#include <string.h>

extern const la_adapter_kind la_adapter_lora, la_adapter_adalora, la_adapter_ia3, la_adapter_vera,
    la_adapter_prompt, la_adapter_p_tuning, la_adapter_prefix, la_adapter_bottleneck,
    la_adapter_library_lora, la_adapter_library_prefix;

const la_adapter_kind *const la_adapter_kinds[] = {&la_adapter_lora,
                                                   &la_adapter_adalora,
                                                   &la_adapter_ia3,
                                                   &la_adapter_vera,
                                                   &la_adapter_prompt,
                                                   &la_adapter_p_tuning,
                                                   &la_adapter_prefix,
                                                   &la_adapter_bottleneck,
                                                   &la_adapter_library_lora,
                                                   &la_adapter_library_prefix,
                                                   NULL};

const la_adapter_kind *la_adapter_kind_find(const la_adapter_library *library, const char *name) {
    for (const la_adapter_kind *const *kind = la_adapter_kinds; *kind; kind++) {
        const char *known = (*kind)->name;
        if ((*kind)->library == library && (name && known ? !strcmp(name, known) : !name && !known))
            return *kind;
    }
    return NULL;
}

const char *la_adapter_kind_names(const la_adapter_library *library, const char *before_last,
                                  char *buffer, size_t size) {
    const la_adapter_kind *last = NULL;
    size_t used = 0;
    for (const la_adapter_kind *const *kind = la_adapter_kinds; *kind; kind++)
        last = (*kind)->library == library ? *kind : last;
    *buffer = 0;
    for (const la_adapter_kind *const *kind = la_adapter_kinds; *kind && used < size; kind++)
        if ((*kind)->library == library)
            used += (size_t)snprintf(buffer + used, size - used, "%s%s",
                                     !used           ? ""
                                     : *kind == last ? before_last
                                                     : ", ",
                                     (*kind)->name ? (*kind)->name : (*kind)->title);
    return buffer;
}

/* ---- PEFT ---- */

static bool is_listed(const char *const *list, const char *key) {
    for (; list && *list; list++)
        if (!strcmp(*list, key))
            return true;
    return false;
}

/* Keys of every kind that change nothing in the forward pass, or that all of them read. */
static const char *const common_keys[] = {"auto_mapping",
                                          "base_model_name_or_path",
                                          "fan_in_fan_out",
                                          "inference_mode",
                                          "modules_to_save",
                                          "peft_type",
                                          "peft_version",
                                          "revision",
                                          "target_modules",
                                          "task_type",
                                          NULL};

static la_status check_keys(const la_adapter *adapter, la_error *err) {
    const la_adapter_kind *kind = adapter->kind;
    const char *key;
    json_t *value;
    json_object_foreach(adapter->config, key, value) {
        if (kind->known && la_json_is_set(value) && !is_listed(common_keys, key) &&
            !is_listed(kind->known, key) && !is_listed(kind->more_known, key))
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: \"%s\" is set; this variant of %s is not supported; train without "
                           "it: merge_and_unload() would give a base without an adapter to be "
                           "uncertain about",
                           adapter->config_path, key, kind->name);
    }
    return LA_OK;
}

static la_status read_config(la_adapter *adapter, const json_t *config, la_error *err) {
    const char *type = NULL, *path = adapter->config_path;
    char known[256];
    adapter->own = config;
    LA_TRY(la_json_text(config, path, "peft_type", true, &type, err));
    adapter->kind = la_adapter_kind_find(&la_peft, type);
    if (!adapter->kind)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: peft_type \"%s\" is not supported (%s are); train one of these: "
                       "merge_and_unload() would give a base without an adapter to be uncertain "
                       "about",
                       path, type, la_adapter_kind_names(&la_peft, " and ", known, sizeof known));
    LA_TRY(la_json_text(config, path, "task_type", false, &adapter->task_type, err));
    LA_TRY(check_keys(adapter, err));
    return adapter->kind->check ? adapter->kind->check(adapter, err) : LA_OK;
}

static la_status open_files(const char *dir, la_adapter *adapter, la_error *err) {
    return la_checkpoint_open(dir, la_peft.weights, &adapter->file, err);
}

const la_adapter_library la_peft = {
    .weights = "adapter_model", .strips = true, .read = read_config, .open = open_files};
