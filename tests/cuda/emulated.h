/* Helpers of the tests that run the program on the emulated CUDA device. They set that device up
 * (number, memory and order of threads) through the environment; a real one cannot be set up so. */
#ifndef LA_TESTS_CUDA_EMULATED_H
#define LA_TESTS_CUDA_EMULATED_H

#include "backend/ops.h"
#include "support/faults.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS "--base @/base --adapter @/adapter --data @/calib.jsonl"

/* Skips the test where $LAPLORA_CUDA is not the emulated device. */
static inline void need_emulated(void) {
    la_backend backends[LA_DEVICES_MAX];
    la_error err = {0};
    int n;
    if (la_backend_open("cuda:0", LA_PRECISION_F32, la_team_of(2), NULL, backends, &n, &err) !=
        LA_OK) {
        /* tests/run gave it: then it must be one */
        const char *given = getenv("EMULATED"), *taken = getenv("LAPLORA_CUDA");
        if (given && taken && !strcmp(given, taken))
            fail_msg("no emulated device: %s", err.message);
        printf("    no emulated device: %s\n", err.message);
        skip();
    }
    bool emulated = strstr(backends[0].device, "emulated") != NULL;
    backends[0].ops->close(&backends[0]);
    if (!emulated) {
        printf("    not on an emulated device\n");
        skip();
    }
}

/* Leaks of device memory are looked for in every command: they would be lines in stderr. */
static inline int look_for_leaks(void **state) {
    (void)state;
    return setenv("LA_EMULATED_LEAKS", "1", 1);
}

/* run_line under blank-separated settings NAME=VALUE of the environment, which it puts back. */
static inline command run_with(const char *settings, const char *folder, const char *line,
                               const char *input) {
    enum { MOST = 4 };
    char text[1024], *names[MOST], *before[MOST], *rest = NULL;
    int n = 0;
    snprintf(text, sizeof text, "%s", settings);
    for (char *at = strtok_r(text, " ", &rest); at; at = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(at, '=');
        assert_true(n < MOST && value);
        *value++ = 0;
        const char *old = getenv(at);
        names[n] = at;
        before[n++] = old ? strdup(old) : NULL;
        setenv(at, value, 1);
    }
    command done = run_line(folder, line, input);
    while (n--) {
        if (before[n])
            setenv(names[n], before[n], 1);
        else
            unsetenv(names[n]);
        free(before[n]);
    }
    return done;
}

/* ... which must work. */
static inline command works(const char *settings, const char *folder, const char *line) {
    command done = run_with(settings, folder, line, NULL);
    if (done.code)
        fail_msg("%s %s: exit code %d: %.600s", settings, line, done.code, done.err);
    if (strstr(done.err, "leak"))
        fail_msg("%s %s: %.600s", settings, line, done.err);
    return done;
}

static inline void do_work(const char *settings, const char *folder, const char *line) {
    command done = works(settings, folder, line);
    command_free(&done);
}

static inline void says(const char *text, const char *piece) {
    if (!strstr(text, piece))
        fail_msg("it does not say \"%s\": %.900s", piece, text);
}

/* The number behind a piece of text, which must be there. */
static inline double number_after(const char *text, const char *piece) {
    says(text, piece);
    const char *at = strstr(text, piece) + strlen(piece);
    char *end;
    double value = strtod(at, &end);
    if (end == at)
        fail_msg("no number behind \"%s\": %.900s", piece, text);
    return value;
}

#endif
