#include "likelihood/drawing.h"

#include <stdatomic.h>

extern const la_drawing la_drawing_table;
#ifdef LA_CPU_LEVELS
extern const la_drawing la_drawing_table_fma, la_drawing_table_avx512;
#endif

/* Tables of the same operations, best first. */
static const struct {
    la_kernel_level needs;
    const la_drawing *table;
} tables[] = {
#ifdef LA_CPU_LEVELS
    {LA_KERNELS_AVX512, &la_drawing_table_avx512},
    {LA_KERNELS_FMA, &la_drawing_table_fma},
#endif
    {LA_KERNELS_UNKNOWN, &la_drawing_table},
};

const la_drawing *la_drawing_for(la_kernel_level most) {
    int i = 0;
    while (tables[i].needs > most)
        i++;
    return tables[i].table;
}

const la_drawing *la_drawing_here(void) {
    static _Atomic(const la_drawing *) found;
    const la_drawing *table = atomic_load_explicit(&found, memory_order_relaxed);
    if (!table) {
        table = la_drawing_for(la_kernels_instructions());
        atomic_store_explicit(&found, table, memory_order_relaxed);
    }
    return table;
}
