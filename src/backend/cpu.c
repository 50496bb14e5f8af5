/* The host backend's table, memory and faults. The operations are in cpu_*.c, one family a file. */
#include "backend/cpu.h"
#include "base/memory.h"

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
        la_fail(&cpu->fault, LA_RESOURCE, "out of memory: a workspace of %zu bytes", bytes);
        return NULL;
    }
    cpu->scratch_bytes[which] = bytes;
    return cpu->scratch[which];
}

static void *cpu_alloc(la_backend *be, size_t bytes) {
    (void)be;
    if (bytes > SIZE_MAX - 64)
        return NULL;
    return aligned_alloc(64, (bytes + 64) & ~(size_t)63);
}

static void cpu_release(la_backend *be, void *memory) {
    (void)be;
    free(memory);
}

static void cpu_copy(la_backend *be, void *to, const void *from, size_t bytes) {
    (void)be;
    memcpy(to, from, bytes);
}

static void cpu_zero(la_backend *be, void *memory, size_t bytes) {
    (void)be;
    memset(memory, 0, bytes);
}

static const void *cpu_place(la_backend *be, const void *host, size_t bytes, bool *copied) {
    *copied = false;
    /* a checkpoint may lay a tensor at any byte; the kernels read whole floats */
    if ((uintptr_t)host % sizeof(float) == 0)
        return host;
    void *memory = cpu_alloc(be, bytes);
    if (memory)
        memcpy(memory, host, bytes);
    *copied = memory != NULL;
    return memory;
}

static la_status cpu_sync(la_backend *be, la_error *err) {
    la_cpu *cpu = be->context;
    if (cpu->fault.status == LA_OK)
        return LA_OK;
    *err = cpu->fault;
    cpu->fault.status = LA_OK;
    return err->status;
}

static la_status cpu_reserve(la_backend *be, int64_t max_tokens, int64_t max_length,
                             int64_t max_width, la_error *err) {
    /* workspaces grow at their first use and are kept */
    (void)max_tokens, (void)max_length, (void)max_width;
    return cpu_sync(be, err);
}

static void cpu_close(la_backend *be) {
    la_cpu *cpu = be->context;
    for (int i = 0; cpu && i < LA_SCRATCHES; i++)
        free(cpu->scratch[i]);
    free(cpu);
    be->context = NULL;
}

static const la_ops cpu_ops = {
    .name = "cpu",
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .zero = cpu_zero,
    .place = cpu_place,
    .reserve = cpu_reserve,
    .sync = cpu_sync,
    .close = cpu_close,
    .linear = la_cpu_linear,
    .linear_backward = la_cpu_linear_backward,
    .gemm = la_cpu_gemm,
    .embed = la_cpu_embed,
    .gather = la_cpu_gather,
    .scatter = la_cpu_scatter,
    .segment_sum = la_cpu_segment_sum,
    .add = la_cpu_add,
    .append_one = la_cpu_append_one,
    .norm = la_cpu_norm,
    .norm_backward = la_cpu_norm_backward,
    .activation = la_cpu_activation,
    .activation_backward = la_cpu_activation_backward,
    .rotate = la_cpu_rotate,
    .attention = la_cpu_attention,
    .attention_backward = la_cpu_attention_backward,
    .factor_add = la_cpu_factor_add,
    .square_add = la_cpu_square_add,
    .row_outer = la_cpu_row_outer,
    .kron_quadratic = la_cpu_kron_quadratic,
    .eigh = la_cpu_eigh,
};

la_status la_backend_open_cpu(la_backend *backend, la_error *err) {
    la_cpu *cpu = la_alloc(1, sizeof *cpu, err);
    if (!cpu)
        return err->status;
    *backend = (la_backend){.ops = &cpu_ops, .context = cpu, .device = "cpu"};
    return LA_OK;
}

la_status la_backend_open(const char *device, la_backend *backend, const la_log *log,
                          la_error *err) {
    (void)log;
    if (!device || !strcmp(device, "auto") || !strcmp(device, "cpu"))
        return la_backend_open_cpu(backend, err);
    if (!strncmp(device, "cuda", 4))
        return la_fail(err, LA_RESOURCE,
                       "--device %s: this laplora was built without CUDA; use --device cpu",
                       device);
    return la_fail(err, LA_USAGE, "--device \"%s\": expected auto, cpu or cuda", device);
}
