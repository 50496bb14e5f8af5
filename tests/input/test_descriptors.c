/* A file that cannot be opened because the process has no descriptor left is no bad input. */
#include "base/error.h"
#include "input/json.h"
#include "input/safetensors.h"
#include "output/posterior_file.h"
#include "support/support.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

static void check(la_status status, const la_error *err) {
    assert_int_equal(status, LA_RESOURCE);
    assert_non_null(strstr(err->message, "Too many open files"));
}

static void test_no_descriptor(void **state) {
    struct rlimit old, none;
    char config[4096], shard[4096];
    la_error errors[3] = {{0}};
    la_status found[3];
    la_posterior posterior;
    la_checkpoint *checkpoint = NULL;
    json_t *root = NULL;
    (void)state;
    snprintf(config, sizeof config, "%s", fixture("parity/bert/base/config.json"));
    snprintf(shard, sizeof shard, "%s", fixture("parity/bert/adapter/adapter_model.safetensors"));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    found[0] = la_json_load(config, 1 << 20, &root, &errors[0]);
    found[1] = la_checkpoint_open_file(shard, &checkpoint, &errors[1]);
    found[2] = la_posterior_load(config, &posterior, &errors[2]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    for (int i = 0; i < 3; i++)
        check(found[i], &errors[i]);
    assert_int_equal(la_errno_status(ENOENT), LA_BAD_INPUT);
    assert_int_equal(la_errno_status(ENOMEM), LA_RESOURCE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_descriptor)};
    return cmocka_run_group_tests_name("descriptors", tests, NULL, NULL);
}
