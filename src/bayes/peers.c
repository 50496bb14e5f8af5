#include "bayes/peers.h"
#include "base/memory.h"

#include <stdlib.h>

/* ---- who decomposes what ---- */

static const la_sum *largest_left(const la_sums *sums) {
    const la_sum *largest = NULL;
    for (size_t i = 0; i < sums->n; i++) {
        const la_sum *s = &sums->list[i];
        if (s->rows == s->cols && !s->owner && (!largest || s->rows > largest->rows))
            largest = s;
    }
    return largest;
}

la_status la_peers_share(const la_peers *peers, la_sums *sums, la_error *err) {
    double *work = la_alloc((size_t)peers->size, sizeof *work, err);
    for (const la_sum *s; work && (s = largest_left(sums));) {
        int least = 0;
        for (int r = 1; r < peers->size; r++)
            if (work[r] < work[least])
                least = r;
        double n = (double)s->rows;
        work[least] += n * n * n;
        sums->list[s - sums->list].owner = least + 1;
    }
    free(work);
    return err->status;
}

/* ---- decomposing ---- */

static int owner_of(const la_sums *sums, const double *data) {
    for (size_t i = 0; i < sums->n; i++)
        if (sums->list[i].data == data)
            return sums->list[i].owner - 1;
    return -1;
}

static la_status decompose_own(const la_peers *peers, const la_sums *sums, int64_t count,
                               la_eigen *problems, la_eigen *own, la_error *err) {
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++)
        if (owner_of(sums, problems[i].a) == peers->rank)
            own[n++] = problems[i];
    LA_TRY(sums->be->ops->eigh(sums->be, n, own, err));
    n = 0;
    for (int64_t i = 0; i < count; i++)
        if (owner_of(sums, problems[i].a) == peers->rank)
            problems[i].least = own[n++].least;
    return LA_OK;
}

la_status la_peers_eigh(const la_peers *peers, const la_sums *sums, int64_t count,
                        la_eigen *problems, la_error *err) {
    if (!peers)
        return sums->be->ops->eigh(sums->be, count, problems, err);
    la_eigen *own = la_alloc((size_t)count, sizeof *own, err);
    la_status status = own ? decompose_own(peers, sums, count, problems, own, err) : err->status;
    free(own);
    LA_TRY(status);
    for (int64_t i = 0; i < count; i++) {
        la_eigen *p = &problems[i];
        int from = owner_of(sums, p->a);
        peers->broadcast(from, p->values, (size_t)p->rank * sizeof *p->values);
        peers->broadcast(from, p->vectors, (size_t)(p->rank * p->n) * sizeof *p->vectors);
        peers->broadcast(from, &p->least, sizeof p->least);
    }
    return LA_OK;
}
