/* The sum of several devices' factor sums on the first one: by NCCL where it is installed, else by
 * copies from device to device. */
#include "backend.cuh"

extern "C" {
#include "base/error.h"
}

#include <mutex>
#include <stdlib.h>
#include <string.h>
#include <system_error>

#ifdef LA_EMULATED
#include <nccl.h>
#else
#include <dlfcn.h>
/* The little of nccl.h that is used: it is not needed to build, nor NCCL to run. */
typedef struct ncclComm *ncclComm_t;
typedef int ncclResult_t;
typedef int ncclDataType_t;
typedef int ncclRedOp_t;
enum { ncclSuccess = 0, ncclFloat64 = 8, ncclSum = 0 };
#endif

enum { THREADS = 256 };
static const int64_t PIECE = 8 << 20;       /* doubles copied at a time: 64 MiB */
static const int64_t PIECE_LEAST = 1 << 17; /* ... where memory is short: 1 MiB */

/* ---- NCCL ---- */

typedef struct nccl_functions {
    ncclResult_t (*init_all)(ncclComm_t *comms, int n, const int *devices);
    ncclResult_t (*abort)(ncclComm_t comm);
    ncclResult_t (*destroy)(ncclComm_t comm);
    ncclResult_t (*group_start)(void);
    ncclResult_t (*group_end)(void);
    ncclResult_t (*reduce)(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream);
} nccl_functions;

/* One set of communicators, kept for the process: to make one takes longer than to use it. Never
 * destroyed at exit, when the driver may already be gone. */
typedef struct nccl_state {
    std::mutex lock;
    bool tried, usable;
    nccl_functions call;
    int n; /* 0: no communicators */
    int devices[LA_DEVICES_MAX];
    ncclComm_t comms[LA_DEVICES_MAX];
} nccl_state;

static nccl_state nccl;

#ifdef LA_EMULATED
static bool find_functions(nccl_functions *call) {
    call->init_all = ncclCommInitAll;
    call->abort = ncclCommDestroy;
    call->destroy = ncclCommDestroy;
    call->group_start = ncclGroupStart;
    call->group_end = ncclGroupEnd;
    call->reduce = ncclReduce;
    return true;
}
#else
template <typename F> static bool find(void *library, const char *name, F *function) {
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address != nullptr;
}

static bool find_functions(nccl_functions *call) {
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    return library && find(library, "ncclCommInitAll", &call->init_all) &&
           find(library, "ncclCommAbort", &call->abort) &&
           find(library, "ncclCommDestroy", &call->destroy) &&
           find(library, "ncclGroupStart", &call->group_start) &&
           find(library, "ncclGroupEnd", &call->group_end) &&
           find(library, "ncclReduce", &call->reduce);
}
#endif

/* Are there communicators of these devices? */
static bool nccl_ready(la_backend *const *devices, int n) {
    const char *wanted = getenv("LAPLORA_NCCL");
    if (wanted && !strcmp(wanted, "0"))
        return false;
    if (!nccl.tried) {
        nccl.tried = true;
        nccl.usable = find_functions(&nccl.call);
    }
    if (!nccl.usable)
        return false;
    int list[LA_DEVICES_MAX];
    for (int i = 0; i < n; i++)
        list[i] = la_cuda_of(devices[i])->device;
    if (nccl.n == n && !memcmp(nccl.devices, list, static_cast<size_t>(n) * sizeof *list))
        return true;
    for (int i = 0; i < nccl.n; i++)
        nccl.call.destroy(nccl.comms[i]);
    nccl.n = 0;
    if (nccl.call.init_all(nccl.comms, n, list) != ncclSuccess) {
        (void)cudaGetLastError();
        nccl.usable = false;
        return false;
    }
    memcpy(nccl.devices, list, static_cast<size_t>(n) * sizeof *list);
    nccl.n = n;
    return true;
}

/* Starts the sum on the backends' streams; false when it could not be started. sums[0] is then as
 * it was: the root writes a piece when all devices have sent theirs, and one of them has not
 * begun. */
static bool nccl_sum(la_backend *const *devices, int n, double *const *sums, int64_t count) {
    ncclResult_t code = nccl.call.group_start();
    for (int i = 0; code == ncclSuccess && i < n; i++)
        code = nccl.call.reduce(sums[i], sums[i], static_cast<size_t>(count), ncclFloat64, ncclSum,
                                0, nccl.comms[i], la_cuda_of(devices[i])->stream);
    ncclResult_t end = nccl.call.group_end();
    if (code == ncclSuccess && end == ncclSuccess)
        return true;
    /* devices that started wait for the others, and must be ended */
    for (int i = 0; i < n; i++)
        nccl.call.abort(nccl.comms[i]);
    (void)cudaGetLastError();
    nccl.n = 0;
    nccl.usable = false;
    return false;
}

/* ---- copies from device to device ---- */

/* to[count] += from */
__global__ static void add_into(int64_t count, const double *from, double *to) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at < count)
        to[at] += from[at];
}

/* Two pieces on the first device: one is copied to while the other is added. */
typedef struct staging {
    int64_t piece; /* doubles */
    double *memory[2];
    cudaStream_t copies;
    cudaEvent_t copied[2], added[2];
} staging;

static void close_staging(staging *st) {
    if (st->copies)
        cudaStreamDestroy(st->copies);
    for (int i = 0; i < 2; i++) {
        if (st->copied[i])
            cudaEventDestroy(st->copied[i]);
        if (st->added[i])
            cudaEventDestroy(st->added[i]);
        if (st->memory[i])
            cudaFree(st->memory[i]);
    }
}

