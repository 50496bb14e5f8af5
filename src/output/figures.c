#include "output/figures.h"
#include "bayes/posterior.h"

#include <math.h>
#include <stdbool.h>

static json_t *settings_json(const la_choice *choice) {
    json_t *out = json_array();
    for (int64_t i = 0; i < choice->n_settings; i++) {
        const la_setting *s = &choice->settings[i];
        json_array_append_new(
            out, json_pack("{s:s,s:f,s:f,s:f}", "method", la_method_names[s->method], "prior_scale",
                           s->prior_scale, "temperature", s->temperature, "weight", s->weight));
    }
    return out;
}

/* NULL: not for this candidate; json_pack leaves its key out. */
static json_t *number_if(bool has, double value) {
    return has ? json_real(value) : NULL;
}

json_t *la_choice_json(const la_choice *choice) {
    if (!choice->guarded)
        return json_null();
    json_t *out, *candidates = json_object();
    for (int k = 0; k < LA_METHODS; k++) {
        const la_candidate *c = &choice->candidates[k];
        if (!isfinite(c->nll)) /* no setting of it was admitted */
            continue;
        bool noisy = c->noise_variance > 0, alone = k != LA_METHOD_AVERAGE;
        json_object_set_new(candidates, la_method_names[k],
                            json_pack("{s:f,s:o*,s:o*,s:o*,s:o*,s:f,s:f}", "nll", c->nll,
                                      "accuracy", number_if(!noisy, c->accuracy), "prior_scale",
                                      number_if(noisy || alone, c->prior_scale), "noise_variance",
                                      number_if(noisy, c->noise_variance), "temperature",
                                      number_if(!noisy && alone, c->temperature), "gap", c->gap,
                                      "gap_error", c->gap_error));
    }
    const la_candidate *chosen = &choice->candidates[choice->method];
    bool several = choice->method == LA_METHOD_AVERAGE;
    out =
        json_pack("{s:s,s:s,s:I,s:o,s:o,s:o}", "method", la_method_names[choice->method], "by",
                  choice->cross ? "cross" : "val", "rows", (json_int_t)choice->n, "prior_scale",
                  several ? json_null() : json_real(chosen->prior_scale), "temperature",
                  several ? json_null() : json_real(chosen->temperature), "candidates", candidates);
    if (choice->n_settings) {
        json_object_set_new(out, "settings", settings_json(choice));
        json_object_set_new(out, "shortening", json_real(choice->shortening));
    }
    return out;
}

static json_t *number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *la_adue_json(const la_adue_summary *adue) {
    if (!adue->outcome)
        return json_null();
    return json_pack("{s:s,s:o,s:o,s:I}", "outcome", adue->outcome, "auroc_before",
                     number_or_null(adue->auroc_before), "auroc_after",
                     number_or_null(adue->auroc_after), "epochs", (json_int_t)adue->epochs);
}
