/* Sums of an update: those of the old posterior, from its factors, and those of the rows. */
#include "bayes/structure.h"
#include "pipeline/update_parts.h"

#include <string.h>

/* Rows, tokens and log likelihood of the old posterior, as the first pass counts them. */
static void old_totals(const la_updating *u, double totals[3]) {
    totals[0] = u->times * la_posterior_rows(&u->old);
    totals[1] = u->times * la_posterior_tokens(&u->old);
    totals[2] = 0;
    if (!la_update_old_is_prior(u))
        totals[2] = u->times * la_posterior_total(&u->old);
}

static void mix(const la_updating *u, double totals[3]) {
    double old[3];
    old_totals(u, old);
    for (int i = 0; i < 3; i++)
        totals[i] = u->sign * totals[i] + old[i];
}

static la_restored restored(const la_updating *u) {
    int64_t n = u->rows.n;
    return (la_restored){.of = &u->old,
                         .times = u->times,
                         .sign = u->sign,
                         .n_rows = u->old.n_rows + (u->taken_out ? -n : n),
                         .n_contrasts = u->session.n_rhs,
                         .team = u->session.team};
}

/* "0/kron/inputs/00000/sum": a device, a structure, and the name that the structure gave it. */
static la_status mix_array(void *user, const la_array *array, la_error *err) {
    const la_updating *u = user;
    la_array own = *array;
    la_restored from = restored(u);
    if (!strcmp(array->name, "totals")) {
        mix(u, array->data);
        return LA_OK;
    }
    for (int i = 0; i < 2 && own.name; i++)
        own.name = strchr(own.name, '/') ? strchr(own.name, '/') + 1 : NULL;
    if (!own.name)
        return la_fail(err, LA_MISMATCH, "%s: no posterior has that sum", array->name);
    return u->structure.kind->fit->restore(&from, &own, err);
}

static la_status carry(void *user, la_moment moment, la_fit_state *fit, la_error *err) {
    const la_array_visitor visitor = {mix_array, user};
    return moment == LA_PASS_ENDS ? la_fit_state_visit(fit, true, &visitor, err) : LA_OK;
}

/* Numbers of rows, and what they count for. */
static void count(la_updating *u) {
    la_posterior *p = &u->structure.posterior;
    int64_t n = u->rows.n, tokens = 0;
    for (int64_t i = 0; i < n; i++)
        tokens += u->rows.length[i];
    double totals[3] = {(double)n, (double)tokens, p->log_likelihood};
    bool has_sums = u->structure.kind->fit->restore != NULL;
    mix(u, totals);
    p->log_likelihood = has_sums ? p->log_likelihood : totals[2];
    p->square_error = -2 * p->log_likelihood;
    p->n_rows = u->old.n_rows + (u->taken_out ? -n : n);
    p->n_tokens = u->old.n_tokens + (u->taken_out ? -tokens : tokens);
    p->rows_weight = p->tokens_weight = 0;
    if (totals[0] != (double)p->n_rows || totals[1] != (double)p->n_tokens) {
        p->rows_weight = totals[0];
        p->tokens_weight = totals[1];
    }
    p->earlier_rows = u->old.earlier_rows;
    if (la_update_old_is_prior(u))
        p->earlier_rows = u->times * la_posterior_rows(&u->old);
}

la_status la_update_sum(la_updating *u, la_error *err) {
    const la_structure_kind *kind = u->structure.kind;
    la_row_job rows = la_row_job_all(&u->rows, &u->options->run.log);
    la_carrier carrier = {.carry = carry, .user = u};
    la_carriers carriers = {.list = &carrier, .n = 1};
    la_restored from = restored(u);
    LA_TRY(la_structures_fit(&u->session, &u->structure, 1, &rows,
                             kind->fit->restore ? &carriers : NULL, err));
    if (kind->join)
        LA_TRY(kind->join(&u->session.workers[0].backend, &from, &u->structure.posterior, err));
    count(u);
    return LA_OK;
}
