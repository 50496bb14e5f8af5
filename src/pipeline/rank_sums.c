#include "pipeline/rank_sums.h"
#include "base/memory.h"
#include "pipeline/checkpoint_identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static la_status add_array(void *user, const la_array *array, la_error *err) {
    (void)err;
    la_ranks_add(array->data, (size_t)(array->rows * array->cols), user);
    return LA_OK;
}

static la_status sum(la_fit_state *fit, la_error *err) {
    double *piece = la_alloc(LA_RANKS_PIECE, sizeof *piece, err);
    la_array_visitor adding = {add_array, piece};
    la_status status = piece ? la_fit_state_visit(fit, true, &adding, err) : err->status;
    free(piece);
    return status;
}

/* Whether all have rank 0's job. */
static la_status compare(const la_rank_sums *sums, const la_fit_state *fit, la_error *err) {
    char *own = la_fit_identity(sums->options, fit, false, err);
    if (!own)
        return err->status;
    uint64_t length = strlen(own);
    la_ranks_broadcast(&length, sizeof length);
    char *first = la_alloc(length + 1, 1, err);
    la_status status = err->status;
    if (status == LA_OK) {
        memcpy(first, own, sums->ranks.rank ? 0 : length);
        la_ranks_broadcast(first, length);
        char what[64];
        snprintf(what, sizeof what, "process 0, beside process %d of %d", sums->ranks.rank,
                 sums->ranks.size);
        status = la_fit_identity_check(what, first, length, own,
                                       "give all processes the same files and options", err);
    }
    free(first);
    free(own);
    return status;
}

static la_status look(void *user, const la_array *array, la_error *err) {
    (void)user;
    (void)array;
    (void)err;
    return LA_OK;
}

/* Before the work: the same job everywhere, and sums that can be added. */
static la_status begin(const la_rank_sums *sums, la_fit_state *fit, la_error *err) {
    const la_array_visitor looking = {look, NULL};
    LA_TRY(compare(sums, fit, err));
    return la_fit_state_visit(fit, false, &looking, err);
}

static la_status carry(void *user, la_moment moment, la_fit_state *fit, la_error *err) {
    const la_rank_sums *sums = user;
    if (moment == LA_PASS_BEGINS && !fit->pass)
        return begin(sums, fit, err);
    if (moment == LA_PASS_ENDS)
        return sum(fit, err);
    if (moment == LA_FIT_ENDS && sums->ranks.rank)
        fit->ended = true;
    return LA_OK;
}

la_carrier la_ranks_carrier(la_rank_sums *sums) {
    return (la_carrier){
        .carry = carry, .user = sums, .part = sums->ranks.rank, .n_parts = sums->ranks.size};
}
