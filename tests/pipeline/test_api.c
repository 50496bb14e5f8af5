/* The library from any caller: several handles of several numbers of threads, from any thread, one
 * after the other and at once, inside the host's own parallel regions. All give the same bytes, and
 * the host's number of threads stays what it was.
 *
 * LA_TESTS_ALONE: teams of one thread, and no regions of the host, for ThreadSanitizer, which does
 * not see how the threads of a region wait for each other. */
#include "likelihood/answer.h"
#include "support/faults.h"
#include "support/row_files.h"

#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = ROWS_MOST, CALLS = 3 };

static bool alone(void) {
    return getenv("LA_TESTS_ALONE") != NULL;
}

static int threads_or_one(int threads) {
    return alone() ? 1 : threads;
}

/* ---- rows and their answers ---- */

typedef struct answers {
    la_prediction out[N];
    double memory[N][4 * ROW_CLASSES + ROW_CLASSES * ROW_CLASSES];
} answers;

static row_file rows;
static la_input inputs[N];
static const char *folder, *posteriors[3];

static const struct {
    la_fit_options fit;
    const char *predictive;
} kinds[3] = {
    {.fit = {.curvature = "kron", .select = LA_SELECT_NONE}, .predictive = "mc"},
    {.fit = {.curvature = "exact", .select = LA_SELECT_NONE}, .predictive = "mc"},
    {.fit = {.curvature = "ekfac", .select = LA_SELECT_NONE}, .predictive = "weights"},
};

static answers *answers_new(int64_t classes) {
    answers *a = calloc(1, sizeof *a);
    assert_non_null(a);
    for (int i = 0; i < N; i++)
        a->out[i] = la_prediction_at(classes, a->memory[i]);
    return a;
}

static void same_answers(const answers *a, const answers *b) {
    assert_memory_equal(a->memory, b->memory, sizeof a->memory);
    for (int i = 0; i < N; i++) {
        assert_int_equal(a->out[i].prediction, b->out[i].prediction);
        assert_true(a->out[i].confidence == b->out[i].confidence);
        assert_true(a->out[i].entropy == b->out[i].entropy);
        assert_true(a->out[i].mutual_information == b->out[i].mutual_information);
    }
}

static la_predictor *open_kind(int kind, int threads) {
    la_predictor *predictor = NULL;
    la_error err;
    la_predict_options options = {.run = {.device = "cpu", .threads = threads_or_one(threads)},
                                  .posterior = posteriors[kind],
                                  .predictive = kinds[kind].predictive,
                                  .samples = 20,
                                  .seed = 5};
    if (la_predictor_open(&options, &predictor, &err) != LA_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort(); /* cmocka's failures are of its own thread */
    }
    return predictor;
}

static void run_rows(la_predictor *predictor, answers *a) {
    la_error err;
    if (la_predictor_run(predictor, inputs, N, a->out, &err) != LA_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
}

static answers *answer(int kind, int threads) {
    la_predictor *predictor = open_kind(kind, threads);
    answers *a = answers_new(la_predictor_classes(predictor));
    run_rows(predictor, a);
    la_predictor_close(predictor);
    return a;
}

static int prepare(void **state) {
    (void)state;
    rows = rows_random(7, N);
    for (int i = 0; i < N; i++)
        inputs[i] = (la_input){.ids = rows.ids[i], .n_ids = rows.length[i]};
    folder = open_case("bert-all-linear");
    for (int k = 0; k < 3; k++) {
        char name[16];
        snprintf(name, sizeof name, "posterior-%d", k);
        la_fit_options options = kinds[k].fit;
        options.run.threads = threads_or_one(2);
        la_fit_summary_free(case_fit(folder, "calib.jsonl", name, options));
        posteriors[k] = strdup(in_case(folder, name));
    }
    return 0;
}

/* ---- one after the other ---- */

static void numbers_of_threads(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 3, 16};
    for (int k = 0; k < 3; k++) {
        answers *want = answer(k, 1);
        for (int t = 0; t < 4; t++) {
            answers *got = answer(k, threads[t]);
            same_answers(got, want);
            free(got);
        }
        free(want);
    }
}

