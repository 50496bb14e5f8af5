/* Device memory, and pinned host memory.
 *
 * Device memory is cut from one reserved range of addresses that is closed (PROT_NONE) except while
 * queued work runs, so that host code that dereferences a device pointer dies of it. With ASan, or
 * LA_EMULATED_MALLOC=1, it comes from malloc instead, and overruns are seen. */
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <sys/mman.h>

namespace {

const size_t ALIGNMENT = 256, PAGE = 4096, HUGE = 2 << 20;

struct allocation {
    size_t bytes, taken; /* asked for, and used up in the region */
    la_emulated_place place;
    int device;
    bool registered;
};

/* by first address */
typedef std::map<uintptr_t, allocation> allocations;

struct memory_state {
    allocations live;
    std::map<int, size_t> used;        /* by device */
    std::map<uintptr_t, size_t> holes; /* holes of the region, below its end */
    /* addresses of the region, which is used up to end */
    uintptr_t base = 0, end = 0, committed = 0;
    size_t reserved = 0;
    int opened = 0;
    bool leaks = false;
    ~memory_state();
};

memory_state &state() {
    static memory_state s;
    return s;
}

bool uses_malloc() {
#ifdef LA_EMULATED_ASAN
    return true;
#else
    static const char *set = getenv("LA_EMULATED_MALLOC");
    return set && *set == '1';
#endif
}

size_t device_bytes() {
    static const char *set = getenv("LA_EMULATED_MEMORY");
    return set ? strtoull(set, nullptr, 10) : size_t(8) << 30;
}

memory_state::~memory_state() {
    const char *wanted = getenv("LA_EMULATED_LEAKS");
    if (!wanted || *wanted != '1')
        return;
    for (const auto &entry : live)
        if (!entry.second.registered)
            fprintf(stderr, "emulated device %d: leak of %zu bytes of %s memory at %p\n",
                    entry.second.device, entry.second.bytes,
                    entry.second.place == LA_EMULATED_DEVICE ? "device" : "pinned host",
                    reinterpret_cast<void *>(entry.first));
}

void protect(memory_state &s, bool open) {
    if (s.committed > s.base && mprotect(reinterpret_cast<void *>(s.base), s.committed - s.base,
                                         open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        la_emulated_abort("cannot change the protection of device memory");
}

bool reserve(memory_state &s) {
    for (int shift = 37; !s.base && shift >= 32; shift--) {
        void *at = mmap(nullptr, size_t(1) << shift, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            continue;
        s.base = (reinterpret_cast<uintptr_t>(at) + HUGE - 1) / HUGE * HUGE;
        s.end = s.committed = s.base;
        s.reserved = (size_t(1) << shift) - HUGE;
        /* opening and closing costs by page */
        madvise(reinterpret_cast<void *>(s.base), s.reserved, MADV_HUGEPAGE);
    }
    return s.base != 0;
}

/* First fit, else at the end. */
void *region_take(memory_state &s, size_t taken) {
    if (!reserve(s))
        return nullptr;
    for (auto hole = s.holes.begin(); hole != s.holes.end(); ++hole) {
        if (hole->second < taken)
            continue;
        uintptr_t at = hole->first;
        size_t rest = hole->second - taken;
        s.holes.erase(hole);
        if (rest)
            s.holes[at + taken] = rest;
        return reinterpret_cast<void *>(at);
    }
    if (taken > s.base + s.reserved - s.end)
        return nullptr;
    uintptr_t at = s.end;
    s.end += taken;
    if (s.end > s.committed) {
        /* in steps, and open like the rest */
        size_t step = size_t(4) << 20;
        uintptr_t to = s.base + (s.end - s.base + step - 1) / step * step;
        mprotect(reinterpret_cast<void *>(s.committed), to - s.committed,
                 s.opened ? PROT_READ | PROT_WRITE : PROT_NONE);
        s.committed = to;
    }
    return reinterpret_cast<void *>(at);
}

void region_give(memory_state &s, uintptr_t at, size_t taken) {
    /* whole (huge) pages inside go back to the system */
    uintptr_t first = (at + HUGE - 1) / HUGE * HUGE, last = (at + taken) / HUGE * HUGE;
    if (last > first)
        madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
    auto next = s.holes.lower_bound(at);
    if (next != s.holes.end() && next->first == at + taken) {
        taken += next->second;
        next = s.holes.erase(next);
    }
    if (next != s.holes.begin()) {
        auto before = std::prev(next);
        if (before->first + before->second == at) {
            at = before->first;
            taken += before->second;
            s.holes.erase(before);
        }
    }
    if (at + taken == s.end)
        s.end = at;
    else
        s.holes[at] = taken;
}

cudaError_t device_take(void **memory, size_t bytes) {
    memory_state &s = state();
    int device = la_emulated_current_device();
    if (!memory)
        return cudaErrorInvalidValue;
    *memory = nullptr;
    if (la_emulated_device_count() == 0)
        return cudaErrorNoDevice;
    if (!bytes)
        return cudaSuccess;
    if (bytes > device_bytes() || s.used[device] > device_bytes() - bytes)
        return cudaErrorMemoryAllocation;
    size_t taken = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *at = nullptr;
    if (uses_malloc()) {
        if (posix_memalign(&at, ALIGNMENT, bytes) != 0)
            at = nullptr;
    } else {
        at = region_take(s, taken);
    }
    if (!at)
        return cudaErrorMemoryAllocation;
    la_emulated_opened opened;
    memset(at, 0xff, bytes);
    s.live[reinterpret_cast<uintptr_t>(at)] = {bytes, taken, LA_EMULATED_DEVICE, device, false};
    s.used[device] += bytes;
    *memory = at;
    return cudaSuccess;
}

cudaError_t device_give(void *memory) {
    memory_state &s = state();
    auto found = s.live.find(reinterpret_cast<uintptr_t>(memory));
    if (found == s.live.end() || found->second.place != LA_EMULATED_DEVICE)
        return cudaErrorInvalidValue;
    allocation gone = found->second;
    s.live.erase(found);
    s.used[gone.device] -= gone.bytes;
    if (uses_malloc())
        free(memory);
    else
        region_give(s, reinterpret_cast<uintptr_t>(memory), gone.taken);
    return cudaSuccess;
}

/* Allocation that holds address at; NULL: none. */
const allocation *holder(uintptr_t at, uintptr_t *first) {
    memory_state &s = state();
    auto next = s.live.upper_bound(at);
    if (next == s.live.begin())
        return nullptr;
    --next;
    *first = next->first;
    return at - next->first < next->second.bytes ? &next->second : nullptr;
}

} // namespace

la_emulated_opened::la_emulated_opened() {
    if (state().opened++ == 0 && !uses_malloc())
        protect(state(), true);
}

la_emulated_opened::~la_emulated_opened() {
    if (--state().opened == 0 && !uses_malloc())
        protect(state(), false);
}

bool la_emulated_locate(const void *at, size_t bytes, la_emulated_place *place, int *device) {
    uintptr_t address = reinterpret_cast<uintptr_t>(at), first = 0;
    const allocation *in = holder(address, &first);
    *place = in ? in->place : LA_EMULATED_PAGEABLE;
    *device = in ? in->device : -1;
    if (in)
        return bytes <= first + in->bytes - address;
    /* in the region, but in no allocation of it */
    const memory_state &s = state();
    return address < s.base || address >= s.base + s.reserved;
}

extern "C" {

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    la_emulated_guard guard(la_emulated_mutex());
    return la_emulated_error(device_take(memory, bytes));
}

cudaError_t cudaFree(void *memory) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!memory)
        return la_emulated_device_count() ? cudaSuccess : la_emulated_error(cudaErrorNoDevice);
    la_emulated_place place;
    int device;
    la_emulated_locate(memory, 1, &place, &device);
    if (place != LA_EMULATED_DEVICE)
        return la_emulated_error(cudaErrorInvalidValue);
    la_emulated_drain_device(device);
    return la_emulated_error(device_give(memory));
}

cudaError_t cudaMallocAsync(void **memory, size_t bytes, cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    if (la_emulated_stream_device(stream) < 0)
        return la_emulated_error(cudaErrorInvalidResourceHandle);
    return la_emulated_error(device_take(memory, bytes));
}

cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    uintptr_t first = 0;
    if (!memory)
        return cudaSuccess;
    const allocation *in = holder(reinterpret_cast<uintptr_t>(memory), &first);
    if (!in || in->place != LA_EMULATED_DEVICE || first != reinterpret_cast<uintptr_t>(memory))
        return la_emulated_error(cudaErrorInvalidValue);
    return la_emulated_enqueue(stream, [memory] { device_give(memory); })
               ? cudaSuccess
               : la_emulated_error(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!memory || flags > 7)
        return la_emulated_error(cudaErrorInvalidValue);
    *memory = nullptr;
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    if (!bytes)
        return cudaSuccess;
    if (posix_memalign(memory, PAGE, bytes) != 0) {
        *memory = nullptr;
        return la_emulated_error(cudaErrorMemoryAllocation);
    }
    memset(*memory, 0xff, bytes);
    state().live[reinterpret_cast<uintptr_t>(*memory)] = {bytes, 0, LA_EMULATED_PINNED,
                                                          la_emulated_current_device(), false};
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **memory, size_t bytes) {
    return cudaHostAlloc(memory, bytes, 0);
}

