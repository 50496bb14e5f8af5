/* A fit whose rows are divided among processes. */
#ifndef LA_PIPELINE_RANK_SUMS_H
#define LA_PIPELINE_RANK_SUMS_H

#include "pipeline/passes.h"
#include "pipeline/ranks.h"

/* Carrier that divides the rows of a fit, adds up the sums, each factor's where it is decomposed,
 * and hands the eigenpairs to all; rank 0 alone goes on from there. LA_MISMATCH where the processes
 * do not have the same job. The options must stay. */
typedef struct la_rank_sums {
    la_ranks ranks;
    const la_fit_options *options;
    la_peers peers; /* the ranks; set by la_ranks_carrier */
} la_rank_sums;
la_carrier la_ranks_carrier(la_rank_sums *sums);

#endif