/* The later handle's threads are not the earlier one's. */
static void two_handles_in_turn(void **state) {
    (void)state;
    for (int k = 0; k < 3; k++) {
        answers *want = answer(k, 1), *a, *b;
        for (int order = 0; order < 2; order++) {
            la_predictor *first = open_kind(k, order ? 16 : 1);
            la_predictor *second = open_kind(k, order ? 1 : 16);
            a = answers_new(la_predictor_classes(first));
            b = answers_new(la_predictor_classes(second));
            for (int call = 0; call < CALLS; call++) {
                run_rows(first, a);
                run_rows(second, b);
                same_answers(a, want);
                same_answers(b, want);
            }
            la_predictor_close(first);
            run_rows(second, b);
            same_answers(b, want);
            la_predictor_close(second);
            free(a), free(b);
        }
        free(want);
    }
}

/* ---- other threads ---- */

typedef struct caller {
    pthread_t thread;
    int kind, threads;
    la_predictor *predictor;
    answers *answers;
} caller;

static void *opens(void *given) {
    caller *c = given;
    c->predictor = open_kind(c->kind, c->threads);
    return NULL;
}

static void *runs(void *given) {
    caller *c = given;
    c->answers = answers_new(la_predictor_classes(c->predictor));
    run_rows(c->predictor, c->answers);
    return NULL;
}

static void *closes(void *given) {
    caller *c = given;
    la_predictor_close(c->predictor);
    return NULL;
}

static void *does_all(void *given) {
    caller *c = given;
    opens(c);
    c->answers = answers_new(la_predictor_classes(c->predictor));
    for (int call = 0; call < CALLS; call++)
        run_rows(c->predictor, c->answers);
    return closes(c);
}

static void in_thread(void *(*job)(void *), caller *c) {
    assert_int_equal(pthread_create(&c->thread, NULL, job, c), 0);
    assert_int_equal(pthread_join(c->thread, NULL), 0);
}

static void any_thread(void **state) {
    (void)state;
    static const int threads[] = {1, 4};
    for (int k = 0; k < 3; k++)
        for (int t = 0; t < 2; t++) {
            caller c = {.kind = k, .threads = threads[t]};
            answers *want = answer(k, 2);
            in_thread(opens, &c);
            in_thread(runs, &c);
            same_answers(c.answers, want);
            free(c.answers);
            runs(&c);
            same_answers(c.answers, want);
            in_thread(closes, &c);
            free(c.answers), free(want);
        }
}

static void at_once(void **state) {
    (void)state;
    enum { CALLERS = 4 };
    caller callers[CALLERS];
    answers *want[3];
    for (int k = 0; k < 3; k++)
        want[k] = answer(k, 1);
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.kind = i % 3, .threads = 1 + i};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, does_all, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        same_answers(callers[i].answers, want[i % 3]);
        free(callers[i].answers);
    }
    for (int k = 0; k < 3; k++)
        free(want[k]);
}

typedef struct fitter {
    pthread_t thread;
    int threads;
    char out[32];
} fitter;

