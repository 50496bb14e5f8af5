/* Streams and events: queues of work that run when something waits for them. */
#include "emulator.h"

#include <cstdlib>
#include <ctime>
#include <deque>
#include <map>
#include <memory>
#include <set>

namespace {

struct entry {
    uint64_t number; /* rises over all streams */
    std::function<void()> run;
};

/* One recording of an event. */
struct recording {
    CUstream_st *stream; /* dangling once done */
    uint64_t number;
    bool done;
    double seconds;
};

/* After how many calls in a row a query that finds work not done runs it: programs may poll. */
const unsigned PATIENCE = 16;

} // namespace

struct CUstream_st {
    int device;
    bool is_default, blocking; /* blocking: ordered with the device's default stream */
    bool destroyed;
    std::deque<entry> queue;
    unsigned queries;
};

struct CUevent_st {
    int device;
    bool timing;
    std::shared_ptr<recording> last; /* NULL before the first */
    unsigned queries;
};

namespace {

struct stream_state {
    std::vector<CUstream_st *> streams; /* in order of creation */
    std::map<int, CUstream_st *> defaults;
    std::set<CUevent_st *> events;
    uint64_t next_number = 1;
    std::set<std::pair<int, int>> peers;
    ~stream_state() {
        for (CUstream_st *s : streams)
            delete s;
    }
};

stream_state &state() {
    static stream_state s;
    return s;
}

thread_local int current_device;
thread_local cudaError_t last_error = cudaSuccess;

CUstream_st *stream_new(int device, bool is_default, bool blocking) {
    CUstream_st *s = new CUstream_st{device, is_default, blocking, false, {}, 0};
    state().streams.push_back(s);
    return s;
}

/* NULL when the handle is none. */
CUstream_st *stream_of(cudaStream_t stream) {
    if (!stream || stream == cudaStreamLegacy) {
        if (current_device >= la_emulated_device_count())
            return nullptr;
        CUstream_st *&s = state().defaults[current_device];
        if (!s)
            s = stream_new(current_device, true, true);
        return s;
    }
    for (CUstream_st *s : state().streams)
        if (s == stream && !s->destroyed && !s->is_default)
            return s;
    return nullptr;
}

double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/* Runs a stream's work up to the given number. */
void drain(CUstream_st *s, uint64_t number) {
    if (s->queue.empty() || s->queue.front().number > number)
        return;
    la_emulated_opened opened;
    while (!s->queue.empty() && s->queue.front().number <= number) {
        entry next = std::move(s->queue.front());
        s->queue.pop_front();
        /* the default stream and the blocking ones wait for each other */
        if (s->is_default) {
            for (size_t i = 0; i < state().streams.size(); i++) {
                CUstream_st *other = state().streams[i];
                if (other->device == s->device && other->blocking && !other->is_default)
                    drain(other, next.number);
            }
        } else if (s->blocking && state().defaults.count(s->device)) {
            drain(state().defaults[s->device], next.number);
        }
        next.run();
    }
}

void sweep() {
    std::vector<CUstream_st *> &streams = state().streams;
    for (size_t i = 0; i < streams.size();) {
        if (streams[i]->destroyed && streams[i]->queue.empty()) {
            delete streams[i];
            streams.erase(streams.begin() + static_cast<std::ptrdiff_t>(i));
        } else {
            i++;
        }
    }
}

cudaError_t no_handle() {
    return la_emulated_error(cudaErrorInvalidResourceHandle);
}

bool is_event(cudaEvent_t event) {
    return state().events.count(event) != 0;
}

} // namespace

std::recursive_mutex &la_emulated_mutex() {
    static std::recursive_mutex mutex;
    return mutex;
}

int la_emulated_device_count() {
    static const char *set = getenv("LA_EMULATED_DEVICES");
    static const int count = set ? atoi(set) : 1;
    return count;
}

int la_emulated_current_device() {
    return current_device;
}

