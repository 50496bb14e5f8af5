/* What `laplora bench` measured: as text, as JSON that another run is compared with. */
#ifndef LA_OUTPUT_MEASUREMENT_H
#define LA_OUTPUT_MEASUREMENT_H

#include "backend/profile.h"
#include "base/digest.h"
#include "base/machine.h"
#include "bayes/posterior.h"

#include <stdio.h>

enum { LA_WAYS = 3, LA_PASSES_MOST = 1000, LA_MEASURED_TEXT = 256 };

/* A way to answer the rows. Seconds are of passes over all of them, from token ids to predictions.
 */
typedef struct la_measured_way {
    const char *name;       /* "map", "predict", "full" */
    const char *predictive; /* confidence_kind of prediction rows */
    int64_t n_settings, samples;
    bool forward;              /* rows cost a forward pass alone */
    double seconds_load;       /* until the first row could run */
    double *passes;            /* [repeats] seconds of each */
    double seconds, processor; /* medians; processor: of all threads together */
    /* of one more pass, of which operations are timed */
    double seconds_profiled, flops; /* flops of its products */
    la_profile_op ops[LA_PROFILE_OPS];
    int n_ops;
    size_t peak; /* most memory of the process while it was open and ran; 0: not known */
} la_measured_way;

typedef struct la_measurement {
    const char *posterior, *data; /* paths, borrowed */
    char model[LA_MODEL_TEXT], rows[LA_DIGEST_TEXT];
    char processor[LA_PROCESSOR_TEXT], kernels[LA_MEASURED_TEXT], products[2 * LA_MEASURED_TEXT];
    char device[LA_MEASURED_TEXT];
    const char *instructions, *precision;
    int threads, repeats;
    int64_t n_rows, n_rows_all, n_tokens, longest, n_classes, batch_tokens;
    int64_t samples;     /* draws that were asked for */
    double seconds_read; /* of all rows of the file, to token ids */
    int64_t peak_side;   /* of the square matrices that were multiplied */
    double peak_rate;    /* flops a second, the best of the rounds between the passes */
    size_t weights;      /* bytes of base and adapter as they are computed with */
    size_t copied;       /* of those, bytes that are not read where the files are mapped */
    la_measured_way ways[LA_WAYS];
    int n_ways;
} la_measurement;

/* Measurement that another one is held against, as it was read. */
typedef struct la_measured_before la_measured_before;
/* LA_BAD_INPUT, naming file and field, unless the file is one of la_measurement_write. The caller
 * frees with la_measured_before_free (NULL is none). */
la_status la_measured_before_load(const char *path, la_measured_before **before, la_error *err);
void la_measured_before_free(la_measured_before *before);

/* Writes it, as text for people (all: with every operation) or as JSON, with ratios to an earlier
 * one (NULL: none). Write errors are left to the stream's error flag. */
la_status la_measurement_write(const la_measurement *m, const la_measured_before *before, bool json,
                               bool all, FILE *stream, la_error *err);

#endif
