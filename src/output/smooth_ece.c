#include "output/smooth_ece.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    HALVINGS = 10, /* bisections of 0..1: the least bandwidth is 2^-10 */
    MESH_LEAST = 200,
    GRID_LEAST = 2000 / 2 + 1,
    GRID_MOST = (20 << HALVINGS) / 2 + 1,
    MESH_MOST = 10 << HALVINGS,
    BAND_MOST = 200
};
static const double LEAST_ERROR = 0.001, DENSITY_LEAST = 1e-4, REACH = 9;

struct la_smoother {
    double bandwidth;
    int64_t grid, mesh, n_cells;
    int32_t cell[GRID_MOST];  /* [n_cells] those that have rows */
    int32_t first[GRID_MOST]; /* [n_cells] first point of the mesh that a cell reaches */
    double sum[GRID_MOST];    /* [n_cells] its weights */
    double kernel[GRID_MOST]; /* [grid] from -1/2 to 1/2 */
    int32_t below[MESH_MOST]; /* [mesh] cell of the grid below a point */
    double above[MESH_MOST];  /* [mesh] share of the way to the next one */
    double weights[];         /* [n_cells, BAND_MOST], zero beyond the band */
};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* A row falls into two cells. */
size_t la_smoother_bytes(int64_t n) {
    return sizeof(la_smoother) +
           (size_t)least(2 * least(n, GRID_MOST), GRID_MOST) * BAND_MOST * sizeof(double);
}

size_t la_smooth_sums(void) {
    return 2 * GRID_MOST + MESH_MOST + BAND_MOST;
}

double la_smoother_bandwidth(const la_smoother *smoother) {
    return smoother->bandwidth;
}

void la_smooth_clear(const la_smoother *smoother, double *sums) {
    memset(sums, 0, 2 * (size_t)smoother->grid * sizeof *sums);
}

int64_t la_smooth_cells(const la_smoother *smoother) {
    return smoother->grid;
}

int64_t la_smooth_cell(const la_smoother *smoother, double confidence, double *share) {
    double at = confidence * (double)(smoother->grid - 1);
    int64_t cell = least((int64_t)at, smoother->grid - 2);
    *share = at - (double)cell;
    return cell;
}

/* sums: residuals [grid], rows [grid], smoothed residuals [mesh + BAND_MOST]. */
void la_smooth_add(const la_smoother *smoother, double *sums, double confidence, double residual,
                   double weight) {
    double share;
    int64_t cell = la_smooth_cell(smoother, confidence, &share);
    double above = weight * share, below = weight - above;
    double *rows = sums + smoother->grid;
    sums[cell] += below * residual;
    sums[cell + 1] += above * residual;
    rows[cell] += below;
    rows[cell + 1] += above;
}

double la_smooth_ece(const la_smoother *smoother, double *sums) {
    const double *rows = sums + smoother->grid;
    double *smooth = sums + 2 * smoother->grid, error = 0;
    double density = DENSITY_LEAST * (double)smoother->mesh;
    memset(smooth, 0, (size_t)(smoother->mesh + BAND_MOST) * sizeof *smooth);
    for (int64_t k = 0; k < smoother->n_cells; k++) {
        double residual = sums[smoother->cell[k]];
        const double *weights = smoother->weights + k * BAND_MOST;
        density += rows[smoother->cell[k]] * smoother->sum[k];
        for (int b = 0; b < BAND_MOST; b++)
            smooth[smoother->first[k] + b] += residual * weights[b];
    }
    for (int64_t t = 0; t < smoother->mesh; t++)
        error += fabs(smooth[t]);
    return error / density;
}

static double kernel_at(const la_smoother *smoother, int64_t offset) {
    return offset >= 0 && offset < smoother->grid ? smoother->kernel[offset] : 0;
}

static void set_bandwidth(la_smoother *smoother, double bandwidth) {
    int64_t grid = (int64_t)rint(20 / bandwidth), mesh = (int64_t)rint(10 / bandwidth);
    smoother->bandwidth = bandwidth;
    smoother->grid = grid / 2 + 1 > GRID_LEAST ? grid / 2 + 1 : GRID_LEAST;
    smoother->mesh = mesh > MESH_LEAST ? mesh : MESH_LEAST;
    for (int64_t i = 0; i < smoother->grid; i++) {
        double x = ((double)i / (double)(smoother->grid - 1) - 0.5) / bandwidth;
        smoother->kernel[i] = exp(-0.5 * x * x) / (sqrt(2 * M_PI) * bandwidth);
    }
    for (int64_t t = 0; t < smoother->mesh; t++) {
        double point = (double)t / (double)(smoother->mesh - 1) * (double)(smoother->grid - 1);
        smoother->below[t] = (int32_t)least((int64_t)point, smoother->grid - 2);
        smoother->above[t] = point - smoother->below[t];
    }
}

/* The weights of a cell at the mesh: of itself and of its reflections at 0 and 1, between the cells
 * of the grid by linear interpolation. */
static void weigh(la_smoother *smoother, int64_t k) {
    double *weights = smoother->weights + k * BAND_MOST, scale = (double)(smoother->mesh - 1);
    int64_t end = smoother->grid - 1, from = smoother->cell[k], middle = smoother->grid / 2;
    double at = (double)from / (double)end, reach = REACH * smoother->bandwidth + 2 / (double)end;
    int64_t first = (int64_t)fmax(0, floor((at - reach) * scale));
    int64_t last = (int64_t)fmin(scale, ceil((at + reach) * scale));
    /* an end is its own reflection */
    int64_t places[3] = {end + from - middle, end - from - middle, 3 * end - from - middle};
    memset(weights, 0, BAND_MOST * sizeof *weights);
    smoother->first[k] = (int32_t)first;
    smoother->sum[k] = 0;
    for (int r = 0; r < 3; r++) {
        double distance = r == 1 ? at : r == 2 ? 1 - at : 0;
        if (r && (distance == 0 || distance > reach))
            continue;
        for (int64_t t = first; t <= last; t++) {
            int64_t offset = places[r] - smoother->below[t];
            weights[t - first] += (1 - smoother->above[t]) * kernel_at(smoother, offset) +
                                  smoother->above[t] * kernel_at(smoother, offset - 1);
        }
    }
    for (int64_t t = first; t <= last; t++)
        smoother->sum[k] += weights[t - first];
}

/* The error of all rows at a bandwidth, with the weights for it left in the smoother. */
static double try_bandwidth(la_smoother *smoother, double bandwidth, la_smooth_rows add,
                            const void *rows, double *sums) {
    int64_t before = smoother->grid;
    set_bandwidth(smoother, bandwidth);
    if (smoother->grid != before) {
        la_smooth_clear(smoother, sums);
        add(rows, smoother, sums);
    }
    smoother->n_cells = 0;
    for (int64_t i = 0; i < smoother->grid; i++)
        if (sums[smoother->grid + i] != 0) {
            smoother->cell[smoother->n_cells] = (int32_t)i;
            weigh(smoother, smoother->n_cells++);
        }
    return la_smooth_ece(smoother, sums);
}

void la_smoother_fit(la_smoother *smoother, la_smooth_rows add, const void *rows, double *sums) {
    double high = 1, low = 0;
    for (int i = 0; i < HALVINGS; i++) {
        double middle = (high + low) / 2;
        bool over =
            middle < LEAST_ERROR || middle < try_bandwidth(smoother, middle, add, rows, sums);
        *(over ? &low : &high) = middle;
    }
    (void)try_bandwidth(smoother, high, add, rows, sums);
}
