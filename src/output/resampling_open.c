#include "base/kernels.h"
#include "output/resampling.h"

#ifdef LA_CPU_LEVELS
extern const la_resampling la_resampling_table_fma, la_resampling_table_avx512;
#endif

/* Tables of the same operations, best first. */
static const struct {
    la_kernel_level needs;
    const la_resampling *table;
} tables[] = {
#ifdef LA_CPU_LEVELS
    {LA_KERNELS_AVX512, &la_resampling_table_avx512},
    {LA_KERNELS_FMA, &la_resampling_table_fma},
#endif
    {LA_KERNELS_UNKNOWN, &la_resampling_table},
};

const la_resampling *la_resampling_here(void) {
    la_kernel_level most = la_kernels_instructions();
    int i = 0;
    while (tables[i].needs > most)
        i++;
    return tables[i].table;
}
