#include "likelihood/predictive.h"

#include <string.h>

const la_predictive_kind *const la_class_predictives[] = {
#define LA_PREDICTIVE(name) &la_predictive_##name,
#include "likelihood/predictives.def"
#undef LA_PREDICTIVE
    NULL};

const char *const la_predictive_names[] = {
#define LA_PREDICTIVE(name) #name,
#include "likelihood/predictives.def"
#undef LA_PREDICTIVE
    LA_AVERAGE_NAME};

const la_predictive_kind *la_predictive_find(const la_predictive_kind *const *kinds,
                                             const char *name) {
    while (*kinds && strcmp((*kinds)->name, name))
        kinds++;
    return *kinds;
}

void la_class_probs(int64_t n, const double *logits, double *probs) {
    double top = logits[0], sum = 0;
    for (int64_t c = 1; c < n; c++)
        top = logits[c] > top ? logits[c] : top;
    for (int64_t c = 0; c < n; c++)
        sum += probs[c] = exp(logits[c] - top);
    for (int64_t c = 0; c < n; c++)
        probs[c] /= sum;
}

double la_entropy(int64_t n, const double *probs) {
    double sum = 0;
    for (int64_t c = 0; c < n; c++)
        if (probs[c] > 0)
            sum -= probs[c] * log(probs[c]);
    return sum;
}

/* ---- those without a covariance ---- */

/* The MAP model's probabilities: of outputs that were divided by a temperature, scaling's. */
static void map_row(const la_class_row *row, double *workspace, la_prediction *out) {
    (void)workspace;
    size_t bytes = (size_t)row->n_classes * sizeof(double);
    memcpy(out->probs, out->map_probs, bytes);
    memset(out->variance, 0, bytes);
    out->mutual_information = 0;
}

const la_predictive_kind la_predictive_map = {
    .name = "map", .label = "map", .tempering = LA_TEMPERED_NOT, .row = map_row};
const la_predictive_kind la_predictive_temperature = {.name = "temperature",
                                                      .label = "temperature",
                                                      .tempering = LA_TEMPERED_SCALING,
                                                      .row = map_row};
