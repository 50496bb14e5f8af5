/* The host backend by the instructions of the machine. The operations (cpu.c, cpu_*.c, quant.c) are
 * compiled for what every processor of the kind has, and again for each set of instructions below,
 * so that one program is fast on all of them. */
#include "backend/cpu.h"
#include "base/kernels.h"
#include "base/memory.h"

#ifdef LA_CPU_LEVELS
extern const la_ops la_cpu_ops_fma, la_cpu_ops_avx512;
#endif

/* Tables of the same operations, best first. */
static const struct {
    la_kernel_level needs;
    const la_ops *ops;
    const char *instructions;
} tables[] = {
#ifdef LA_CPU_LEVELS
    {LA_KERNELS_AVX512, &la_cpu_ops_avx512, "AVX-512"},
    {LA_KERNELS_FMA, &la_cpu_ops_fma, "AVX2 and FMA"},
#endif
    {LA_KERNELS_UNKNOWN, &la_cpu_ops, "those that the program was built for"},
};

const la_ops *la_cpu_ops_for(la_kernel_level most, const char **instructions) {
    int i = 0;
    while (tables[i].needs > most)
        i++;
    *instructions = tables[i].instructions;
    return tables[i].ops;
}

const char *la_cpu_instructions(void) {
    const char *instructions;
    la_cpu_ops_for(la_kernels_instructions(), &instructions);
    return instructions;
}

la_status la_backend_open_cpu(la_team team, la_backend *backend, la_error *err) {
    la_cpu *cpu = la_alloc(1, sizeof *cpu, err);
    if (!cpu)
        return err->status;
    const char *instructions;
    *backend = (la_backend){.ops = la_cpu_ops_for(la_kernels_instructions(), &instructions),
                            .context = cpu,
                            .team = team,
                            .precision = LA_PRECISION_F32,
                            .activation = LA_F32,
                            .device = "cpu"};
    return LA_OK;
}
