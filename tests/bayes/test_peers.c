/* Factors that several processes decompose, each some: whose is whose, and that every process has
 * the eigenpairs that one alone would have found. The processes run one after the other here. */
#include "bayes/peers.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROCESSES = 3, FACTORS = 6, WIDEST = 40 };
static const int64_t sides[FACTORS] = {7, 40, 20, 19, 1, 18};

typedef struct found {
    double values[WIDEST], least;
    float vectors[WIDEST * WIDEST];
} found;

static found parts[FACTORS], whole[FACTORS];
static int rank, received, sent[PROCESSES];

/* Keeps what this process has to give; the others' is not there. */
static void broadcast(int from, void *data, size_t bytes) {
    found *f = &parts[received / 3];
    void *to[] = {f->values, f->vectors, &f->least};
    if (from == rank) {
        memcpy(to[received % 3], data, bytes);
        sent[rank]++;
    }
    received++;
}

/* Positive definite sums, the same each time, and one that is not square. */
static void open_sums(la_backend *be, la_sums *sums) {
    *sums = (la_sums){.be = be};
    assert_non_null(la_sums_add(sums, "sketch", 0, "sum", 5, 3));
    for (int k = 0; k < FACTORS; k++) {
        int64_t n = sides[k];
        double *a = la_sums_add(sums, "inputs", k, "sum", n, n);
        assert_non_null(a);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                a[i * n + j] = 1.0 / (double)(1 + llabs(i - j)) + (i == j ? (double)(i + k) : 0);
    }
}

static void decompose(la_backend *be, const la_peers *peers, found *to) {
    la_sums sums;
    la_eigen problems[FACTORS];
    la_error err = {0};
    open_sums(be, &sums);
    if (peers)
        assert_int_equal(la_peers_share(peers, &sums, &err), LA_OK);
    for (int k = 0; k < FACTORS; k++)
        problems[k] = (la_eigen){.name = "factor",
                                 .n = sides[k],
                                 .rank = sides[k] > 20 ? 8 : sides[k],
                                 .a = sums.list[k + 1].data,
                                 .values = to[k].values,
                                 .vectors = to[k].vectors};
    assert_int_equal(la_peers_eigh(peers, &sums, FACTORS, problems, &err), LA_OK);
    for (int k = 0; k < FACTORS; k++)
        to[k].least = problems[k].least;
    la_sums_close(&sums);
}

static void eigenpairs(void **state) {
    static found own[FACTORS];
    la_backend be;
    la_error err = {0};
    (void)state;
    assert_int_equal(la_backend_open_cpu(la_team_of(2), &be, &err), LA_OK);
    decompose(&be, NULL, whole);
    for (rank = 0; rank < PROCESSES; rank++) {
        la_peers peers = {rank, PROCESSES, broadcast};
        received = 0;
        decompose(&be, &peers, own);
        assert_int_equal(received, 3 * FACTORS);
        assert_true(sent[rank] > 0);
    }
    assert_int_equal(sent[0] + sent[1] + sent[2], 3 * FACTORS);
    for (int k = 0; k < FACTORS; k++) {
        size_t n = (size_t)sides[k], kept = n > 20 ? 8 : n;
        assert_memory_equal(parts[k].values, whole[k].values, kept * sizeof(double));
        assert_memory_equal(parts[k].vectors, whole[k].vectors, kept * n * sizeof(float));
        assert_memory_equal(&parts[k].least, &whole[k].least, sizeof(double));
    }
    be.ops->close(&be);
}

/* 40 to the first; 20 and then the others to those that have least: 19 + 18 are more than 20. */
static void shares(void **state) {
    static const int owners[FACTORS] = {2, 1, 2, 3, 2, 3};
    la_backend be;
    la_sums sums;
    la_error err = {0};
    (void)state;
    assert_int_equal(la_backend_open_cpu(la_team_of(1), &be, &err), LA_OK);
    open_sums(&be, &sums);
    la_peers peers = {0, PROCESSES, broadcast};
    assert_int_equal(la_peers_share(&peers, &sums, &err), LA_OK);
    assert_int_equal(sums.list[0].owner, 0);
    for (int k = 0; k < FACTORS; k++)
        assert_int_equal(sums.list[k + 1].owner, owners[k]);
    la_sums_close(&sums);
    be.ops->close(&be);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(eigenpairs), cmocka_unit_test(shares)};
    return cmocka_run_group_tests_name("peers", tests, NULL, NULL);
}
