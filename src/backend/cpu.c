/* The host backend's table, memory and faults. The operations are in cpu_*.c, one family a file. */
#include "backend/cpu.h"
#include "base/memory.h"
#include "base/threads.h"

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

static const void *cpu_place(la_backend *be, const void *host, la_dtype from, int64_t count,
                             la_dtype to, bool *copied) {
    size_t size = la_dtype_size(from);
    *copied = false;
    /* a checkpoint may lay a tensor at any byte; the kernels read whole numbers */
    if (from == to && (uintptr_t)host % size == 0)
        return host;
    void *memory = cpu_alloc(be, (size_t)count * la_dtype_size(to));
    if (!memory)
        return NULL;
    if (from == to)
        memcpy(memory, host, (size_t)count * size);
    else /* the host computes in f32: nothing asks it for another type */
        la_dtype_to_f32(from, host, count, memory);
    *copied = true;
    return memory;
}

static void cpu_memory(la_backend *be, size_t *available, size_t *total) {
    (void)be;
    la_memory_available(available, total);
}

static la_status cpu_sync(la_backend *be, la_error *err) {
    la_cpu *cpu = be->context;
    if (cpu->fault.status == LA_OK)
        return LA_OK;
    *err = cpu->fault;
    cpu->fault.status = LA_OK;
    return err->status;
}

/* Workspaces grow at their first use and are kept. */
static size_t cpu_workspace(la_backend *be, const la_sizes *sizes) {
    int64_t step;
    size_t bytes = la_cpu_attention_bytes(be->team, sizes->max_length, sizes->max_relative);
    bytes += (size_t)(sizes->max_factor * sizes->max_factor) * sizeof(float);
    if (sizes->max_weight)
        bytes += la_cpu_panel_bytes(sizes->max_weight, sizes->max_width, &step);
    return bytes;
}

static la_status cpu_reserve(la_backend *be, const la_sizes *sizes, la_error *err) {
    (void)sizes;
    return cpu_sync(be, err);
}

static void cpu_close(la_backend *be) {
    la_cpu *cpu = be->context;
    for (int i = 0; cpu && i < LA_SCRATCHES; i++)
        free(cpu->scratch[i]);
    free(cpu);
    be->context = NULL;
}

static la_status cpu_reduce(la_backend *const *devices, int n, double *const *sums, int64_t count,
                            la_error *err) {
    (void)devices, (void)err;
    for (int i = 1; i < n; i++)
        for (int64_t j = 0; j < count; j++)
            sums[0][j] += sums[i][j];
    return LA_OK;
}

static const la_ops cpu_ops = {
    .name = "cpu",
    .in_place = true,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .zero = cpu_zero,
    .place = cpu_place,
    .memory = cpu_memory,
    .workspace = cpu_workspace,
    .reserve = cpu_reserve,
    .sync = cpu_sync,
    .close = cpu_close,
    .linear = la_cpu_linear,
    .linear_activation = la_cpu_linear_activation,
    .linear_backward = la_cpu_linear_backward,
    .gemm = la_cpu_gemm,
    .embed = la_cpu_embed,
    .gather = la_cpu_gather,
    .scatter = la_cpu_scatter,
    .segment_sum = la_cpu_segment_sum,
    .segment_spread = la_cpu_segment_spread,
    .add = la_cpu_add,
    .append_one = la_cpu_append_one,
    .norm = la_cpu_norm,
    .norm_backward = la_cpu_norm_backward,
    .scale_columns = la_cpu_scale_columns,
    .activation = la_cpu_activation,
    .activation_backward = la_cpu_activation_backward,
    .rotate = la_cpu_rotate,
    .attention = la_cpu_attention,
    .attention_backward = la_cpu_attention_backward,
    .factor_add = la_cpu_factor_add,
    .sketch_add = la_cpu_sketch_add,
    .diagonal = la_cpu_diagonal,
    .square_add = la_cpu_square_add,
    .row_outer = la_cpu_row_outer,
    .column_squares = la_cpu_column_squares,
    .kron_quadratic = la_cpu_kron_quadratic,
    .eigh_bytes = la_cpu_eigh_bytes,
    .eigh = la_cpu_eigh,
    .reduce = cpu_reduce,
};

la_status la_backend_open_cpu(la_team team, la_backend *backend, la_error *err) {
    la_cpu *cpu = la_alloc(1, sizeof *cpu, err);
    if (!cpu)
        return err->status;
    *backend = (la_backend){.ops = &cpu_ops,
                            .context = cpu,
                            .team = team,
                            .precision = LA_PRECISION_F32,
                            .activation = LA_F32,
                            .device = "cpu"};
    return LA_OK;
}
