/* A round of training through --device cuda: on a device where there is one, else on the emulated
 * one. The same steps as on the CPU, up to the rounding of products. */
#include "input/safetensors.h"
#include "support/devices.h"
#include "support/faults.h"

#include <math.h>
#include <stdio.h>

static json_t *run_ok(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: exit code %d, %s", line, done.code, done.err);
    json_t *said = *done.out ? json_loads(done.out, 0, NULL) : NULL;
    command_free(&done);
    return said;
}

/* Largest difference of the tensors of two folders, over the largest number. */
static double adapters_differ(const char *folder, const char *file) {
    la_checkpoint *on[2];
    la_error err = {0};
    double worst = 0, most = 0;
    static const char *const names[] = {"cpu", "cuda"};
    for (int i = 0; i < 2; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", names[i], file);
        if (la_checkpoint_open_file(in_case(folder, path), &on[i], &err) != LA_OK)
            fail_msg("%s", err.message);
    }
    for (int64_t t = 0; t < la_checkpoint_count(on[0]); t++) {
        const la_tensor *a = la_checkpoint_at(on[0], t), *b = la_checkpoint_at(on[1], t);
        const float *x = (const float *)a->data, *y = (const float *)b->data;
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->count, b->count);
        for (int64_t i = 0; i < a->count; i++) {
            worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
            most = fmax(most, fabs((double)x[i]));
        }
    }
    la_checkpoint_close(on[0]);
    la_checkpoint_close(on[1]);
    return worst / most;
}

static void test_devices(void **state) {
    static const struct {
        const char *fixture, *file, *params, *options;
    } cases[] = {{"bert", "adapter_model.safetensors", "lora+head", ""},
                 {"union-bert", "adapter.safetensors", "lora+head", ""},
                 /* whose logits of twenty and more let networks drawn blow roundings up */
                 {"llama-seq", "adapter_model.safetensors", "lora", "--method adam"}};
    double worst = 0, nll = 0;
    (void)state;
    need_device();
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const char *folder = open_case(cases[c].fixture);
        double after[2], before[2];
        char line[512];
        snprintf(line, sizeof line,
                 "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/posterior "
                 "--params %s --device cpu --quiet",
                 cases[c].params);
        json_decref(run_ok(folder, line));
        for (int i = 0; i < 2; i++) {
            const char *device = i ? "cuda" : "cpu";
            snprintf(line, sizeof line,
                     "refine --posterior @/posterior --data @/calib.jsonl --out @/%s.h5 "
                     "--out-adapter @/%s --device %s --epochs 2 --batch-rows 6 --quiet --json %s",
                     device, device, device, cases[c].options);
            json_t *said = run_ok(folder, line);
            before[i] = number_at(said, "nll_before");
            after[i] = number_at(said, "nll_after");
            json_decref(said);
        }
        assert_true(fabs(after[0] - before[0]) > 1e-4);
        nll = fmax(nll, fabs(after[1] - after[0]));
        worst = fmax(worst, adapters_differ(folder, cases[c].file));
    }
    check_within("NLL after training", nll, 1e-6);
    check_within("trained numbers", worst, 1e-4);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_devices)};
    return cmocka_run_group_tests_name("refine on a device", tests, NULL, NULL);
}