/* The first device is current. */
static cudaError_t open_staging(staging *st, int64_t count) {
    cudaError_t code = cudaStreamCreateWithFlags(&st->copies, cudaStreamNonBlocking);
    for (int i = 0; i < 2; i++) {
        if (code == cudaSuccess)
            code = cudaEventCreateWithFlags(&st->copied[i], cudaEventDisableTiming);
        if (code == cudaSuccess)
            code = cudaEventCreateWithFlags(&st->added[i], cudaEventDisableTiming);
    }
    if (code != cudaSuccess)
        return code;
    for (st->piece = count < PIECE ? count : PIECE;; st->piece /= 2) {
        size_t bytes = static_cast<size_t>(st->piece) * sizeof(double);
        for (int i = 0; i < 2; i++) {
            void *memory = nullptr;
            code = cudaMalloc(&memory, bytes);
            if (code != cudaSuccess)
                break;
            st->memory[i] = static_cast<double *>(memory);
        }
        if (code == cudaSuccess)
            return code;
        (void)cudaGetLastError();
        if (st->memory[0])
            cudaFree(st->memory[0]);
        st->memory[0] = nullptr;
        if (st->piece / 2 < PIECE_LEAST)
            return code;
    }
}

/* Copies of one device reach the other directly where they can; they are staged by the driver
 * elsewhere. */
static void enable_peer(int from, int to) {
    int can = 0;
    if (cudaDeviceCanAccessPeer(&can, to, from) == cudaSuccess && can)
        (void)cudaDeviceEnablePeerAccess(from, 0);
    (void)cudaGetLastError(); /* it was enabled before, or copies do without */
}

/* sum += from, which is on device source; leaves the work on the streams */
static cudaError_t add_device(const la_cuda *root, staging *st, int source, const double *from,
                              double *sum, int64_t count) {
    cudaError_t code = cudaSuccess;
    int turn = 0;
    for (int64_t at = 0; at < count && code == cudaSuccess; at += st->piece, turn = !turn) {
        int64_t some = count - at < st->piece ? count - at : st->piece;
        /* an event that was never recorded does not hold anything up */
        code = cudaStreamWaitEvent(st->copies, st->added[turn], 0);
        if (code == cudaSuccess)
            code = cudaMemcpyPeerAsync(st->memory[turn], root->device, from + at, source,
                                       static_cast<size_t>(some) * sizeof(double), st->copies);
        if (code == cudaSuccess)
            code = cudaEventRecord(st->copied[turn], st->copies);
        if (code == cudaSuccess)
            code = cudaStreamWaitEvent(root->stream, st->copied[turn], 0);
        if (code != cudaSuccess)
            break;
        LA_LAUNCH(add_into, la_cuda_blocks(some, THREADS), THREADS, 0, root->stream, some,
                  st->memory[turn], sum + at);
        code = cudaGetLastError();
        if (code == cudaSuccess)
            code = cudaEventRecord(st->added[turn], root->stream);
    }
    return code;
}

/* In the order of the devices: the same bits every time. */
static cudaError_t peer_sum(la_backend *const *devices, int n, double *const *sums, int64_t count) {
    const la_cuda *root = la_cuda_of(devices[0]);
    staging st = {};
    cudaError_t code = open_staging(&st, count);
    for (int i = 1; i < n && code == cudaSuccess; i++) {
        int source = la_cuda_of(devices[i])->device;
        code = cudaSetDevice(root->device);
        if (code != cudaSuccess)
            break;
        enable_peer(source, root->device);
        code = add_device(root, &st, source, sums[i], sums[0], count);
    }
    if (st.copies) {
        cudaError_t end = cudaStreamSynchronize(st.copies);
        code = code == cudaSuccess ? end : code;
        end = cudaStreamSynchronize(root->stream);
        code = code == cudaSuccess ? end : code;
    }
    close_staging(&st);
    return code;
}

/* ---- */

static la_status wait_for(la_backend *const *devices, int n, la_error *err) {
    for (int i = 0; i < n; i++) {
        la_cuda *cu = la_cuda_of(devices[i]);
        cudaError_t code = cudaStreamSynchronize(cu->stream);
        if (code != cudaSuccess)
            return la_fail(err, LA_RESOURCE, "%s: %s", devices[i]->device,
                           cudaGetErrorString(code));
        if (cu->fault.status != LA_OK)
            return la_fail(err, cu->fault.status, "%s", cu->fault.message);
    }
    return LA_OK;
}

static la_status sum_devices(la_backend *const *devices, int n, double *const *sums, int64_t count,
                             la_error *err) {
    if (nccl_ready(devices, n) && nccl_sum(devices, n, sums, count))
        return wait_for(devices, n, err);
    cudaError_t code = peer_sum(devices, n, sums, count);
    if (code != cudaSuccess)
        return la_fail(err, LA_RESOURCE, "%s: the sums of %d devices cannot be added: %s",
                       devices[0]->device, n, cudaGetErrorString(code));
    return LA_OK;
}

la_status la_cuda_reduce(la_backend *const *devices, int n, double *const *sums, int64_t count,
                         la_error *err) {
    if (n <= 1 || count <= 0)
        return LA_OK;
    if (n > LA_DEVICES_MAX)
        return la_fail(err, LA_RESOURCE, "%d devices, more than %d", n, LA_DEVICES_MAX);
    LA_TRY(wait_for(devices, n, err));
    try {
        /* one communicator for the process, one user at a time */
        std::lock_guard<std::mutex> hold(nccl.lock);
        return sum_devices(devices, n, sums, count, err);
    } catch (const std::system_error &) {
        return la_fail(err, LA_RESOURCE, "a lock cannot be taken");
    }
}
