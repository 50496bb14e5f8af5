/* The host backend's table, memory and faults. The operations are in cpu_*.c, one family a file;
 * all of them are compiled once more for each set of instructions (cpu_open.c). */
#include "backend/cpu_product.h"
#include "base/bf16.h"
#include "base/memory.h"
#include "base/machine.h"

#include <stdlib.h>
#include <string.h>

void *la_cpu_scratch_get(la_backend *be, la_cpu_scratch which, size_t bytes) {
    la_cpu *cpu = be->context;
    if (bytes <= cpu->scratch_bytes[which])
        return cpu->scratch[which];
    free(cpu->scratch[which]);
    cpu->scratch_bytes[which] = 0;
    cpu->scratch[which] = be->ops->alloc(be, bytes);
    if (!cpu->scratch[which]) {
        (void)la_fail(&cpu->fault, LA_RESOURCE, "out of memory: a workspace of %zu bytes", bytes);
        return NULL;
    }
    cpu->scratch_bytes[which] = bytes;
    return cpu->scratch[which];
}

void *la_cpu_alloc(la_backend *be, size_t bytes) {
    (void)be;
    return la_memory_aligned(bytes);
}

void la_cpu_release(la_backend *be, void *memory) {
    (void)be;
    free(memory);
}

void la_cpu_upload(la_backend *be, void *to, const void *from, size_t bytes) {
    (void)be;
    memcpy(to, from, bytes);
}

void la_cpu_download(la_backend *be, void *to, const void *from, size_t bytes) {
    la_cpu_upload(be, to, from, bytes);
}

void la_cpu_zero(la_backend *be, void *memory, size_t bytes) {
    (void)be;
    memset(memory, 0, bytes);
}

/* Weights are rounded once, by way of f32 where they are of another type. */
static void round_all(la_backend *be, const void *host, la_dtype from, int64_t count,
                      uint16_t *to) {
    enum { PIECE = 4096 };
    size_t size = la_dtype_size(from);
#pragma omp parallel for schedule(static) num_threads(be->team.threads)
    for (int64_t at = 0; at < count; at += PIECE) {
        float wide[PIECE];
        int64_t n = count - at < PIECE ? count - at : PIECE;
        la_dtype_to_f32(from, (const char *)host + (size_t)at * size, n, wide);
        la_f32_to_bf16(wide, n, to + at);
    }
}

const void *la_cpu_place(la_backend *be, const void *host, la_dtype from, int64_t count,
                         la_dtype to, bool *copied) {
    size_t size = la_dtype_size(from);
    *copied = false;
    /* a checkpoint may lay a tensor at any byte; the kernels read whole numbers */
    if (from == to && (uintptr_t)host % size == 0)
        return host;
    void *memory = la_cpu_alloc(be, (size_t)count * la_dtype_size(to));
    if (!memory)
        return NULL;
    if (from == to)
        memcpy(memory, host, (size_t)count * size);
    else if (to == LA_BF16)
        round_all(be, host, from, count, memory);
    else
        la_dtype_to_f32(from, host, count, memory);
    *copied = true;
    return memory;
}

void la_cpu_memory(la_backend *be, size_t *available, size_t *total) {
    (void)be;
    la_memory_available(available, total);
}

la_status la_cpu_sync(la_backend *be, la_error *err) {
    la_cpu *cpu = be->context;
    if (cpu->fault.status == LA_OK)
        return LA_OK;
    *err = cpu->fault;
    cpu->fault.status = LA_OK;
    return err->status;
}

/* Operations are done when they return. */
void la_cpu_wait(la_backend *be) {
    (void)be;
}

/* Workspaces grow at their first use and are kept. */
size_t la_cpu_workspace(la_backend *be, const la_sizes *sizes) {
    int64_t step;
    size_t bytes = la_cpu_attention_bytes(be->team, sizes->max_length, sizes->max_relative);
    bytes += (size_t)(sizes->max_factor * sizes->max_factor) * sizeof(float);
    bytes += la_cpu_product_bytes();
    if (sizes->max_weight)
        bytes += la_cpu_panel_bytes(be, sizes->max_weight, sizes->max_width, &step);
    /* two matrices of the widest may be one product */
    int64_t rows = sizes->max_tokens * (sizes->n_rhs ? sizes->n_rhs : 1);
    if (be->precision == LA_PRECISION_BF16)
        bytes += la_cpu_narrow_bytes(be->team, rows, 2 * sizes->max_width);
    return bytes;
}

la_status la_cpu_reserve(la_backend *be, const la_sizes *sizes, la_error *err) {
    (void)sizes;
    return la_cpu_sync(be, err);
}

void la_cpu_close(la_backend *be) {
    la_cpu *cpu = be->context;
    for (int i = 0; cpu && i < LA_SCRATCHES; i++)
        free(cpu->scratch[i]);
    free(cpu);
    be->context = NULL;
}

la_status la_cpu_reduce(la_backend *const *devices, int n, double *const *sums, int64_t count,
                        la_error *err) {
    (void)devices, (void)err;
    for (int i = 1; i < n; i++)
        for (int64_t j = 0; j < count; j++)
            sums[0][j] += sums[i][j];
    return LA_OK;
}

/* The host draws where a backend does not. */
bool la_cpu_monte_carlo(la_backend *be, int64_t n, int64_t n_classes, const double *centre,
                        const double *spread, int64_t samples, uint64_t seed,
                        const uint64_t *streams, double *means) {
    (void)be, (void)n, (void)n_classes, (void)centre, (void)spread;
    (void)samples, (void)seed, (void)streams, (void)means;
    return false;
}

const la_ops la_cpu_ops = {
    .name = "cpu",
    .in_place = true,
    .own_products = LA_CPU_OWN_PRODUCTS,
#define LA_OP(cost, result, name, parameters, arguments) .name = la_cpu_##name,
#include "backend/ops.def"
};
