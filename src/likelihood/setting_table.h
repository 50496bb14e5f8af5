/* Likelihoods of held-out rows under every setting that a choice may take: the model as it is, and
 * with corrections of its classes, each with a grid of prior scales and temperatures. */
#ifndef LA_LIKELIHOOD_SETTING_TABLE_H
#define LA_LIKELIHOOD_SETTING_TABLE_H

#include "likelihood/average.h"
#include "likelihood/selection.h"

#include <stdbool.h>

/* A model and its settings, whose numbers follow each other: Monte Carlo at [n_scales,
 * n_temperatures], the scalar probit likewise, temperatures alone [n_temperatures]. */
typedef struct la_setting_group {
    const la_correction *correction; /* NULL: the model as it is, whose first temperature alone is
                                        the MAP model */
    double log_mass;    /* of the prior of all its settings, times the correction's Occam factor */
    int64_t scale_step; /* it has every one of this many of the rows' scales */
    int n_temperatures;
    double temperatures[LA_SELECTION_TEMPERATURES];
    /* set by la_setting_table_open */
    int64_t n_scales, first, first_answers;
} la_setting_group;

enum { LA_SETTING_GROUPS = 1 + LA_CORRECTIONS_MOST };

/* Bits of an answer. */
enum { LA_ANSWER_RIGHT = 1, LA_ANSWER_CHANGED = 2 /* from the MAP model's */ };

typedef struct la_setting_table {
    la_team team;
    const la_held_out *rows;
    int n_groups;
    la_setting_group groups[LA_SETTING_GROUPS];
    int64_t n;              /* settings */
    float *nll;             /* [n, rows] -log of the label's probability */
    unsigned char *answers; /* rows' bits: la_setting_answers */
} la_setting_table;

/* A setting by its number. */
typedef struct la_setting_place {
    int group, temperature;
    int64_t scale;
    la_method family; /* MAP, TEMPERATURE, LAPLACE or SCALAR */
} la_setting_place;
la_setting_place la_setting_find(const la_setting_table *table, int64_t number);
/* [rows] bits of a setting's answers. All closed forms of a model have the same. */
const unsigned char *la_setting_answers(const la_setting_table *table, int64_t number);

/* Fills the table of groups[n_groups]. Free with la_setting_table_close, also after a failure. */
la_status la_setting_table_open(la_setting_table *table, la_error *err);
void la_setting_table_close(la_setting_table *table);
/* answers[rows]: bits of the answers of the mean over a list of settings. */
la_status la_setting_table_mean(la_setting_table *table, const la_average_list *list,
                                unsigned char *answers, la_error *err);

#endif
