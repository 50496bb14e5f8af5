/* The rows that a posterior has, and those that an update adds or takes out: as multisets of
 * digests. */
#include "pipeline/update_parts.h"

#include <stdlib.h>

/* A row of the file. */
typedef struct filed_row {
    la_row_digest digest;
    int64_t row;
} filed_row;

static int by_digest(const void *a, const void *b) {
    const filed_row *x = a, *y = b;
    int order = la_row_digest_order(&x->digest, &y->digest);
    return order ? order : (x->row > y->row) - (x->row < y->row);
}

static la_status list_file(const la_row_set *rows, filed_row **list, la_error *err) {
    la_row_digest *digests = la_alloc((size_t)rows->n, sizeof *digests, err);
    *list = la_alloc((size_t)rows->n, sizeof **list, err);
    if (err->status == LA_OK)
        (void)la_row_set_digests(rows, digests, err);
    for (int64_t i = 0; err->status == LA_OK && i < rows->n; i++)
        (*list)[i] = (filed_row){digests[i], i};
    free(digests);
    return err->status;
}

static la_status refuse(const la_updating *u, int64_t row, int64_t n_missing, la_error *err) {
    const la_row_set *rows = &u->rows;
    return la_fail(err, LA_BAD_INPUT,
                   "%s:%lld: this row with this label is not among the rows of %s (or no more "
                   "often than lines before it), and %lld of %lld rows are not; expected rows that "
                   "were fitted or added",
                   rows->name, (long long)rows->lines[row], u->options->posterior,
                   (long long)n_missing, (long long)rows->n);
}

/* Both are sorted: of copies the first ones are taken. Marks the old rows that are taken out. */
static la_status match(la_updating *u, const la_weighted_row *old, const filed_row *file,
                       bool *taken, la_error *err) {
    int64_t at = 0, missing = -1, n_missing = 0;
    for (int64_t i = 0; i < u->rows.n; i++) {
        while (at < u->old.n_rows && la_row_digest_order(&old[at].digest, &file[i].digest) < 0)
            at++;
        if (at < u->old.n_rows && !la_row_digest_order(&old[at].digest, &file[i].digest)) {
            taken[at++] = true;
            continue;
        }
        missing = missing < 0 || file[i].row < missing ? file[i].row : missing;
        n_missing++;
    }
    return n_missing ? refuse(u, missing, n_missing, err) : LA_OK;
}

static la_status check_weights(la_updating *u, const la_weighted_row *old, const bool *taken,
                               la_error *err) {
    const char *path = u->options->posterior, *name = u->rows.name;
    double weight = -1;
    for (int64_t i = 0; i < u->old.n_rows; i++) {
        if (!taken[i])
            continue;
        if (!(old[i].weight > 0))
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: some of these rows were summed under an earlier adapter of %s, "
                           "whose sums cannot be formed again with this one; take them out of the "
                           "posterior before that, and update it with the later rows",
                           name, path);
        if (weight > 0 && weight != old[i].weight)
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: of these rows some count %g times and others %g times in %s; take "
                           "them out in one file each",
                           name, weight, old[i].weight, path);
        weight = old[i].weight;
    }
    if (u->rows.n == u->old.n_rows)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: these are all %lld rows of %s, and no posterior is left without them; "
                       "fit other rows",
                       name, (long long)u->rows.n, path);
    u->sign = -weight;
    return LA_OK;
}

/* Marks the old rows that the file takes out. */
static la_status mark(la_updating *u, const la_weighted_row *old, bool *taken, la_error *err) {
    filed_row *file;
    if (list_file(&u->rows, &file, err) == LA_OK) {
        qsort(file, (size_t)u->rows.n, sizeof *file, by_digest);
        (void)match(u, old, file, taken, err);
    }
    free(file);
    return err->status;
}

la_status la_update_find_rows(la_updating *u, la_error *err) {
    la_weighted_row *old = NULL;
    bool *taken = la_alloc((size_t)u->old.n_rows, sizeof *taken, err);
    if (taken && la_posterior_weighted_rows(&u->old, &old, err) == LA_OK &&
        mark(u, old, taken, err) == LA_OK)
        (void)check_weights(u, old, taken, err);
    free(old);
    free(taken);
    return err->status;
}

/* Rows of the old posterior, discounted, or all of them under an earlier adapter; and the new. */
static la_status add_rows(la_updating *u, const la_weighted_row *old, la_weighted_row *all,
                          la_error *err) {
    filed_row *file;
    LA_TRY(list_file(&u->rows, &file, err));
    bool earlier = la_update_old_is_prior(u);
    for (int64_t i = 0; i < u->old.n_rows; i++)
        all[i] = (la_weighted_row){old[i].digest, earlier ? 0 : u->times * old[i].weight};
    for (int64_t i = 0; i < u->rows.n; i++) {
        all[u->old.n_rows + i] = (la_weighted_row){file[i].digest, 1};
        u->summary->n_rows_known += la_posterior_has_row(&u->old, &file[i].digest);
    }
    free(file);
    if (u->summary->n_rows_known)
        la_warn(&u->options->run.log,
                "%s: %lld of %lld rows are among those of %s already, and count once more now; "
                "update --remove takes them out again",
                u->rows.name, (long long)u->summary->n_rows_known, (long long)u->rows.n,
                u->options->posterior);
    return la_posterior_keep_weighted_rows(&u->structure.posterior, all, u->old.n_rows + u->rows.n,
                                           err);
}

static la_status leave_rows(la_updating *u, const la_weighted_row *old, la_weighted_row *all,
                            la_error *err) {
    bool *taken = la_alloc((size_t)u->old.n_rows, sizeof *taken, err);
    int64_t n = 0;
    if (taken && mark(u, old, taken, err) == LA_OK) {
        for (int64_t i = 0; i < u->old.n_rows; i++)
            if (!taken[i])
                all[n++] = old[i];
        (void)la_posterior_keep_weighted_rows(&u->structure.posterior, all, n, err);
    }
    free(taken);
    return err->status;
}

la_status la_update_keep_rows(la_updating *u, la_error *err) {
    size_t most = (size_t)(u->old.n_rows + u->rows.n);
    la_weighted_row *old = NULL, *all = la_alloc(most, sizeof *all, err);
    if (all && la_posterior_weighted_rows(&u->old, &old, err) == LA_OK)
        (void)(u->taken_out ? leave_rows : add_rows)(u, old, all, err);
    free(old);
    free(all);
    return err->status;
}
