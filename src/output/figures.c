#include "output/figures.h"
#include "base/visible.h"
#include "bayes/posterior.h"

#include <math.h>
#include <string.h>

/* Classes are named that a correction moves by this factor of their odds, at most NAMED_MOST of
 * each side, by names of at most NAME_MOST bytes. */
#define WORTH_NAMING 1.25
enum { NAMED_MOST = 4, NAME_MOST = 32 };

static json_t *settings_json(const la_choice *choice) {
    json_t *out = json_array();
    for (int64_t i = 0; i < choice->n_settings; i++) {
        const la_setting *s = &choice->settings[i];
        json_array_append_new(
            out, json_pack("{s:s,s:f,s:f,s:f,s:I}", "method", la_method_names[s->method],
                           "prior_scale", s->prior_scale, "temperature", s->temperature, "weight",
                           s->weight, "correction", (json_int_t)s->correction));
    }
    return out;
}

static json_t *corrections_json(const la_choice *choice, int64_t n_classes) {
    json_t *out = json_array();
    for (const la_correction *of = choice->corrections;
         of < choice->corrections + choice->n_corrections; of++) {
        json_t *bias = json_array();
        const double *weight = la_correction_weight(of);
        json_t *weights = weight ? json_array() : NULL;
        for (int64_t c = 0; c < n_classes; c++)
            json_array_append_new(bias, json_real(of->bias[c]));
        for (int64_t c = 0; weight && c < n_classes; c++)
            json_array_append_new(weights, json_real(weight[c]));
        json_array_append_new(out,
                              json_pack("{s:f,s:f,s:o,s:o*,s:o*}", "scale", of->scale,
                                        "temperature", of->temperature, "bias", bias, "spread",
                                        weight ? json_real(of->spread) : NULL, "weight", weights));
    }
    return out;
}

/* NULL: not for this candidate; json_pack leaves its key out. */
static json_t *number_if(bool has, double value) {
    return has ? json_real(value) : NULL;
}

json_t *la_choice_json(const la_choice *choice, int64_t n_classes) {
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
    if (choice->n_corrections)
        json_object_set_new(out, "corrections", corrections_json(choice, n_classes));
    if (chosen->noise_variance > 0)
        return out;
    json_object_set_new(out, "gain",
                        json_pack("{s:f,s:f,s:f}", "nll", choice->gain, "error", choice->gain_error,
                                  "probability", la_choice_surety(choice)));
    json_object_set_new(out, "changed_answers",
                        json_pack("{s:I,s:I,s:I}", "all", (json_int_t)choice->changes.n, "to_right",
                                  (json_int_t)choice->changes.to_right, "to_wrong",
                                  (json_int_t)choice->changes.to_wrong));
    return out;
}

/* Appends the classes that sign * log_odds moves up, the farthest first. */
static void name_classes(const double *log_odds, int64_t n_classes, double sign,
                         const char *const *names, char *text) {
    double last = INFINITY;
    int64_t last_class = -1, left = 0;
    for (int64_t c = 0; c < n_classes; c++)
        left += sign * log_odds[c] >= log(WORTH_NAMING);
    size_t length = strlen(text);
    if (left)
        length +=
            (size_t)snprintf(text + length, LA_CORRECTED_TEXT - length,
                             "%s%s-stated: ", length ? "; " : "", sign < 0 ? "over" : "under");
    for (int named = 0; named < NAMED_MOST && left; named++, left--) {
        int64_t next = -1;
        char name[NAME_MOST + 1];
        for (int64_t c = 0; c < n_classes; c++) {
            double size = sign * log_odds[c];
            bool behind = size < last || (size == last && c > last_class);
            if (behind && (next < 0 || size > sign * log_odds[next]))
                next = c;
        }
        last = sign * log_odds[next];
        last_class = next;
        snprintf(name, sizeof name, "%lld", (long long)next);
        if (names)
            la_visible(names[next], name, sizeof name);
        length += (size_t)snprintf(text + length, LA_CORRECTED_TEXT - length, "%s%s %s %.1f",
                                   named ? ", " : "", name, sign < 0 ? "/" : "x", exp(last));
    }
    if (left)
        snprintf(text + length, LA_CORRECTED_TEXT - length, " and %lld more", (long long)left);
}

bool la_choice_corrected(const la_choice *choice, int64_t n_classes, const char *const *names,
                         char text[LA_CORRECTED_TEXT]) {
    double log_odds[LA_CORRECTION_CLASSES_MOST];
    *text = '\0';
    if (!choice->guarded || choice->method != LA_METHOD_AVERAGE || !choice->n_corrections)
        return false;
    la_choice_log_odds(choice, n_classes, log_odds);
    name_classes(log_odds, n_classes, -1, names, text);
    name_classes(log_odds, n_classes, 1, names, text);
    return *text;
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
