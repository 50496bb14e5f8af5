/* Tests compute with the kernels that the program takes, and with OpenBLAS where nothing else is
 * asked for. */
#include "laplora.h"

#include <stdlib.h>

__attribute__((constructor)) static void take_kernels(void) {
    setenv("LAPLORA_PRODUCTS", "openblas", 0);
    la_kernels_choose();
}
