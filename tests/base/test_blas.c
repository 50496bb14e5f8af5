/* Many callers of the BLAS library at once: no more are within it than it has buffers for. The
 * library's product is this program's own here, and counts who is in it. */
#include "base/blas.h"
#include "base/error.h"

#include <cblas.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

/* Nothing of ours asks for more: OpenBLAS of Debian is built for 64 threads. */
enum { CALLERS = 300, MOST = 256 };

char *openblas_get_config(void);

static atomic_int within, most, calls;

void cblas_dgemm(CBLAS_LAYOUT layout, CBLAS_TRANSPOSE trans_a, CBLAS_TRANSPOSE trans_b, blasint m,
                 blasint n, blasint k, double alpha, const double *a, blasint lda, const double *b,
                 blasint ldb, double beta, double *c, blasint ldc) {
    (void)layout, (void)trans_a, (void)trans_b, (void)m, (void)n, (void)k, (void)alpha, (void)a;
    (void)lda, (void)b, (void)ldb, (void)beta, (void)c, (void)ldc;
    int now = atomic_fetch_add(&within, 1) + 1, before = atomic_load(&most);
    while (now > before && !atomic_compare_exchange_weak(&most, &before, now))
        ;
    usleep(100000); /* long enough for all others to come */
    atomic_fetch_add(&calls, 1);
    atomic_fetch_sub(&within, 1);
}

static void *call(void *unused) {
    double one = 1;
    (void)unused;
    la_dgemm(false, false, 1, 1, 1, 1, &one, 1, &one, 1, 0, &one, 1);
    return NULL;
}

static void test_callers(void **state) {
    static pthread_t threads[CALLERS];
    const char *limit = strstr(openblas_get_config(), "MAX_THREADS=");
    int built_for = MOST;
    (void)state;
    if (limit)
        assert_int_equal(sscanf(limit, "MAX_THREADS=%d", &built_for), 1);
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call, NULL), 0);
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    print_message("%d calls, %d at once, a library for %d\n", atomic_load(&calls),
                  atomic_load(&most), built_for);
    assert_int_equal(atomic_load(&calls), CALLERS);
    assert_true(atomic_load(&most) > 1);
    if (built_for >= 16)
        assert_true(atomic_load(&most) <= built_for);
}

/* Buffers of one handle are not promised to another. */
static void test_buffers(void **state) {
    (void)state;
    assert_int_equal(la_blas_reserve(2), 2);
    struct rlimit old, none;
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    none = old;
    none.rlim_cur = 16 << 20; /* less than is in use */
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    int more = la_blas_reserve(1);
    la_blas_release(2 + more);
    int again = la_blas_reserve(2);
    assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
    assert_int_equal(more, 0);
    assert_int_equal(again, 2);
    la_blas_release(again);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_callers),
                                       cmocka_unit_test(test_buffers)};
    return cmocka_run_group_tests_name("blas", tests, NULL, NULL);
}
