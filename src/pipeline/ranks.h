/* Processes that work on one fit or one prediction: `mpirun -n P laplora fit|predict`. Every
 * process reads all files; rows are divided; rank 0 alone writes and reports. What is added up is
 * added in the order of the ranks: the same bytes however long each takes. */
#ifndef LA_PIPELINE_RANKS_H
#define LA_PIPELINE_RANKS_H

#include "bayes/peers.h"

#include <stdint.h>

typedef struct la_ranks {
    int rank, size; /* 0 and 1: one process alone */
} la_ranks;

/* Joins the others where a launcher of MPI has started several. LA_UNSUPPORTED where this build
 * has no MPI. LAPLORA_MPI=none in the environment: a process by itself whatever started it. The
 * ranks are the process's: a second call returns the same. */
la_status la_ranks_open(la_ranks *ranks, la_error *err);
/* Threads for this process, which was to have wanted (0: not said), beside others on the machine.
 */
int la_ranks_threads(const la_ranks *ranks, int wanted);
/* The end of the process with this exit code: with the others where it is 0, else theirs too. All
 * but rank 0 wait a moment first, since it may have the same to say. Called around what is said:
 * before, and then la_ranks_end. */
void la_ranks_before_report(int code);
int la_ranks_end(int code);

/* Returns when all have called it. */
void la_ranks_wait(void);

/* Numbers that are added up at a time. */
enum { LA_RANKS_PIECE = 1 << 17 };
/* Adds up data[n] over the ranks, in their order; rank `to` has the sum. room: for 2
 * LA_RANKS_PIECE. */
void la_ranks_add(int to, double *data, size_t n, double *room);
/* All get that of rank `from`. */
void la_ranks_broadcast(int from, void *data, size_t bytes);
/* The ranks, for a fit that shares its decompositions among them. */
la_peers la_ranks_peers(void);

/* Text of a numbered piece of the output from its rank to rank 0: sent there, and received, in
 * order. number -1: there are no more. LA_MISMATCH where another one comes. *text from malloc. */
void la_ranks_send_text(int64_t number, const char *text, size_t length);
la_status la_ranks_receive_text(int from, int64_t number, char **text, size_t *length,
                                la_error *err);

#endif
