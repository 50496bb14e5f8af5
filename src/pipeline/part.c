#include "pipeline/part.h"
#include "output/part_file.h"
#include "output/posterior_file.h"

#include <stdlib.h>
#include <string.h>

/* Digests of the rows that are summed here, in their order. */
static la_status digest_rows(const la_row_job *rows, la_part *part, la_error *err) {
    la_row_digest *all = la_alloc((size_t)rows->set->n, sizeof *all, err);
    la_row_digest *own = la_alloc((size_t)rows->n, sizeof *own, err);
    la_status status = err->status == LA_OK ? la_row_set_digests(rows->set, all, err) : err->status;
    for (int64_t i = 0; status == LA_OK && i < rows->n; i++)
        own[i] = all[la_row_at(rows, i)];
    free(all);
    part->digests = rows->n ? own : NULL;
    part->n_digests = rows->n;
    if (!rows->n)
        free(own);
    return status;
}

static la_status visit(void *user, const la_array_visitor *visitor, la_error *err) {
    return la_fit_state_visit(user, false, visitor, err);
}

static la_status write_part(la_part_fit *fit, la_fit_state *state, la_error *err) {
    const la_row_set *set = state->rows->set;
    const la_posterior *posterior = &state->structures[0].posterior;
    la_part part = {.number = fit->part.number,
                    .n_parts = fit->part.n,
                    .n_rows = state->rows->n,
                    .n_all = set->n,
                    .n_truncated = set->n_truncated,
                    .n_lost = set->n_lost,
                    .n_absent = la_label_list_absent(&set->labels, set->n, posterior->n_classes),
                    .precision = state->session->workers[0].backend.precision,
                    .tool_version = LAPLORA_VERSION,
                    .task = posterior->likelihood->task,
                    .of = *posterior};
    la_sums_save save = {.head = &part, .visit = visit, .user = state};
    la_status status = digest_rows(state->rows, &part, err);
    if (status == LA_OK && fit->basis)
        status = la_posterior_digest(fit->basis, part.basis_digest, err);
    if (status == LA_OK)
        status = la_sums_file_write(&la_part_kind, fit->out, &save, err);
    free(part.digests);
    fit->n_rows = part.n_rows;
    fit->n_all = part.n_all;
    fit->n_tokens = (int64_t)state->totals[1];
    fit->log_likelihood = state->totals[2];
    return status;
}

static la_status carry(void *user, la_moment moment, la_fit_state *state, la_error *err) {
    if (moment != LA_PASS_ENDS)
        return LA_OK;
    state->ended = true;
    return write_part(user, state, err);
}

la_carrier la_part_carrier(la_part_fit *fit) {
    return (la_carrier){
        .carry = carry, .user = fit, .part = fit->part.number - 1, .n_parts = fit->part.n};
}
