#include "output/gaussian_rows.h"
#include "input/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_TEXT = 32 };

la_status la_gaussian_row_check(const la_prediction_row *row, la_error *err) {
    const la_prediction *p = row->prediction;
    const struct {
        const char *name;
        double value, least;
    } numbers[] = {
        {"prediction", p->mean, -HUGE_VAL},       {"map_prediction", p->map_mean, -HUGE_VAL},
        {"model_variance", p->model_variance, 0}, {"noise_variance", p->noise_variance, 0},
        {"map_variance", p->map_variance, 0},     {"variance", *p->variance, 0}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!isfinite(numbers[i].value) || numbers[i].value < numbers[i].least)
            return la_fail(err, LA_NUMERICAL,
                           "row %lld: %s is %g, expected a finite number%s; the weights or the "
                           "posterior are out of range",
                           (long long)row->index, numbers[i].name, numbers[i].value,
                           numbers[i].least < 0 ? "" : " of at least 0");
    if (!(*p->variance > 0))
        return la_fail(err, LA_NUMERICAL, "row %lld: variance is 0, expected more",
                       (long long)row->index);
    return LA_OK;
}

void la_gaussian_label_write(FILE *stream, double label) {
    char text[NUMBER_TEXT];
    for (int digits = 15; digits <= 17; digits++) {
        /* adding zero makes -0 a plain 0 */
        snprintf(text, sizeof text, "%.*g", digits, label + 0.0);
        if (strtod(text, NULL) == label)
            break;
    }
    fprintf(stream, ",\"label\":%s", text);
}

static void write_field(FILE *stream, const char *name, double value) {
    fprintf(stream, ",\"%s\":%.10g", name, value + 0.0);
}

void la_gaussian_row_write(FILE *stream, const la_prediction *p) {
    double deviation = sqrt(*p->variance), half = LA_REGRESSION_Z90 * deviation;
    write_field(stream, "prediction", p->mean);
    if (p->map_mean != p->mean)
        write_field(stream, "map_prediction", p->map_mean);
    write_field(stream, "variance", *p->variance);
    write_field(stream, "std", deviation);
    write_field(stream, "model_variance", p->model_variance);
    write_field(stream, "noise_variance", p->noise_variance);
    if (p->map_variance != p->noise_variance)
        write_field(stream, "map_variance", p->map_variance);
    fprintf(stream, ",\"interval_90\":[%.10g,%.10g]", p->mean - half + 0.0, p->mean + half + 0.0);
}

bool la_gaussian_row_is(const json_t *row) {
    return json_object_get(row, "variance") && json_object_get(row, "prediction");
}

static la_status take_variance(const json_t *row, const char *place, const char *key, bool required,
                               double *value, la_error *err) {
    *value = NAN;
    LA_TRY(la_json_number(row, place, key, required, value, err));
    if (*value <= 0)
        return la_fail(err, LA_BAD_INPUT, "%s: \"%s\" is %g, expected a positive number", place,
                       key, *value);
    return LA_OK;
}

la_status la_gaussian_row_read(const json_t *row, const char *place, la_gaussian *own,
                               la_gaussian *map, la_error *err) {
    *own = (la_gaussian){.label = NAN};
    LA_TRY(la_json_number(row, place, "prediction", true, &own->mean, err));
    LA_TRY(take_variance(row, place, "variance", true, &own->variance, err));
    LA_TRY(la_json_number(row, place, "label", false, &own->label, err));
    *map = *own;
    LA_TRY(la_json_number(row, place, "map_prediction", false, &map->mean, err));
    bool has_own = json_object_get(row, "map_variance") != NULL;
    return take_variance(row, place, has_own ? "map_variance" : "noise_variance", false,
                         &map->variance, err);
}
