/* The runtime's other calls: devices' properties, copies and launches. */
#include "emulator.h"

#include <climits>
#include <cstdlib>
#include <map>
#include <memory>

namespace {

const size_t SHARED_DEFAULT = 48 << 10, SHARED_LIMIT = 101376; /* bytes of a block */
const int PROCESSORS = 4; /* few, so that loops over a grid go round */

int order = -1;

/* cudaFuncAttributeMaxDynamicSharedMemorySize, by kernel */
std::map<const void *, size_t> &shared_allowed() {
    static std::map<const void *, size_t> allowed;
    return allowed;
}

int order_of(const char *name) {
    if (!name || !*name || !strcmp(name, "forward"))
        return LA_EMULATED_FORWARD;
    if (!strcmp(name, "reverse"))
        return LA_EMULATED_REVERSE;
    if (!strcmp(name, "shuffle"))
        return LA_EMULATED_SHUFFLE;
    la_emulated_abort("LA_EMULATED_ORDER is forward, reverse or shuffle, not %s", name);
}

struct rectangle {
    void *to;
    size_t to_pitch;
    const void *from;
    size_t from_pitch, width, height;
};

size_t extent(size_t pitch, size_t width, size_t height) {
    return height ? pitch * (height - 1) + width : 0;
}

void copy_now(const rectangle &r) {
    if (r.to_pitch == r.width && r.from_pitch == r.width) {
        memmove(r.to, r.from, r.width * r.height);
        return;
    }
    for (size_t i = 0; i < r.height; i++)
        memmove(static_cast<unsigned char *>(r.to) + i * r.to_pitch,
                static_cast<const unsigned char *>(r.from) + i * r.from_pitch, r.width);
}

bool kind_fits(cudaMemcpyKind kind, bool to_device, bool from_device) {
    switch (kind) {
    case cudaMemcpyHostToHost:
        return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
        return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
        return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
        return to_device && from_device;
    case cudaMemcpyDefault:
        return true;
    }
    return false;
}

/* waits: for copies that involve the host to be over on return */
cudaError_t copy(rectangle r, cudaMemcpyKind kind, cudaStream_t stream, bool waits) {
    la_emulated_guard guard(la_emulated_mutex());
    la_emulated_place to, from;
    int to_on, from_on;
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    if (la_emulated_stream_device(stream) < 0)
        return la_emulated_error(cudaErrorInvalidResourceHandle);
    if (r.width == 0 || r.height == 0)
        return cudaSuccess;
    if (r.width > r.to_pitch || r.width > r.from_pitch)
        return la_emulated_error(cudaErrorInvalidPitchValue);
    if (!r.to || !r.from ||
        !la_emulated_locate(r.to, extent(r.to_pitch, r.width, r.height), &to, &to_on) ||
        !la_emulated_locate(r.from, extent(r.from_pitch, r.width, r.height), &from, &from_on) ||
        !kind_fits(kind, to == LA_EMULATED_DEVICE, from == LA_EMULATED_DEVICE))
        return la_emulated_error(cudaErrorInvalidValue);
    if (from == LA_EMULATED_PAGEABLE && to == LA_EMULATED_DEVICE) {
        /* staged: the source is the caller's again on return */
        auto staged = std::make_shared<std::vector<unsigned char>>(r.width * r.height);
        copy_now({staged->data(), r.width, r.from, r.from_pitch, r.width, r.height});
        la_emulated_enqueue(stream, [r, staged] {
            copy_now({r.to, r.to_pitch, staged->data(), r.width, r.width, r.height});
        });
    } else {
        la_emulated_enqueue(stream, [r] { copy_now(r); });
    }
    bool host_only = to != LA_EMULATED_DEVICE && from != LA_EMULATED_DEVICE;
    bool device_only = to == LA_EMULATED_DEVICE && from == LA_EMULATED_DEVICE;
    if (to == LA_EMULATED_PAGEABLE || host_only || (waits && !device_only))
        la_emulated_drain_stream(stream);
    return cudaSuccess;
}

cudaError_t fill(void *memory, size_t pitch, int value, size_t width, size_t height,
                 cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    la_emulated_place place;
    int device;
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    if (la_emulated_stream_device(stream) < 0)
        return la_emulated_error(cudaErrorInvalidResourceHandle);
    if (width == 0 || height == 0)
        return cudaSuccess;
    if (width > pitch ||
        !la_emulated_locate(memory, extent(pitch, width, height), &place, &device) ||
        place == LA_EMULATED_PAGEABLE)
        return la_emulated_error(cudaErrorInvalidValue);
    la_emulated_enqueue(stream, [=] {
        for (size_t i = 0; i < height; i++)
            memset(static_cast<unsigned char *>(memory) + i * pitch, value, width);
    });
    return cudaSuccess;
}

cudaError_t copy_between(void *to, int to_device, const void *from, int from_device, size_t bytes,
                         cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    la_emulated_place place;
    int to_on, from_on;
    int count = la_emulated_device_count();
    if (to_device < 0 || to_device >= count || from_device < 0 || from_device >= count)
        return la_emulated_error(cudaErrorInvalidDevice);
    la_emulated_locate(to, bytes, &place, &to_on);
    la_emulated_locate(from, bytes, &place, &from_on);
    if (bytes && (to_on != to_device || from_on != from_device))
        return la_emulated_error(cudaErrorInvalidValue);
    return copy({to, bytes, from, bytes, bytes, 1}, cudaMemcpyDeviceToDevice, stream, false);
}

} // namespace

