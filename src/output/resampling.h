/* Operations over all rows that every resample takes: compiled for several sets of instructions, as
 * the CPU backend is, with the same numbers from all of them. */
#ifndef LA_OUTPUT_RESAMPLING_H
#define LA_OUTPUT_RESAMPLING_H

#include "output/metrics.h"

typedef struct la_resampling {
    /* As la_metric_set has them (output/metrics.h). */
    size_t (*softmax_workspace)(const void *prepared);
    size_t (*gaussian_workspace)(const void *prepared);
    void (*softmax)(const void *prepared, void *work, const uint32_t *count, double *value,
                    la_metric_bin *bins);
    void (*softmax_drawn)(const void *prepared, void *work, uint64_t seed, uint64_t stream,
                          double *value);
    void (*gaussian)(const void *prepared, void *work, const uint32_t *count, double *value,
                     la_metric_bin *bins);
    /* copies[i]: how many of above[n_above] bits[i] reaches, i < n. */
    void (*count_above)(const uint32_t *bits, int64_t n, const uint32_t *above, int n_above,
                        uint32_t *copies);
} la_resampling;

/* The best that the machine can run. */
const la_resampling *la_resampling_here(void);

/* ---- its parts ---- */

size_t la_softmax_workspace(const void *prepared);
size_t la_gaussian_workspace(const void *prepared);
void la_softmax_measure(const void *prepared, void *memory, const uint32_t *count, double *value,
                        la_metric_bin *bins);
void la_softmax_measure_drawn(const void *prepared, void *memory, uint64_t seed, uint64_t stream,
                              double *value);
void la_gaussian_measure(const void *prepared, void *memory, const uint32_t *count, double *value,
                         la_metric_bin *bins);

/* The table of the file's own set of instructions. */
extern const la_resampling la_resampling_table;

#endif
