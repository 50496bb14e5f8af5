/* Processes that fit one posterior together: each sums its own rows, and each factor is decomposed
 * by one of them. */
#ifndef LA_BAYES_PEERS_H
#define LA_BAYES_PEERS_H

#include "bayes/sums.h"

typedef struct la_peers {
    int rank, size;
    /* All get the bytes of process `from`. Its failure ends all processes. */
    void (*broadcast)(int from, void *data, size_t bytes);
} la_peers;

/* Gives every square sum to the process that will decompose it: the largest first, each to the one
 * that has least to do, counted as n^3. The same on all of them. */
la_status la_peers_share(const la_peers *peers, la_sums *sums, la_error *err);

/* ops->eigh of problems whose matrices are sums: each by the process that has it, and all get the
 * eigenpairs. peers NULL: one process has all. */
la_status la_peers_eigh(const la_peers *peers, const la_sums *sums, int64_t count,
                        la_eigen *problems, la_error *err);

#endif