cudaError_t la_emulated_error(cudaError_t error) {
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

int la_emulated_stream_device(cudaStream_t stream) {
    CUstream_st *s = stream_of(stream);
    return s ? s->device : -1;
}

bool la_emulated_enqueue(cudaStream_t stream, std::function<void()> run) {
    CUstream_st *s = stream_of(stream);
    if (!s)
        return false;
    s->queue.push_back({state().next_number++, std::move(run)});
    s->queries = 0;
    return true;
}

void la_emulated_drain_device(int device) {
    std::vector<CUstream_st *> streams = state().streams;
    for (size_t i = 0; i < streams.size(); i++) {
        /* independent streams in either order */
        size_t at = la_emulated_order() == LA_EMULATED_FORWARD ? i : streams.size() - 1 - i;
        if (device < 0 || streams[at]->device == device)
            drain(streams[at], UINT64_MAX);
    }
    sweep();
}

void la_emulated_drain_stream(cudaStream_t stream) {
    if (CUstream_st *s = stream_of(stream))
        drain(s, UINT64_MAX);
}

extern "C" {

cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) {
    return last_error;
}

cudaError_t cudaSetDevice(int device) {
    la_emulated_guard guard(la_emulated_mutex());
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    if (device < 0 || device >= la_emulated_device_count())
        return la_emulated_error(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
    la_emulated_guard guard(la_emulated_mutex());
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    la_emulated_drain_device(current_device);
    return cudaSuccess;
}

cudaError_t cudaDeviceReset(void) {
    return cudaDeviceSynchronize();
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
    int count = la_emulated_device_count();
    if (!can || device < 0 || device >= count || peer < 0 || peer >= count)
        return la_emulated_error(cudaErrorInvalidDevice);
    *can = device != peer;
    return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
    la_emulated_guard guard(la_emulated_mutex());
    if (flags)
        return la_emulated_error(cudaErrorInvalidValue);
    if (peer < 0 || peer >= la_emulated_device_count() || peer == current_device)
        return la_emulated_error(cudaErrorInvalidDevice);
    return state().peers.insert({current_device, peer}).second
               ? cudaSuccess
               : la_emulated_error(cudaErrorPeerAccessAlreadyEnabled);
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
    la_emulated_guard guard(la_emulated_mutex());
    return state().peers.erase({current_device, peer})
               ? cudaSuccess
               : la_emulated_error(cudaErrorPeerAccessNotEnabled);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!stream || flags > cudaStreamNonBlocking)
        return la_emulated_error(cudaErrorInvalidValue);
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    *stream = stream_new(current_device, false, flags == cudaStreamDefault);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

/* Returns at once; what is queued still runs when something waits for the device. */
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    CUstream_st *s = stream_of(stream);
    if (!s || s->is_default)
        return no_handle();
    s->destroyed = true;
    sweep();
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    CUstream_st *s = stream_of(stream);
    if (!s)
        return no_handle();
    drain(s, UINT64_MAX);
    /* the default stream's end is the blocking streams' too */
    if (s->is_default)
        for (CUstream_st *other : std::vector<CUstream_st *>(state().streams))
            if (other->device == s->device && other->blocking)
                drain(other, UINT64_MAX);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    CUstream_st *s = stream_of(stream);
    if (!s)
        return no_handle();
    if (!s->queue.empty() && ++s->queries < PATIENCE)
        return la_emulated_error(cudaErrorNotReady);
    drain(s, UINT64_MAX);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!is_event(event) || !stream_of(stream))
        return no_handle();
    if (flags)
        return la_emulated_error(cudaErrorInvalidValue);
    std::shared_ptr<recording> last = event->last;
    if (last && !last->done)
        la_emulated_enqueue(stream, [last] {
            if (!last->done)
                drain(last->stream, last->number);
        });
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!event || flags & ~3u)
        return la_emulated_error(cudaErrorInvalidValue);
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    *event = new CUevent_st{current_device, !(flags & cudaEventDisableTiming), nullptr, 0};
    state().events.insert(*event);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!is_event(event))
        return no_handle();
    state().events.erase(event);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    CUstream_st *s = stream_of(stream);
    if (!is_event(event) || !s || s->device != event->device)
        return no_handle();
    std::shared_ptr<recording> next = std::make_shared<recording>();
    *next = {s, state().next_number, false, 0};
    event->last = next;
    event->queries = 0;
    la_emulated_enqueue(stream, [next] {
        next->done = true;
        next->seconds = now();
    });
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!is_event(event))
        return no_handle();
    if (event->last && !event->last->done)
        drain(event->last->stream, event->last->number);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!is_event(event))
        return no_handle();
    if (event->last && !event->last->done && ++event->queries < PATIENCE)
        return la_emulated_error(cudaErrorNotReady);
    return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!is_event(start) || !is_event(end) || !start->timing || !end->timing || !start->last ||
        !end->last)
        return no_handle();
    if (!start->last->done || !end->last->done)
        return la_emulated_error(cudaErrorNotReady);
    *milliseconds = static_cast<float>((end->last->seconds - start->last->seconds) * 1e3);
    return cudaSuccess;
}
}