/* Memory stops being pinned only when no copy needs it any more. */
static cudaError_t unpin(void *memory, bool registered, cudaError_t otherwise) {
    allocations &live = state().live;
    auto found = live.find(reinterpret_cast<uintptr_t>(memory));
    if (found == live.end() || found->second.place != LA_EMULATED_PINNED ||
        found->second.registered != registered)
        return la_emulated_error(otherwise);
    la_emulated_drain_device(-1);
    live.erase(reinterpret_cast<uintptr_t>(memory));
    if (!registered)
        free(memory);
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory) {
    la_emulated_guard guard(la_emulated_mutex());
    return memory ? unpin(memory, false, cudaErrorInvalidValue) : cudaSuccess;
}

cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned) {
    la_emulated_guard guard(la_emulated_mutex());
    uintptr_t at = reinterpret_cast<uintptr_t>(memory), first = 0;
    if (!memory || !bytes)
        return la_emulated_error(cudaErrorInvalidValue);
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    allocations &live = state().live;
    auto next = live.lower_bound(at);
    if (holder(at, &first) || (next != live.end() && next->first < at + bytes))
        return la_emulated_error(cudaErrorHostMemoryAlreadyRegistered);
    live[at] = {bytes, 0, LA_EMULATED_PINNED, la_emulated_current_device(), true};
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *memory) {
    la_emulated_guard guard(la_emulated_mutex());
    return unpin(memory, true, cudaErrorHostMemoryNotRegistered);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!available || !total)
        return la_emulated_error(cudaErrorInvalidValue);
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    *total = device_bytes();
    *available = *total - state().used[la_emulated_current_device()];
    return cudaSuccess;
}
}
