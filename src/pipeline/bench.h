/* How fast rows are answered by a stored posterior on this machine, and how near that is to its
 * products. */
#ifndef LA_PIPELINE_BENCH_H
#define LA_PIPELINE_BENCH_H

#include "output/measurement.h"

typedef struct la_bench_job {
    la_predict_options options; /* class shares and predictive are not read */
    const char *data;           /* "-": standard input */
    int repeats;                /* timed passes of each way, 1 to LA_PASSES_MOST */
    int64_t rows;               /* the first so many are run, at least 1 */
} la_bench_job;

/* Each way is opened by itself: the MAP model, what predict does, and, where that runs forward
 * passes on distilled variances, what it would do without them. Paths are borrowed from the job.
 * Free with la_bench_free (also after a failure). */
la_status la_bench(const la_bench_job *job, la_measurement *measurement, la_error *err);
void la_bench_free(la_measurement *measurement);

#endif
