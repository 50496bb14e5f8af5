/* The diagonal of the Gauss-Newton matrix, in one pass. */
#include "bayes/squares.h"

#include <stdio.h>
#include <stdlib.h>

struct la_structure_fit {
    la_squares *squares;
    bool seen;
};

static size_t fit_bytes(const la_blocks *blocks, const la_fit_shape *shape, int64_t *max_factor) {
    *max_factor = 0;
    return la_squares_bytes(blocks, &shape->batch);
}

static void fit_close(la_structure_fit *fit) {
    if (fit)
        la_squares_close(fit->squares);
    free(fit);
}

static la_status fit_open(const la_blocks *blocks, const la_fit_shape *shape,
                          la_structure_fit **fit, la_error *err) {
    *fit = la_alloc(1, sizeof **fit, err);
    if (!*fit)
        return err->status;
    if (la_squares_open(blocks, &shape->batch, NULL, &(*fit)->squares, err) != LA_OK) {
        fit_close(*fit);
        *fit = NULL;
    }
    return err->status;
}

static la_status fit_next(la_structure_fit *fit, la_posterior *posterior, la_fit_pass *pass,
                          la_error *err) {
    *pass = (la_fit_pass){.to = posterior->n_rows, .more = !fit->seen};
    fit->seen = true;
    return pass->more ? LA_OK : la_squares_read(fit->squares, posterior, err);
}

/* The diagonal is the sum itself. */
static la_status restore(const la_restored *r, const la_array *sum, la_error *err) {
    long long block;
    if (sscanf(sum->name, "blocks/%lld/squares", &block) != 1)
        return la_fail(err, LA_MISMATCH, "%s: no posterior has that sum", sum->name);
    const float *spectrum = la_factored_of(r->of, block)->spectrum;
    for (int64_t i = 0; i < sum->rows * sum->cols; i++)
        sum->data[i] = r->sign * sum->data[i] + r->times * (double)spectrum[i];
    return LA_OK;
}

static la_block_visitor fit_visitor(la_structure_fit *fit) {
    return la_squares_visitor(fit->squares);
}

static la_sums *fit_sums(la_structure_fit *fit) {
    return la_squares_sums(fit->squares);
}

static const la_fit_kind fit_kind = {.bytes = fit_bytes,
                                     .open = fit_open,
                                     .next = fit_next,
                                     .visitor = fit_visitor,
                                     .sums = fit_sums,
                                     .restore = restore,
                                     .close = fit_close};

const la_structure_kind la_structure_diag =
    LA_FACTORED_KIND(.curvature = LA_CURVATURE_DIAG, .fit = &fit_kind,
                     .block_fields = &la_diag_fields);

/* The diagonal that variational training leaves (ivon.h): curvature of its rows, and what the prior
 * held beside its precision. Rows can be added to it as to any other. */
const la_structure_kind la_structure_variational =
    LA_FACTORED_KIND(.curvature = LA_CURVATURE_VARIATIONAL, .fit = &fit_kind,
                     .block_fields = &la_diag_fields);
