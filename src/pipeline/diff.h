/* Differences of two adapters or two posteriors, and of the answers that they gave. */
#ifndef LA_PIPELINE_DIFF_H
#define LA_PIPELINE_DIFF_H

#include "bayes/posterior.h"
#include "model/effect.h"
#include "output/difference.h"

typedef struct la_diff_options {
    const char *a, *b;      /* folders of adapters, or posterior files */
    const char *answers[2]; /* prediction files of the two; NULL: none */
    const la_log *log;
} la_diff_options;

/* LA_USAGE where one is an adapter and the other a posterior. The paths must outlive the
 * difference; free it with la_difference_free. */
la_status la_diff(const la_diff_options *options, la_difference *difference, la_error *err);

/* ---- its parts ---- */

/* Norms, distance, relative distance and change of two effects of one name, or of one alone (the
 * other is NULL). */
la_status la_effect_compare(const la_effect *a, const la_effect *b, la_block_change *out,
                            la_error *err);
/* *out: distance of b from a in units of the standard deviation of a's posterior; NaN where the
 * posterior is of other blocks, or b is none that a's blocks could become. */
la_status la_effect_in_sd(const la_posterior *posterior, const la_effect *a, const la_effect *b,
                          double *out, la_error *err);
/* Options of an adapter's configuration, and settings of a posterior, by name; the caller frees
 * *options with json_decref. */
la_status la_adapter_options(const la_adapter *adapter, json_t **options, la_error *err);
la_status la_posterior_options(const la_posterior *posterior, json_t **options, la_error *err);
/* Those that differ, in *list (json_decref). *matters: one of them says more than the blocks do. */
la_status la_options_compare(const json_t *a, const json_t *b, bool of_posteriors, json_t **list,
                             bool *matters, la_error *err);
/* Answers of two prediction files of the same rows. */
la_status la_answers_compare(const char *const paths[2], la_answer_changes *changes, la_error *err);

#endif
