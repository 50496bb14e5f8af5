/* Declarations shared by the emulator's sources. One lock guards all its state, and is held through
 * every call: work of several host threads runs one after the other. */
#ifndef LA_EMULATION_EMULATOR_H
#define LA_EMULATION_EMULATOR_H

#include "cuda_runtime.h"

#include <functional>
#include <mutex>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define LA_EMULATED_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LA_EMULATED_ASAN 1
#endif
#endif

typedef std::lock_guard<std::recursive_mutex> la_emulated_guard;
std::recursive_mutex &la_emulated_mutex();

enum la_emulated_order_kind { LA_EMULATED_FORWARD, LA_EMULATED_REVERSE, LA_EMULATED_SHUFFLE };
la_emulated_order_kind la_emulated_order();

/* ---- fibers.cpp ---- */

void la_emulated_run_grid(const la_emulated_shape &shape, la_emulated_body &body);

/* ---- shared.cpp ---- */

struct la_emulated_span {
    unsigned char *at;
    size_t bytes;
};
/* The static shared memory of a kernel and of the device functions, on this OS thread. */
std::vector<la_emulated_span> la_emulated_static_shared(const void *kernel);
/* Bytes of the kernel's own. */
size_t la_emulated_static_shared_bytes(const void *kernel);

/* ---- memory.cpp ---- */

enum la_emulated_place { LA_EMULATED_PAGEABLE, LA_EMULATED_PINNED, LA_EMULATED_DEVICE };

/* Memory that holds [at, at + bytes). False when it is partly in an allocation only. */
bool la_emulated_locate(const void *at, size_t bytes, la_emulated_place *place, int *device);
/* Device memory may be touched while one of these lives. */
struct la_emulated_opened {
    la_emulated_opened();
    ~la_emulated_opened();
    la_emulated_opened(const la_emulated_opened &) = delete;
    la_emulated_opened &operator=(const la_emulated_opened &) = delete;
};

/* ---- streams.cpp ---- */

int la_emulated_device_count();
int la_emulated_current_device();
/* Keeps the error for cudaGetLastError, and returns it. */
cudaError_t la_emulated_error(cudaError_t error);
/* The stream's device; -1 when it is none. */
int la_emulated_stream_device(cudaStream_t stream);
/* Puts work on a stream. False when it is none. */
bool la_emulated_enqueue(cudaStream_t stream, std::function<void()> run);
/* Runs all work of a device's streams, the non-blocking ones too; device -1: of all devices. */
void la_emulated_drain_device(int device);
/* Runs the work of a stream. */
void la_emulated_drain_stream(cudaStream_t stream);

#endif
