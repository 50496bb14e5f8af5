/* Prompt tuning, P-tuning and prefix tuning: virtual tokens before those of every row (arXiv
 * 2104.08691, 2103.10385, 2101.00190). They belong to no module: la_binder_prompt binds them,
 * prompt.c runs them.
 *
 * PEFT keeps neither P-tuning's encoder nor the network that a prefix can stand behind while it
 * is trained (prefix_projection): files hold the virtual tokens that these gave, which are the
 * parameters here too. */
#include "input/json.h"
#include "model/adapter.h"

extern const la_adapter_kind la_adapter_prefix;

static la_status read_tokens(la_team team, la_adapter *adapter, const la_virtual_widths *widths,
                             la_pool *pool, la_virtual_tokens *out, la_error *err) {
    (void)team;
    double square;
    bool of_layers = adapter->kind == &la_adapter_prefix;
    *out = (la_virtual_tokens){.of_layers = of_layers, .shifts = true, .name = "prompt_embeddings"};
    LA_TRY(la_json_int(adapter->config, adapter->config_path, "num_virtual_tokens", true, 1,
                       1 << 20, &out->n, err));
    la_adapter_entry *entry = la_adapter_find(adapter, "prompt_embeddings");
    if (!entry)
        return la_fail(err, LA_BAD_INPUT, "%s: the weights hold no tensor \"prompt_embeddings\"",
                       adapter->config_path);
    const la_tensor *tensor = entry->tensor;
    int64_t width = of_layers ? 2 * widths->layers * widths->kv : widths->embedding;
    LA_TRY(la_tensor_check_shape(tensor, out->n, width,
                                 of_layers ? " (num_virtual_tokens, and the base's keys and values)"
                                           : " (num_virtual_tokens, and the base's embeddings)",
                                 err));
    out->values = la_adapter_values(pool, tensor, &square, err);
    return err->status;
}

#define PROMPT(type)                                                                               \
    { .library = &la_peft, .name = type, .strips_model = true, .read_tokens = read_tokens, }

const la_adapter_kind la_adapter_prompt = PROMPT("PROMPT_TUNING");
const la_adapter_kind la_adapter_p_tuning = PROMPT("P_TUNING");
const la_adapter_kind la_adapter_prefix = PROMPT("PREFIX_TUNING");
