/* Prompt and prefix tuning: virtual tokens before those of every row (arXiv 2104.08691, 2101.00190).
 * They belong to no module: la_binder_prompt binds them, prompt.c runs them. */
#include "input/json.h"
#include "model/adapter.h"

static la_status check_prompt(const la_adapter *adapter, const la_log *log, la_error *err) {
    (void)adapter;
    (void)log;
    (void)err;
    return LA_OK;
}

static la_status check_prefix(const la_adapter *adapter, const la_log *log, la_error *err) {
    bool projected = false;
    (void)log;
    LA_TRY(la_json_bool(adapter->config, adapter->config_path, "prefix_projection", false,
                        &projected, err));
    if (projected)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: prefix_projection is true; a prefix behind a network of its own is not "
                       "supported",
                       adapter->config_path);
    return LA_OK;
}

static const char *const suffixes[] = {NULL};

const la_adapter_kind la_adapter_prompt = {
    .peft_type = "PROMPT_TUNING", .prompt = true, .check = check_prompt, .suffixes = suffixes};
const la_adapter_kind la_adapter_prefix = {
    .peft_type = "PREFIX_TUNING", .prompt = true, .check = check_prefix, .suffixes = suffixes};
