/* NCCL's reduction over the devices of one process: a sum in the order of ranks. */
#include "nccl.h"

#include "emulator.h"

#include <map>
#include <memory>

/* The communicators that one ncclCommInitAll made. */
struct clique {
    int count;
};

struct ncclComm {
    std::shared_ptr<clique> all;
    int rank, device;
};

namespace {

struct call {
    ncclComm_t comm;
    const void *send;
    void *receive;
    size_t count;
    ncclDataType_t type;
    int root;
    cudaStream_t stream;
};

thread_local int depth;
thread_local std::vector<call> *pending;

template <typename T> void add_up(const std::vector<call> &calls, T *to, size_t count) {
    for (size_t i = 0; i < count; i++) {
        T sum = 0;
        for (const call &c : calls)
            sum += static_cast<const T *>(c.send)[i];
        to[i] = sum;
    }
}

/* The root's stream waits for the others', sums, and the others' wait for it. */
ncclResult_t reduce(const std::vector<call> &calls) {
    const call &root = calls[static_cast<size_t>(calls[0].root)];
    int before = la_emulated_current_device();
    std::vector<cudaEvent_t> events;
    bool good = true;
    for (const call &c : calls) {
        cudaEvent_t event;
        good = good && cudaSetDevice(c.comm->device) == cudaSuccess &&
               cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess;
        if (!good)
            break;
        events.push_back(event);
        good = &c == &root || (cudaEventRecord(event, c.stream) == cudaSuccess &&
                               cudaStreamWaitEvent(root.stream, event) == cudaSuccess);
    }
    if (good) {
        cudaSetDevice(root.comm->device);
        good = la_emulated_enqueue(root.stream, [calls, root] {
            if (root.type == ncclFloat64)
                add_up(calls, static_cast<double *>(root.receive), root.count);
            else
                add_up(calls, static_cast<float *>(root.receive), root.count);
        });
        cudaEvent_t done = events[static_cast<size_t>(root.comm->rank)];
        good = good && cudaEventRecord(done, root.stream) == cudaSuccess;
        for (const call &c : calls)
            if (&c != &root)
                good = good && cudaStreamWaitEvent(c.stream, done) == cudaSuccess;
    }
    for (cudaEvent_t event : events)
        cudaEventDestroy(event);
    cudaSetDevice(before);
    return good ? ncclSuccess : ncclUnhandledCudaError;
}

} // namespace

extern "C" {

ncclResult_t ncclGetVersion(int *version) {
    *version = 22800;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess:
        return "no error";
    case ncclUnhandledCudaError:
        return "unhandled cuda error";
    case ncclInvalidArgument:
        return "invalid argument";
    case ncclInvalidUsage:
        return "invalid usage";
    default:
        return "unknown result code";
    }
}

ncclResult_t ncclCommInitAll(ncclComm_t *comms, int count, const int *devices) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!comms || count < 1)
        return ncclInvalidArgument;
    for (int i = 0; i < count; i++) {
        int device = devices ? devices[i] : i;
        if (device < 0 || device >= la_emulated_device_count())
            return ncclInvalidArgument;
        for (int k = 0; devices && k < i; k++)
            if (devices[k] == device)
                return ncclInvalidUsage;
    }
    std::shared_ptr<clique> all = std::make_shared<clique>();
    all->count = count;
    for (int i = 0; i < count; i++)
        comms[i] = new ncclComm{all, i, devices ? devices[i] : i};
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!comm)
        return ncclSuccess;
    la_emulated_drain_device(comm->device);
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    return ncclCommDestroy(comm);
}

ncclResult_t ncclGroupStart() {
    if (depth++ == 0)
        pending = new std::vector<call>;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
    la_emulated_guard guard(la_emulated_mutex());
    if (depth == 0)
        return ncclInvalidUsage;
    if (--depth > 0)
        return ncclSuccess;
    std::unique_ptr<std::vector<call>> all(pending);
    pending = nullptr;
    /* the i-th calls of all ranks of a clique belong together */
    std::map<std::pair<clique *, int>, int> seen; /* calls by rank */
    std::map<std::pair<clique *, int>, std::map<int, call>> groups;
    for (const call &c : *all) {
        int index = seen[{c.comm->all.get(), c.comm->rank}]++;
        groups[{c.comm->all.get(), index}][c.comm->rank] = c;
    }
    for (const auto &group : groups) {
        std::vector<call> calls;
        for (const auto &entry : group.second)
            calls.push_back(entry.second);
        /* a device would wait for ever for the missing ranks */
        if (static_cast<int>(calls.size()) != group.first.first->count)
            return ncclInvalidUsage;
        for (const call &c : calls)
            if (c.root != calls[0].root || c.count != calls[0].count || c.type != calls[0].type)
                return ncclInvalidUsage;
        ncclResult_t result = reduce(calls);
        if (result != ncclSuccess)
            return result;
    }
    return ncclSuccess;
}

ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
    if (!comm || op != ncclSum || (type != ncclFloat32 && type != ncclFloat64) || root < 0 ||
        root >= comm->all->count || !send || (root == comm->rank && !receive))
        return ncclInvalidArgument;
    ncclGroupStart();
    pending->push_back({comm, send, receive, count, type, root, stream});
    return ncclGroupEnd();
}
}
