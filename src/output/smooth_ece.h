/* Smooth calibration error of confidences and hits: the integral of |residual density| smoothed by
 * a Gaussian kernel reflected at 0 and 1, at the bandwidth that is a fixed point of it (Blasiok and
 * Nakkiran, "Smooth ECE", 2023, definition 2 and algorithm 1). Grid, mesh and search are those of
 * the authors' package relplot, whose numbers these are.
 *
 * grid [M]: cells that rows are shared out to; mesh [P]: points that the smoothed density is summed
 * over. The kernel's weights are kept, from each cell that has rows to the points within 9 standard
 * deviations, so that other labels or counts of the same rows cost one product each. */
#ifndef LA_OUTPUT_SMOOTH_ECE_H
#define LA_OUTPUT_SMOOTH_ECE_H

#include <stddef.h>
#include <stdint.h>

typedef struct la_smoother la_smoother;

/* Adds rows of weight 1 to sums, by la_smooth_add. */
typedef void (*la_smooth_rows)(const void *rows, const la_smoother *smoother, double *sums);

/* Bytes of a smoother of n rows. */
size_t la_smoother_bytes(int64_t n);
/* Doubles of the sums of any smoother. */
size_t la_smooth_sums(void);

/* Finds the bandwidth in zeroed memory of la_smoother_bytes. sums: [la_smooth_sums]. */
void la_smoother_fit(la_smoother *smoother, la_smooth_rows add, const void *rows, double *sums);

double la_smoother_bandwidth(const la_smoother *smoother);

/* Cells of its grid. */
int64_t la_smooth_cells(const la_smoother *smoother);
/* The cell that a row falls into; *share of it falls into the next one. */
int64_t la_smooth_cell(const la_smoother *smoother, double confidence, double *share);

void la_smooth_clear(const la_smoother *smoother, double *sums);
/* residual: confidence less hit. */
void la_smooth_add(const la_smoother *smoother, double *sums, double confidence, double residual,
                   double weight);
/* The error of the rows in sums, whose confidences are among those that the smoother was fitted to.
 */
double la_smooth_ece(const la_smoother *smoother, double *sums);

#endif
