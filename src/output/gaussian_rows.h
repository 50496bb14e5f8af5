/* What rows of a prediction file hold where the model is a regression. prediction_rows.c does the rest. */
#ifndef LA_OUTPUT_GAUSSIAN_ROWS_H
#define LA_OUTPUT_GAUSSIAN_ROWS_H

#include "output/prediction_rows.h"

#include <jansson.h>

/* LA_NUMERICAL when a number is not finite or a variance is negative, or the whole of it zero. */
la_status la_gaussian_row_check(const la_prediction_row *row, la_error *err);
/* ,"label":X in full: what was read is what is written. */
void la_gaussian_label_write(FILE *stream, double label);
/* ,"prediction":.. up to the interval; "map_prediction" and "map_variance" only where they differ from
 * the prediction and the noise's variance. */
void la_gaussian_row_write(FILE *stream, const la_prediction *prediction);

/* Whether a row without probabilities is one of these. */
bool la_gaussian_row_is(const json_t *row);
/* place: FILE:LINE. Labels are NaN where the row has none, map->variance where it has no noise_variance. */
la_status la_gaussian_row_read(const json_t *row, const char *place, la_gaussian *own,
                               la_gaussian *map, la_error *err);

#endif
