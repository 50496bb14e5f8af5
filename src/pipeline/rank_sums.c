#include "pipeline/rank_sums.h"
#include "base/memory.h"
#include "pipeline/checkpoint_identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a sum that one rank decomposes the others get the diagonal, in room[LA_RANKS_PIECE]. */
static void share_diagonal(const la_array *array, double *room) {
    int from = array->owner - 1;
    int64_t n = array->rows, count;
    for (int64_t at = 0; at < n; at += count) {
        count = n - at < LA_RANKS_PIECE ? n - at : LA_RANKS_PIECE;
        double *diagonal = array->data + at * n + at;
        for (int64_t i = 0; i < count; i++)
            room[i] = diagonal[i * (n + 1)];
        la_ranks_broadcast(from, room, (size_t)count * sizeof *room);
        for (int64_t i = 0; i < count; i++)
            diagonal[i * (n + 1)] = room[i];
    }
}

static la_status add_array(void *user, const la_array *array, la_error *err) {
    size_t n = (size_t)(array->rows * array->cols);
    (void)err;
    la_ranks_add(array->owner ? array->owner - 1 : 0, array->data, n, user);
    if (array->owner)
        share_diagonal(array, user);
    else
        la_ranks_broadcast(0, array->data, n * sizeof *array->data);
    return LA_OK;
}

static la_status sum(la_fit_state *fit, la_error *err) {
    double *room = la_alloc(2 * LA_RANKS_PIECE, sizeof *room, err);
    la_array_visitor adding = {add_array, room};
    la_status status = room ? la_fit_state_visit(fit, true, &adding, err) : err->status;
    free(room);
    return status;
}

/* Whether all have rank 0's job. */
static la_status compare(const la_rank_sums *sums, const la_fit_state *fit, la_error *err) {
    char *own = la_fit_identity(sums->options, fit, false, err);
    if (!own)
        return err->status;
    uint64_t length = strlen(own);
    la_ranks_broadcast(0, &length, sizeof length);
    char *first = la_alloc(length + 1, 1, err);
    la_status status = err->status;
    if (status == LA_OK) {
        memcpy(first, own, sums->ranks.rank ? 0 : length);
        la_ranks_broadcast(0, first, length);
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
    sums->peers = la_ranks_peers();
    return (la_carrier){.carry = carry,
                        .user = sums,
                        .part = sums->ranks.rank,
                        .n_parts = sums->ranks.size,
                        .peers = &sums->peers};
}
