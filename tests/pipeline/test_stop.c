/* A host's stop: la_fit ends wherever it is asked, with nothing left behind; a handle that was
 * stopped goes on; another handle, in another thread, does not notice. */
#include "likelihood/answer.h"
#include "support/faults.h"
#include "support/row_files.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static row_file rows;
static la_input inputs[ROWS_MOST];
static const char *folder, *posterior;

static const char message[] = "stopped by the host program; an output file is as it was, or whole";

static int prepare(void **state) {
    (void)state;
    rows = rows_random(11, ROWS_MOST);
    for (int i = 0; i < ROWS_MOST; i++)
        inputs[i] = (la_input){.ids = rows.ids[i], .n_ids = rows.length[i]};
    folder = open_case("bert-all-linear");
    la_fit_summary_free(case_fit(folder, "calib.jsonl", "posterior",
                                 (la_fit_options){.select = LA_SELECT_NONE, .run.threads = 1}));
    posterior = strdup(in_case(folder, "posterior"));
    return 0;
}

/* Says yes at the question of that number, from 0, and ever after. */
static int at_question(void *user) {
    atomic_int *left = user;
    return atomic_fetch_sub(left, 1) <= 0;
}

static int by_flag(void *user) {
    return atomic_load((atomic_int *)user);
}

static void fit_stops_wherever_it_asks(void **state) {
    (void)state;
    char base[4096], adapter[4096], data[4096], out[4096];
    int stopped = 0;
    la_status status = LA_INTERRUPTED;
    snprintf(base, sizeof base, "%s", in_case(folder, "base"));
    snprintf(adapter, sizeof adapter, "%s", in_case(folder, "adapter"));
    snprintf(data, sizeof data, "%s", in_case(folder, "calib.jsonl"));
    snprintf(out, sizeof out, "%s", in_case(folder, "stopped"));
    for (int question = 0; status == LA_INTERRUPTED; question += 1 + question / 4, stopped++) {
        atomic_int left = question;
        la_error err;
        la_fit_summary *summary = (la_fit_summary *)&left;
        la_fit_options options = {.base = base,
                                  .adapter = adapter,
                                  .data = data,
                                  .out = out,
                                  .prior = LA_PRIOR_MODULE,
                                  .heldout = 1,
                                  .run = {.threads = 1, .stop = {at_question, &left}}};
        status = la_fit(&options, &summary, &err);
        if (status == LA_INTERRUPTED) {
            assert_string_equal(err.message, message);
            assert_null(summary);
            assert_int_equal(access(out, F_OK), -1);
        } else {
            assert_int_equal(status, LA_OK);
            la_fit_summary_free(summary);
        }
    }
    assert_true(stopped > 10); /* reading, curvature, choice, file */
    check_nothing_written(folder);
}

static la_predictor *open_handle(la_stop stop, la_status wanted) {
    la_predictor *predictor = NULL;
    la_error err;
    la_predict_options options = {.run = {.threads = 1, .batch_tokens = 32, .stop = stop},
                                  .posterior = posterior,
                                  .samples = 20};
    assert_int_equal(la_predictor_open(&options, &predictor, &err), wanted);
    if (wanted != LA_OK)
        assert_string_equal(err.message, message);
    assert_int_equal(predictor != NULL, wanted == LA_OK);
    return predictor;
}

static void opening_stops(void **state) {
    (void)state;
    atomic_int flag = 1;
    open_handle((la_stop){by_flag, &flag}, LA_INTERRUPTED);
}

typedef struct answers {
    la_prediction out[ROWS_MOST];
    double memory[ROWS_MOST][4 * ROW_CLASSES + ROW_CLASSES * ROW_CLASSES];
} answers;

typedef struct caller {
    la_predictor *predictor;
    answers *answers;
    atomic_int calls, done; /* done: the other thread has seen what it wanted */
    la_status status;
    la_error err;
} caller;

/* Calls until one fails, or `done` is set. */
static void *keeps_running(void *given) {
    caller *c = given;
    while (c->status == LA_OK && !atomic_load(&c->done)) {
        c->status = la_predictor_run(c->predictor, inputs, ROWS_MOST, c->answers->out, &c->err);
        atomic_fetch_add(&c->calls, 1);
    }
    return NULL;
}

static answers *answers_new(const la_predictor *predictor) {
    answers *a = calloc(1, sizeof *a);
    assert_non_null(a);
    for (int i = 0; i < ROWS_MOST; i++)
        a->out[i] = la_prediction_at(la_predictor_classes(predictor), a->memory[i]);
    return a;
}

static void stopped_handle_goes_on(void **state) {
    (void)state;
    atomic_int flag = 0;
    pthread_t threads[2];
    caller callers[2] = {{.predictor = open_handle((la_stop){by_flag, &flag}, LA_OK)},
                         {.predictor = open_handle((la_stop){NULL, NULL}, LA_OK)}};
    la_error err;
    answers *want = answers_new(callers[1].predictor);
    assert_int_equal(la_predictor_run(callers[1].predictor, inputs, ROWS_MOST, want->out, &err),
                     LA_OK);
    for (int i = 0; i < 2; i++) {
        callers[i].answers = answers_new(callers[i].predictor);
        assert_int_equal(pthread_create(&threads[i], NULL, keeps_running, &callers[i]), 0);
    }
    while (!atomic_load(&callers[0].calls))
        usleep(1000);
    atomic_store(&flag, 1);
    assert_int_equal(pthread_join(threads[0], NULL), 0);
    assert_int_equal(callers[0].status, LA_INTERRUPTED);
    assert_string_equal(callers[0].err.message, message);
    atomic_store(&callers[1].done, 1);
    assert_int_equal(pthread_join(threads[1], NULL), 0);
    assert_int_equal(callers[1].status, LA_OK);
    atomic_store(&flag, 0);
    callers[0].status = la_predictor_run(callers[0].predictor, inputs, ROWS_MOST,
                                         callers[0].answers->out, &callers[0].err);
    assert_int_equal(callers[0].status, LA_OK);
    for (int i = 0; i < 2; i++) {
        assert_memory_equal(callers[i].answers->memory, want->memory, sizeof want->memory);
        la_predictor_close(callers[i].predictor);
        free(callers[i].answers);
    }
    free(want);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fit_stops_wherever_it_asks),
                                       cmocka_unit_test(opening_stops),
                                       cmocka_unit_test(stopped_handle_goes_on)};
    return cmocka_run_group_tests(tests, prepare, NULL);
}
