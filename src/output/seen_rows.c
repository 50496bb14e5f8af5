#include "output/seen_rows.h"

#include <stdio.h>

void la_seen_rows_show(const la_seen_rows *seen, int64_t n, char out[LA_SEEN_TEXT]) {
    size_t used = 0;
    *out = 0;
    if (seen->n_held_out)
        used = (size_t)snprintf(out, LA_SEEN_TEXT, "%lld of %lld rows chose the guard's settings",
                                (long long)seen->n_held_out, (long long)n);
    if (seen->n_calibration)
        snprintf(out + used, LA_SEEN_TEXT - used,
                 "%s%lld of %lld rows are calibration rows, which the posterior was fitted on",
                 used ? ", " : "", (long long)seen->n_calibration, (long long)n);
}
