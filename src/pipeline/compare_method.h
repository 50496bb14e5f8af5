/* Rows and passes shared by the methods of a comparison. */
#ifndef LA_PIPELINE_COMPARE_METHOD_H
#define LA_PIPELINE_COMPARE_METHOD_H

#include "likelihood/selection.h"
#include "pipeline/compare.h"
#include "pipeline/passes.h"

enum {
    LA_COMPARE_STRUCTURES = LA_CURVATURES_FITTED,
    LA_COMPARE_SCALES = 1 + 2 * LA_COMPARE_STRUCTURES + LA_SETTINGS_MOST
};

/* Rows of a file that the table is of, and what the method at hand predicts for them. */
typedef struct la_compare_side {
    la_row_set rows;
    la_evaluation e;
    double *probs;  /* [n, C] */
    double *scores; /* [n] larger: less certain; for probabilities 1 - max p */
} la_compare_side;
enum { LA_SIDE_TEST, LA_SIDE_OOD, LA_SIDES };

typedef struct la_comparing {
    const la_compare_options *options;
    la_session session;
    const la_model *model; /* of the first worker */
    la_template *prompt;
    la_structure structures[LA_COMPARE_STRUCTURES];
    la_choice choices[LA_COMPARE_STRUCTURES]; /* by the held-out rows */
    int n_structures, guarded; /* the structure the guard is of; -1: it was not asked for */
    la_row_set calib, val;
    la_evaluation on_calib, on_val;
    la_compare_side sides[LA_SIDES];  /* no rows: not given */
    double scales[LA_COMPARE_SCALES]; /* that sides are evaluated under */
    int n_scales;
    la_comparison *to;
} la_comparing;

/* True when it was asked for, by name or by leaving names out. */
bool la_compare_wanted(const la_comparing *c, const la_compare_kind *kind);
/* Number of the structure of that kind; -1: none. */
int la_compare_find(const la_comparing *c, const struct la_structure_kind *structure);

/* ---- compare_rate.c ---- */

/* A row more, whose predictions take a forward pass. seconds_fit NaN: not known. */
la_comparison_row *la_compare_row(la_comparing *c, const char *name, double seconds_fit);
/* Metrics of the sides' probabilities. */
la_status la_compare_rate_probs(la_comparing *c, la_comparison_row *row, la_error *err);
/* Metrics of their scores alone. */
la_status la_compare_rate_scores(la_comparing *c, la_comparison_row *row, la_error *err);

/* ---- methods ---- */

#define LA_COMPARE_RUN(name)                                                                       \
    la_status la_compare_##name(la_comparing *c, const la_compare_kind *kind, la_error *err)
/* compare_scaling.c: softmax of the outputs as they are, and scaled by held-out rows */
LA_COMPARE_RUN(map);
LA_COMPARE_RUN(temperature);
LA_COMPARE_RUN(bias);
LA_COMPARE_RUN(vector);
LA_COMPARE_RUN(stacking);
/* compare_laplace.c */
LA_COMPARE_RUN(structure);
LA_COMPARE_RUN(guard);
/* The disagreement of the networks of a posterior, as a score of its own. */
la_status la_compare_information(la_comparing *c, la_error *err);
/* compare_networks.c */
LA_COMPARE_RUN(tfb);
LA_COMPARE_RUN(ensemble);
/* compare_scores.c */
LA_COMPARE_RUN(entropy);
LA_COMPARE_RUN(energy);
LA_COMPARE_RUN(mahalanobis);
LA_COMPARE_RUN(adue);

#endif
