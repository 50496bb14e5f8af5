/* Prediction rows of a model of sets of classes. */
#include "output/row_kind.h"
#include "output/sigmoid_metrics.h"

#include <math.h>

/* The confidence is the probability of the predicted set. */
static la_look look(const double *probs, int64_t n_classes, la_label label) {
    double confidence = 1;
    bool wrong = false;
    for (int64_t c = 0; c < n_classes; c++) {
        bool in = probs[c] > 0.5;
        confidence *= in ? probs[c] : 1 - probs[c];
        wrong |= !la_label_is_none(label) && in != (label.set[c] != 0);
    }
    return (la_look){.certainty = confidence,
                     .shown = confidence,
                     .mistake = wrong ? confidence : NAN,
                     .class = -1};
}

static bool is_list(const la_json_value *value) {
    return value && value->type == '[';
}

static bool is_row(const la_prediction_entry *row) {
    return la_entry_member(row, "probs") &&
           (is_list(la_entry_member(row, "prediction")) || is_list(la_entry_member(row, "label")));
}

#define AT(member) .offset = offsetof(la_row_values, member)
static const la_row_field fields[] = {
    {"prediction", LA_ROW_FIELD_SET, AT(p.probs)},
    {"prediction_label", LA_ROW_FIELD_SET_NAMES, AT(p.probs)},
    {"confidence", LA_ROW_FIELD_NUMBER, AT(p.confidence), .derived = true},
    {"probs", LA_ROW_FIELD_VECTOR, AT(p.probs), LA_RANGE_SHARE, .column = "prob",
     .into = LA_INTO_VALUES},
    {"map_probs", LA_ROW_FIELD_VECTOR, AT(p.map_probs), LA_RANGE_SHARE, .column = "map_prob",
     .missing = LA_MISSING_OMITTED, .into = LA_INTO_MAP},
    {"entropy", LA_ROW_FIELD_NUMBER, AT(p.entropy), .derived = true},
    {"mutual_information", LA_ROW_FIELD_NUMBER, AT(p.mutual_information),
     .missing = LA_MISSING_NULL},
    {"variance", LA_ROW_FIELD_VECTOR, AT(p.variance), LA_RANGE_NOT_NEGATIVE,
     .missing = LA_MISSING_NULL},
};

const la_row_kind la_sigmoid_rows = {
    .likelihood = &la_sigmoid_likelihood,
    .metrics = &la_sigmoid_metrics,
    .fields = fields,
    .n_fields = sizeof fields / sizeof *fields,
    .values_field = "probs",
    .map_field = "map_probs",
    .look = look,
    .words = {"confidence", "Least certain", "Most confidently wrong"},
    .is = is_row,
    .mismatch = "is no row of sets of classes, as those before it are; expected \"probs\" and a "
                "list \"prediction\""};
