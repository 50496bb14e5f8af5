/* Prediction rows of a regression. */
#include "output/gaussian_metrics.h"
#include "output/row_kind.h"

#include <math.h>

static void derive(la_row_values *v) {
    double half;
    v->deviation = sqrt(*v->p.variance);
    half = LA_GAUSSIAN_Z90 * v->deviation;
    v->interval_90[0] = v->p.mean - half;
    v->interval_90[1] = v->p.mean + half;
    v->interval = v->interval_90;
    v->variance = *v->p.variance;
}

static la_look look(const double *values, int64_t n_classes, la_label label) {
    double deviation = sqrt(values[1]);
    (void)n_classes;
    return (la_look){.certainty = -deviation,
                     .shown = deviation,
                     .mistake =
                         la_label_is_none(label) ? NAN : fabs(label.number - values[0]) / deviation,
                     .class = -1};
}

static bool is_row(const la_prediction_entry *row) {
    return !la_entry_member(row, "probs") && la_entry_member(row, "variance") &&
           la_entry_member(row, "prediction");
}

#define AT(member) .offset = offsetof(la_row_values, member)
static const la_row_field fields[] = {
    {"prediction", LA_ROW_FIELD_NUMBER, AT(p.mean), .into = LA_INTO_VALUES, .at = 0},
    {"map_prediction", LA_ROW_FIELD_NUMBER, AT(p.map_mean), .same_as = "prediction",
     .into = LA_INTO_MAP, .at = 0},
    {"variance", LA_ROW_FIELD_NUMBER, AT(variance), LA_RANGE_POSITIVE, .derived = true,
     .into = LA_INTO_VALUES, .at = 1},
    {"std", LA_ROW_FIELD_NUMBER, AT(deviation), .derived = true},
    {"model_variance", LA_ROW_FIELD_NUMBER, AT(p.model_variance), LA_RANGE_NOT_NEGATIVE},
    {"noise_variance", LA_ROW_FIELD_NUMBER, AT(p.noise_variance), LA_RANGE_POSITIVE},
    {"map_variance", LA_ROW_FIELD_NUMBER, AT(p.map_variance), LA_RANGE_POSITIVE,
     .same_as = "noise_variance", .into = LA_INTO_MAP, .at = 1},
    {"interval_90", LA_ROW_FIELD_VECTOR, AT(interval), .length = 2, .derived = true},
};

const la_row_kind la_gaussian_rows = {
    .likelihood = &la_gaussian_likelihood,
    .metrics = &la_gaussian_metrics,
    .fields = fields,
    .n_fields = sizeof fields / sizeof *fields,
    .values_field = "variance",
    .map_field = "noise_variance",
    .width = 2,
    .derive = derive,
    .look = look,
    .words = {"standard deviation", "Least certain", "Furthest off, in standard deviations"},
    .is = is_row,
    .mismatch = "is no row of a regression, as those before it are; expected \"prediction\" and "
                "\"variance\", numbers, and no \"probs\""};