static void *fits(void *given) {
    fitter *f = given;
    char base[512], adapter[512], data[512], out[512];
    snprintf(base, sizeof base, "%s/base", folder);
    snprintf(adapter, sizeof adapter, "%s/adapter", folder);
    snprintf(data, sizeof data, "%s/calib.jsonl", folder);
    snprintf(out, sizeof out, "%s/%s", folder, f->out);
    la_fit_options options = {.run = {.device = "cpu", .threads = threads_or_one(f->threads)},
                              .base = base,
                              .adapter = adapter,
                              .data = data,
                              .out = out,
                              .heldout = 1,
                              .select = LA_SELECT_CROSS};
    la_fit_summary *summary;
    la_error err;
    if (la_fit(&options, &summary, &err) != LA_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    la_fit_summary_free(summary);
    return NULL;
}

/* Posteriors of the same rows are the same file, whoever fits beside them. */
static void fits_at_once(void **state) {
    (void)state;
    enum { FITTERS = 3 };
    fitter fitters[FITTERS];
    char *bytes[FITTERS];
    size_t length[FITTERS];
    for (int i = 0; i < FITTERS; i++) {
        fitters[i].threads = 1 + i;
        snprintf(fitters[i].out, sizeof fitters[i].out, "at-once-%d", i);
        assert_int_equal(pthread_create(&fitters[i].thread, NULL, fits, &fitters[i]), 0);
    }
    for (int i = 0; i < FITTERS; i++)
        assert_int_equal(pthread_join(fitters[i].thread, NULL), 0);
    for (int i = 0; i < FITTERS; i++) {
        bytes[i] = read_file(in_case(folder, fitters[i].out), &length[i]);
        assert_int_equal(length[i], length[0]);
        assert_memory_equal(bytes[i], bytes[0], length[0]);
    }
    for (int i = 0; i < FITTERS; i++)
        free(bytes[i]);
}

/* ---- a host that uses OpenMP itself ---- */

/* Handles of their own in the threads of a host's region. */
static void within_a_region(int levels, int dynamic, const answers *want) {
    enum { HOSTS = 3 };
    answers *got[HOSTS] = {0};
    omp_set_max_active_levels(levels);
    omp_set_dynamic(dynamic);
#pragma omp parallel for num_threads(HOSTS) schedule(static, 1)
    for (int i = 0; i < HOSTS; i++) {
        caller c = {.kind = 0, .threads = 1 + i};
        int before = omp_get_max_threads();
        does_all(&c);
        if (omp_get_max_threads() != before)
            abort();
        got[i] = c.answers;
    }
    for (int i = 0; i < HOSTS; i++) {
        same_answers(got[i], want);
        free(got[i]);
    }
}

static void in_regions(void **state) {
    (void)state;
    int levels = omp_get_max_active_levels(), dynamic = omp_get_dynamic();
    if (alone())
        skip();
    answers *want = answer(0, 1);
    for (int i = 0; i < 4; i++)
        within_a_region(1 + i / 2, i % 2, want);
    omp_set_max_active_levels(levels);
    omp_set_dynamic(dynamic);
    free(want);
}

/* A team is of the handle alone, whatever the host sets before, between and after. */
static void hosts_threads(void **state) {
    (void)state;
    static const int hosts[] = {1, 3, 7};
    int before = omp_get_max_threads();
    answers *want = answer(0, 1), *got;
    for (int h = 0; h < 3; h++)
        for (int threads = 1; threads <= 4; threads += 3) {
            omp_set_num_threads(hosts[h]);
            la_predictor *predictor = open_kind(0, threads);
            assert_int_equal(omp_get_max_threads(), hosts[h]);
            got = answers_new(la_predictor_classes(predictor));
            run_rows(predictor, got);
            assert_int_equal(omp_get_max_threads(), hosts[h]);
            same_answers(got, want);
            omp_set_num_threads(hosts[(h + 1) % 3]);
            run_rows(predictor, got);
            assert_int_equal(omp_get_max_threads(), hosts[(h + 1) % 3]);
            same_answers(got, want);
            la_predictor_close(predictor);
            assert_int_equal(omp_get_max_threads(), hosts[(h + 1) % 3]);
            fits(&(fitter){.threads = threads, .out = "hosts"});
            assert_int_equal(omp_get_max_threads(), hosts[(h + 1) % 3]);
            free(got);
        }
    omp_set_num_threads(before);
    free(want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_threads), cmocka_unit_test(two_handles_in_turn),
        cmocka_unit_test(any_thread),         cmocka_unit_test(at_once),
        cmocka_unit_test(fits_at_once),       cmocka_unit_test(in_regions),
        cmocka_unit_test(hosts_threads),
    };
    return cmocka_run_group_tests_name("any caller", tests, prepare, NULL);
}
