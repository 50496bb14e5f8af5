/* Tests compute with the kernels that the program takes. */
#include "laplora.h"

__attribute__((constructor)) static void take_kernels(void) {
    la_kernels_choose();
}
