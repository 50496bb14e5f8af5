#include "pipeline/ranks_module.h"

#include <mpi.h>
#include <time.h>

/* Bytes of one message; questions before a waiting process sleeps, and its longest sleep. */
enum { PIECE = 1 << 28, BUSY = 2000, SLEEP_NS = 2000000 };

static void wait_for(MPI_Request *request) {
    int done = 0;
    struct timespec sleep = {0, 20000};
    for (int i = 0;; i++) {
        MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (done)
            return;
        if (i < BUSY)
            continue;
        nanosleep(&sleep, NULL);
        sleep.tv_nsec = 2 * sleep.tv_nsec < SLEEP_NS ? 2 * sleep.tv_nsec : SLEEP_NS;
    }
}

static int piece_of(size_t bytes) {
    return bytes < PIECE ? (int)bytes : PIECE;
}

static void open_mpi(int *rank, int *size) {
    int provided;
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, size);
}

static void send(int to, const void *data, size_t bytes) {
    const char *at = data;
    while (bytes) {
        MPI_Request request;
        int n = piece_of(bytes);
        MPI_Isend(at, n, MPI_BYTE, to, 0, MPI_COMM_WORLD, &request);
        wait_for(&request);
        at += n;
        bytes -= (size_t)n;
    }
}

static void receive(int from, void *data, size_t bytes) {
    char *at = data;
    while (bytes) {
        MPI_Request request;
        int n = piece_of(bytes);
        MPI_Irecv(at, n, MPI_BYTE, from, 0, MPI_COMM_WORLD, &request);
        wait_for(&request);
        at += n;
        bytes -= (size_t)n;
    }
}

static void broadcast(int from, void *data, size_t bytes) {
    char *at = data;
    while (bytes) {
        MPI_Request request;
        int n = piece_of(bytes);
        MPI_Ibcast(at, n, MPI_BYTE, from, MPI_COMM_WORLD, &request);
        wait_for(&request);
        at += n;
        bytes -= (size_t)n;
    }
}

static void barrier(void) {
    MPI_Request request;
    MPI_Ibarrier(MPI_COMM_WORLD, &request);
    wait_for(&request);
}

static void close_mpi(void) {
    MPI_Finalize();
}

static void abort_all(int code) {
    MPI_Abort(MPI_COMM_WORLD, code);
}

extern const la_mpi_module la_mpi_entry;
const la_mpi_module la_mpi_entry = {.abi = LA_MPI_ABI,
                                    .open = open_mpi,
                                    .send = send,
                                    .receive = receive,
                                    .broadcast = broadcast,
                                    .barrier = barrier,
                                    .close = close_mpi,
                                    .abort = abort_all};
