/* MPI is in a shared library of its own beside the program (liblaplora_mpi.so, src/mpi), loaded
 * where a launcher of MPI has started it: the program works without MPI's libraries. It exports one
 * symbol, `la_mpi_entry`. A failure of MPI itself ends all processes. */
#ifndef LA_PIPELINE_RANKS_MODULE_H
#define LA_PIPELINE_RANKS_MODULE_H

#include <stddef.h>

#define LA_MPI_ABI 2

typedef struct la_mpi_module {
    int abi;
    void (*open)(int *rank, int *size);
    /* Waiting processes sleep: others need the processor. */
    void (*send)(int to, const void *data, size_t bytes);
    void (*receive)(int from, void *data, size_t bytes);
    void (*broadcast)(int from, void *data, size_t bytes);
    void (*barrier)(void);
    void (*close)(void);
    void (*abort)(int code); /* all processes */
} la_mpi_module;

#endif
