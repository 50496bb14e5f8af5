#include "support/devices.h"

#include <stdio.h>

la_backend cpu_at_level;
la_kernel_level cpu_level;

static int open_level(void **state) {
    (void)state;
    la_error err = {0};
    const char *instructions;
    if (la_backend_open_cpu(la_team_of(2), &cpu_at_level, &err) != LA_OK)
        return -1;
    cpu_at_level.ops = la_cpu_ops_for(cpu_level, &instructions);
    return 0;
}

static int close_level(void **state) {
    (void)state;
    cpu_at_level.ops->close(&cpu_at_level);
    return 0;
}

void check_fault(void) {
    la_error err = {0};
    assert_int_equal(cpu_at_level.ops->sync(&cpu_at_level, &err), LA_OK);
}

int run_each_level(const struct CMUnitTest *tests, size_t n) {
    int failed = 0;
    la_processor here = la_processor_here();
    const la_ops *last = NULL;
    for (int i = LA_KERNELS_UNKNOWN; i <= (int)la_processor_level(&here); i++) {
        const char *instructions;
        cpu_level = (la_kernel_level)i;
        const la_ops *ops = la_cpu_ops_for(cpu_level, &instructions);
        if (ops == last)
            continue;
        last = ops;
        failed += _cmocka_run_group_tests(instructions, tests, n, open_level, close_level);
    }
    return failed;
}

void need_device(void) {
    la_backend backends[LA_DEVICES_MAX];
    la_error err = {0};
    int n;
    if (la_backend_open("cuda", LA_PRECISION_F32, la_team_of(2), NULL, backends, &n, &err) !=
        LA_OK) {
        printf("    %s\n", err.message);
        skip();
    }
    printf("    on %s\n", backends[0].device);
    backends[0].ops->close(&backends[0]);
}