la_emulated_order_kind la_emulated_order() {
    if (order < 0)
        order = order_of(getenv("LA_EMULATED_ORDER"));
    return static_cast<la_emulated_order_kind>(order);
}

/* ---- launches ---- */

bool la_emulated_launch_allowed(const la_emulated_shape &shape, cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    const dim3 &g = shape.grid, &b = shape.block;
    cudaError_t error = cudaSuccess;
    auto allowed = shared_allowed().find(shape.kernel);
    size_t own = la_emulated_static_shared_bytes(shape.kernel);
    size_t limit = allowed != shared_allowed().end() && allowed->second > SHARED_DEFAULT
                       ? allowed->second + own
                       : SHARED_DEFAULT;
    int device = la_emulated_stream_device(stream);
    if (la_emulated_device_count() == 0)
        error = cudaErrorNoDevice;
    else if (device < 0 || device != la_emulated_current_device())
        error = cudaErrorInvalidResourceHandle;
    else if (!g.x || !g.y || !g.z || !b.x || !b.y || !b.z || g.x > INT_MAX || g.y > 65535 ||
             g.z > 65535 || b.x > 1024 || b.y > 1024 || b.z > 64 || b.x * b.y * b.z > 1024)
        error = cudaErrorInvalidConfiguration;
    else if (own + shape.shared_bytes > limit || own + shape.shared_bytes > SHARED_LIMIT)
        error = cudaErrorInvalidValue;
    return la_emulated_error(error) == cudaSuccess;
}

void la_emulated_launch_queue(const la_emulated_shape &shape, la_emulated_body *body,
                              cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    std::shared_ptr<la_emulated_body> kept(body);
    la_emulated_enqueue(stream, [shape, kept] { la_emulated_run_grid(shape, *kept); });
}

cudaError_t la_emulated_func_set_attribute(const void *kernel, cudaFuncAttribute attribute,
                                           int value) {
    la_emulated_guard guard(la_emulated_mutex());
    if (la_emulated_device_count() == 0)
        return la_emulated_error(cudaErrorNoDevice);
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
        return cudaSuccess;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        static_cast<size_t>(value) + la_emulated_static_shared_bytes(kernel) > SHARED_LIMIT)
        return la_emulated_error(cudaErrorInvalidValue);
    shared_allowed()[kernel] = static_cast<size_t>(value);
    return cudaSuccess;
}

