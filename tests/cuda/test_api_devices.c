/* A host's rows on several devices: dealt to all of them, with the answers of one. */
#include "likelihood/answer.h"
#include "cuda/emulated.h"
#include "pipeline/predictor.h"
#include "support/row_files.h"

enum { N = 36 };

typedef struct answers {
    la_prediction out[N];
    double memory[N][4 * ROW_CLASSES + ROW_CLASSES * ROW_CLASSES];
} answers;

static row_file rows;
static la_input inputs[N];
static const char *folder;

static int prepare(void **state) {
    (void)state;
    setenv("LA_EMULATED_DEVICES", "3", 1);
    rows = rows_random(7, N);
    for (int i = 0; i < N; i++)
        inputs[i] = (la_input){.ids = rows.ids[i], .n_ids = rows.length[i]};
    folder = open_case("bert");
    la_fit_summary_free(
        case_fit(folder, "calib.jsonl", "posterior",
                 (la_fit_options){.run = {.device = "cpu"}, .select = LA_SELECT_NONE}));
    return 0;
}

static void start(answers *a, int64_t classes) {
    memset(a, 0, sizeof *a);
    for (int i = 0; i < N; i++)
        a->out[i] = la_prediction_at(classes, a->memory[i]);
}

/* Answers, and how many workers ran anything. */
static int answer(const char *device, const char *kind, answers *a) {
    la_predict_options options = {.run = {.device = device, .batch_tokens = 60, .threads = 2},
                                  .posterior = in_case(folder, "posterior"),
                                  .predictive = kind,
                                  .samples = 4,
                                  .seed = 3};
    static const int32_t bad[] = {5, 200};
    la_input wrong[N];
    la_predictor *p;
    la_error err;
    int busy = 0;
    if (la_predictor_open(&options, &p, &err) != LA_OK)
        fail_msg("%s", err.message);
    start(a, la_predictor_classes(p));
    /* a failure among rows that wait for several devices leaves them all usable */
    memcpy(wrong, inputs, sizeof wrong);
    wrong[N / 2] = (la_input){.ids = bad, .n_ids = 2};
    assert_int_equal(la_predictor_run(p, wrong, N, a->out, &err), LA_BAD_INPUT);
    assert_non_null(strstr(err.message, "row 18: "));
    if (la_predictor_run(p, inputs, N, a->out, &err) != LA_OK)
        fail_msg("%s", err.message);
    for (int w = 0; w < p->session.n_workers; w++)
        busy += p->session.workers[w].seconds_forward > 0;
    /* fewer rows than a batch, and none */
    answers few;
    start(&few, la_predictor_classes(p));
    assert_int_equal(la_predictor_run(p, inputs, 0, NULL, &err), LA_OK);
    assert_int_equal(la_predictor_run(p, inputs, 2, few.out, &err), LA_OK);
    la_predictor_close(p);
    return busy;
}

static void several_are_as_one(void **state) {
    (void)state;
    static const char *const kinds[] = {"mc", "weights"};
    static const char *const devices[] = {"cuda:0,1", "cuda:2,0,1"};
    need_emulated();
    for (int k = 0; k < 2; k++) {
        answers one, several;
        assert_int_equal(answer("cuda:0", kinds[k], &one), 1);
        for (int d = 0; d < 2; d++) {
            assert_int_equal(answer(devices[d], kinds[k], &several), 2 + d);
            assert_memory_equal(one.memory, several.memory, sizeof one.memory);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(several_are_as_one)};
    return cmocka_run_group_tests_name("a host's rows on several devices", tests, prepare, NULL);
}
