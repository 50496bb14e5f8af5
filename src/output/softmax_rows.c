/* Prediction rows of a classifier. */
#include "output/row_kind.h"
#include "output/softmax_metrics.h"

#include <math.h>

static void derive(la_row_values *v) {
    v->predicted = v->p.prediction;
    snprintf(v->class_text, sizeof v->class_text, "%d", v->p.prediction);
    v->predicted_label =
        v->row.shape->labels ? v->row.shape->labels[v->p.prediction] : v->class_text;
}

static la_look look(const double *probs, int64_t n_classes, la_label label) {
    int64_t best = 0;
    for (int64_t c = 1; c < n_classes; c++)
        best = probs[c] > probs[best] ? c : best;
    bool wrong = !la_label_is_none(label) && label.class != best;
    return (la_look){.certainty = probs[best],
                     .shown = probs[best],
                     .mistake = wrong ? probs[best] : NAN,
                     .class = best};
}

static bool is_row(const la_prediction_entry *row) {
    return la_entry_member(row, "probs") != NULL;
}

#define AT(member) .offset = offsetof(la_row_values, member)
static const la_row_field fields[] = {
    {"prediction", LA_ROW_FIELD_INDEX, AT(predicted)},
    {"prediction_label", LA_ROW_FIELD_TEXT, AT(predicted_label)},
    {"confidence", LA_ROW_FIELD_NUMBER, AT(p.confidence), .derived = true},
    {"probs", LA_ROW_FIELD_VECTOR, AT(p.probs), LA_RANGE_DISTRIBUTION, .column = "prob",
     .into = LA_INTO_VALUES},
    {"map_probs", LA_ROW_FIELD_VECTOR, AT(p.map_probs), LA_RANGE_DISTRIBUTION, .column = "map_prob",
     .missing = LA_MISSING_OMITTED, .into = LA_INTO_MAP},
    {"entropy", LA_ROW_FIELD_NUMBER, AT(p.entropy), .derived = true},
    {"mutual_information", LA_ROW_FIELD_NUMBER, AT(p.mutual_information),
     .missing = LA_MISSING_NULL},
    {"variance", LA_ROW_FIELD_VECTOR, AT(p.variance), LA_RANGE_NOT_NEGATIVE,
     .missing = LA_MISSING_NULL},
    {"adue", LA_ROW_FIELD_NUMBER, AT(p.adue), LA_RANGE_SHARE, .missing = LA_MISSING_OMITTED},
};

const la_row_kind la_softmax_rows = {
    .likelihood = &la_softmax_likelihood,
    .metrics = &la_softmax_metrics,
    .fields = fields,
    .n_fields = sizeof fields / sizeof *fields,
    .values_field = "probs",
    .map_field = "map_probs",
    .derive = derive,
    .look = look,
    .words = {"confidence", "Least certain", "Most confidently wrong"},
    .is = is_row};