extern "C" {

void la_emulated_set_order(int kind) {
    la_emulated_guard guard(la_emulated_mutex());
    order = kind;
}

/* ---- errors and versions ---- */

const char *cudaGetErrorName(cudaError_t error) {
#define LA_EMULATED_NAME(e)                                                                        \
    case e:                                                                                        \
        return #e;
    switch (error) {
        LA_EMULATED_NAME(cudaSuccess)
        LA_EMULATED_NAME(cudaErrorInvalidValue)
        LA_EMULATED_NAME(cudaErrorMemoryAllocation)
        LA_EMULATED_NAME(cudaErrorInitializationError)
        LA_EMULATED_NAME(cudaErrorInvalidConfiguration)
        LA_EMULATED_NAME(cudaErrorInvalidPitchValue)
        LA_EMULATED_NAME(cudaErrorInvalidMemcpyDirection)
        LA_EMULATED_NAME(cudaErrorInsufficientDriver)
        LA_EMULATED_NAME(cudaErrorInvalidDeviceFunction)
        LA_EMULATED_NAME(cudaErrorNoDevice)
        LA_EMULATED_NAME(cudaErrorInvalidDevice)
        LA_EMULATED_NAME(cudaErrorPeerAccessUnsupported)
        LA_EMULATED_NAME(cudaErrorInvalidResourceHandle)
        LA_EMULATED_NAME(cudaErrorNotReady)
        LA_EMULATED_NAME(cudaErrorIllegalAddress)
        LA_EMULATED_NAME(cudaErrorLaunchOutOfResources)
        LA_EMULATED_NAME(cudaErrorPeerAccessAlreadyEnabled)
        LA_EMULATED_NAME(cudaErrorPeerAccessNotEnabled)
        LA_EMULATED_NAME(cudaErrorHostMemoryAlreadyRegistered)
        LA_EMULATED_NAME(cudaErrorHostMemoryNotRegistered)
        LA_EMULATED_NAME(cudaErrorLaunchFailure)
        LA_EMULATED_NAME(cudaErrorNotSupported)
        LA_EMULATED_NAME(cudaErrorUnknown)
    }
#undef LA_EMULATED_NAME
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
        return "invalid resource handle";
    case cudaErrorNotReady:
        return "device not ready";
    default:
        return cudaGetErrorName(error);
    }
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* ---- devices ---- */

cudaError_t cudaGetDeviceCount(int *count) {
    if (!count)
        return la_emulated_error(cudaErrorInvalidValue);
    *count = la_emulated_device_count();
    return *count ? cudaSuccess : la_emulated_error(cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device) {
    if (!prop || device < 0 || device >= la_emulated_device_count())
        return la_emulated_error(prop ? cudaErrorInvalidDevice : cudaErrorInvalidValue);
    la_emulated_guard guard(la_emulated_mutex());
    size_t available, total;
    cudaMemGetInfo(&available, &total);
    *prop = {};
    strcpy(prop->name, "emulated");
    prop->totalGlobalMem = total;
    prop->sharedMemPerBlock = SHARED_DEFAULT;
    prop->sharedMemPerBlockOptin = SHARED_LIMIT;
    prop->sharedMemPerMultiprocessor = SHARED_LIMIT + 1024;
    prop->major = 8;
    prop->minor = 6;
    prop->multiProcessorCount = PROCESSORS;
    prop->warpSize = 32;
    prop->maxThreadsPerBlock = 1024;
    prop->maxThreadsPerMultiProcessor = 1536;
    prop->maxThreadsDim[0] = prop->maxThreadsDim[1] = 1024;
    prop->maxThreadsDim[2] = 64;
    prop->maxGridSize[0] = INT_MAX;
    prop->maxGridSize[1] = prop->maxGridSize[2] = 65535;
    prop->regsPerBlock = 65536;
    prop->concurrentKernels = prop->unifiedAddressing = prop->canMapHostMemory = 1;
    prop->l2CacheSize = 4 << 20;
    prop->asyncEngineCount = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attr, int device) {
    if (!value || device < 0 || device >= la_emulated_device_count())
        return la_emulated_error(value ? cudaErrorInvalidDevice : cudaErrorInvalidValue);
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = 1024;
        return cudaSuccess;
    case cudaDevAttrMaxGridDimX:
        *value = INT_MAX;
        return cudaSuccess;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
        *value = 65535;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = static_cast<int>(SHARED_DEFAULT);
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = static_cast<int>(SHARED_LIMIT);
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = static_cast<int>(SHARED_LIMIT + 1024);
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = 32;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = PROCESSORS;
        return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = 1536;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = 8;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = 6;
        return cudaSuccess;
    case cudaDevAttrHostRegisterSupported:
    case cudaDevAttrHostRegisterReadOnlySupported:
    case cudaDevAttrMemoryPoolsSupported:
        *value = 1;
        return cudaSuccess;
    case cudaDevAttrIntegrated:
    case cudaDevAttrPageableMemoryAccess:
        *value = 0;
        return cudaSuccess;
    }
    return la_emulated_error(cudaErrorInvalidValue);
}

/* ---- copies ---- */

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    return copy({to, bytes, from, bytes, bytes, 1}, kind, nullptr, true);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    return copy({to, bytes, from, bytes, bytes, 1}, kind, stream, false);
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind) {
    return copy({to, to_pitch, from, from_pitch, width, height}, kind, nullptr, true);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
    return copy({to, to_pitch, from, from_pitch, width, height}, kind, stream, false);
}

cudaError_t cudaMemcpyPeer(void *to, int to_device, const void *from, int from_device,
                           size_t bytes) {
    return copy_between(to, to_device, from, from_device, bytes, nullptr);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device,
                                size_t bytes, cudaStream_t stream) {
    return copy_between(to, to_device, from, from_device, bytes, stream);
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes) {
    return fill(memory, bytes, value, bytes, 1, nullptr);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
    return fill(memory, bytes, value, bytes, 1, stream);
}

cudaError_t cudaMemset2DAsync(void *memory, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
    return fill(memory, pitch, value, width, height, stream);
}
}
