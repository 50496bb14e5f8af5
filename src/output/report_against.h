/* Two prediction files of the same rows, compared by a paired bootstrap: a resample draws the same
 * rows of both, so that what is hard for both models is not taken for a difference between them. */
#ifndef LA_OUTPUT_REPORT_AGAINST_H
#define LA_OUTPUT_REPORT_AGAINST_H

#include "base/team.h"
#include "output/prediction_rows.h"
#include "output/row_kind.h"

/* Ids of labelled rows: "id" where they have one, else "index", and the place of a token. */
typedef struct la_row_ids {
    json_t *rows; /* number of a row by its id */
} la_row_ids;

typedef struct la_against {
    char *file; /* fit to be shown */
    char digest[LA_DIGEST_TEXT];
    double value[LA_METRICS_MAX];          /* of the other file */
    double difference[LA_METRICS_MAX];     /* own value less that; NaN: undefined */
    la_interval intervals[LA_METRICS_MAX]; /* of the difference */
    double p[LA_METRICS_MAX];              /* two-sided, of no difference */
} la_against;

la_status la_row_ids_open(la_row_ids *ids, la_error *err);
void la_row_ids_free(la_row_ids *ids);
/* Notes the id of a prediction; LA_BAD_INPUT for one without and for one that is there already.
 * number: as la_prediction_watch has it. */
la_status la_row_ids_see(la_row_ids *ids, const la_prediction_entry *entry, int64_t number,
                         la_error *err);
/* Reads the other file. LA_BAD_INPUT where its labelled rows are others, have other labels, or its
 * predictions are of another kind. file is that of own, for messages. Free with
 * la_against_free. */
la_status la_against_read(la_team team, const char *path, const char *file,
                          const la_predictions *own, const la_row_ids *ids, int64_t resamples,
                          uint64_t seed, la_against *against, la_error *err);
void la_against_free(la_against *against);
/* The comparison of labelled rows of one kind; partner[n]: the row of other that is the same as one
 * of own. Sets all but file and digest. */
la_status la_against_compare(la_team team, const la_predictions *own, const la_predictions *other,
                             const int64_t *partner, int64_t resamples, uint64_t seed,
                             la_against *against, la_error *err);

/* The better file in a metric whose difference is not chance at the level of 5 %: 1 own, -1 the
 * other; 0: neither is known to be. */
int la_against_better(const la_against *against, const la_metric_set *set, int metric);

#endif
