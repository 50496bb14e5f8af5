/* Loaded before a program: OpenBLAS as it is on a processor that it does not know. Its oldest kernels are
 * in place when main begins, and no variable says so. */
#include <stdlib.h>

void gotoblas_dynamic_quit(void);
void gotoblas_dynamic_init(void);

__attribute__((constructor)) static void forget(void) {
    if (getenv("OPENBLAS_CORETYPE"))
        return;
    setenv("OPENBLAS_CORETYPE", "Prescott", 1);
    gotoblas_dynamic_quit();
    gotoblas_dynamic_init();
    unsetenv("OPENBLAS_CORETYPE");
}
