/* Kernels by instructions: the choice as a function of processor and name, and the switch itself,
 * within a process, by a second start, and in the program. */
#include "base/kernels.h"
#include "laplora.h"
#include "support/support.h"

#include <cblas.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define VARIABLE "OPENBLAS_CORETYPE"

/* ---- the choice ---- */

#define SSE2 .sse2 = true
#define SSE42 SSE2, .sse42 = true
#define AVX SSE42, .avx = true
#define FMA AVX, .avx2 = true, .fma = true
#define AVX512                                                                                     \
    FMA, .avx512f = true, .avx512cd = true, .avx512bw = true, .avx512dq = true, .avx512vl = true

static const struct {
    const char *name;
    la_processor has;
    la_kernel_level level;
} processors[] = {
    {"no x86", {0}, LA_KERNELS_UNKNOWN},
    {"Prescott", {SSE2}, LA_KERNELS_SSE2},
    {"Westmere", {SSE42}, LA_KERNELS_SSE42},
    {"Ivy Bridge", {AVX}, LA_KERNELS_AVX},
    {"Piledriver: FMA without AVX2", {AVX, .fma = true}, LA_KERNELS_AVX},
    {"a machine that hides FMA", {AVX, .avx2 = true}, LA_KERNELS_AVX},
    {"a system that does not save the wider registers", {SSE42, .fma = false}, LA_KERNELS_SSE42},
    {"Raptor Lake, Zen 3", {FMA}, LA_KERNELS_FMA},
    {"Knights Landing", {FMA, .avx512f = true, .avx512cd = true}, LA_KERNELS_FMA},
    {"a machine that hides one part",
     {FMA, .avx512f = true, .avx512cd = true, .avx512bw = true, .avx512dq = true},
     LA_KERNELS_FMA},
    {"a machine that hides AVX", {SSE42, .avx512f = true, .avx512vl = true}, LA_KERNELS_SSE42},
    {"Emerald Rapids, Zen 5", {AVX512}, LA_KERNELS_AVX512},
};

static void levels_of_processors(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof processors / sizeof *processors; i++)
        if (la_processor_level(&processors[i].has) != processors[i].level)
            fail_msg("%s: level %d, expected %d", processors[i].name,
                     la_processor_level(&processors[i].has), processors[i].level);
}

static void levels_of_names(void **state) {
    (void)state;
    static const struct {
        const char *name;
        la_kernel_level level;
    } names[] = {
        {"SkylakeX", LA_KERNELS_AVX512},   {"SKYLAKEX", LA_KERNELS_AVX512},
        {"Cooperlake", LA_KERNELS_AVX512}, {"SapphireRapids", LA_KERNELS_AVX512},
        {"Haswell", LA_KERNELS_FMA},       {"Zen", LA_KERNELS_FMA},
        {"Excavator", LA_KERNELS_FMA},     {"sandybridge", LA_KERNELS_AVX},
        {"Bulldozer", LA_KERNELS_AVX},     {"Nehalem", LA_KERNELS_SSE42},
        {"Core2", LA_KERNELS_SSE2},        {"Prescott", LA_KERNELS_SSE2},
        {"Barcelona", LA_KERNELS_SSE2},    {"Unknown", LA_KERNELS_UNKNOWN},
        {"", LA_KERNELS_UNKNOWN},          {"neoversen1", LA_KERNELS_UNKNOWN},
        {"Zen9", LA_KERNELS_UNKNOWN},      {"Has", LA_KERNELS_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (la_kernels_level(names[i].name) != names[i].level)
            fail_msg("%s: level %d, expected %d", names[i].name, la_kernels_level(names[i].name),
                     names[i].level);
}

static void better_kernels(void **state) {
    (void)state;
    static const struct {
        la_processor has;
        const char *in_use, *want; /* names, each with a blank after it */
    } cases[] = {
        {{AVX512}, "Prescott", "SkylakeX Haswell Zen Sandybridge Nehalem "},
        {{AVX512}, "PRESCOTT", "SkylakeX Haswell Zen Sandybridge Nehalem "},
        {{AVX512}, "Barcelona", "SkylakeX Haswell Zen Sandybridge Nehalem "},
        {{AVX512}, "Haswell", "SkylakeX "},
        {{AVX512}, "Zen", "SkylakeX "},
        {{AVX512}, "SkylakeX", ""},
        {{AVX512}, "Cooperlake", ""},
        {{AVX512}, "SapphireRapids", ""},
        {{FMA}, "Prescott", "Haswell Zen Sandybridge Nehalem "},
        {{FMA}, "Sandybridge", "Haswell Zen "},
        {{FMA}, "Zen", ""},
        {{FMA}, "Excavator", ""},
        /* never what the processor cannot run, nor a step down */
        {{FMA}, "SkylakeX", ""},
        {{SSE42}, "Prescott", "Nehalem "},
        {{AVX}, "Prescott", "Sandybridge Nehalem "},
        {{AVX}, "Piledriver", ""},
        {{SSE2}, "Prescott", ""},
        /* a library newer than this list knows what it does */
        {{AVX512}, "Zen9", ""},
        {{AVX512}, "Unknown", ""},
        {{0}, "Prescott", ""},
        {{0}, "neoversen1", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *names[LA_KERNELS_NAMES];
        char got[256] = "";
        la_kernels_better(&cases[i].has, cases[i].in_use, names);
        for (int k = 0; names[k]; k++) {
            strcat(got, names[k]);
            strcat(got, " ");
        }
        assert_string_equal(got, cases[i].want);
    }
}

/* ---- the switch ---- */

static la_kernel_level level_here(void) {
    la_processor here = la_processor_here();
    return la_processor_level(&here);
}

/* Not a processor of this kind, or a build of OpenBLAS with kernels for one alone. */
static void skip_unless_it_switches(void) {
    if (level_here() > LA_KERNELS_SSE2 && dlsym(RTLD_DEFAULT, "gotoblas_dynamic_init"))
        return;
    print_message("    nothing to switch between here\n");
    skip();
}

static char *kept; /* the variable's value before the test */

static int keep(void **state) {
    (void)state;
    kept = getenv(VARIABLE) ? strdup(getenv(VARIABLE)) : NULL;
    unsetenv(VARIABLE);
    return 0;
}

static int put_back(void **state) {
    (void)state;
    unsetenv(VARIABLE);
    if (kept) {
        setenv(VARIABLE, kept, 1);
        la_kernels_switch(kept);
    } else {
        la_kernels_switch(NULL);
        la_kernels_choose();
    }
    free(kept);
    return 0;
}

/* A product of small whole numbers, which every kernel has exactly. */
static void check_product(void) {
    enum { M = 37, N = 70, K = 129 };
    static float a[M * K], b[K * N], c[M * N];
    for (int i = 0; i < M * K; i++)
        a[i] = (float)(i * 7 % 23 - 11);
    for (int i = 0; i < K * N; i++)
        b[i] = (float)(i * 5 % 19 - 9);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, M, N, K, 1, a, K, b, N, 0, c, N);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float want = 0;
            for (int k = 0; k < K; k++)
                want += a[i * K + k] * b[k * N + j];
            assert_true(c[i * N + j] == want);
        }
}

static void unknown_processor(void **state) {
    (void)state;
    skip_unless_it_switches();
    for (int round = 0; round < 3; round++) {
        assert_true(la_kernels_switch("Prescott"));
        assert_string_equal(la_kernels_name(), "Prescott");
        check_product();
        const char *name = la_kernels_choose();
        assert_string_equal(name, la_kernels_name());
        if (la_kernels_level(name) != level_here())
            fail_msg("%s on a processor of level %d", name, level_here());
        assert_null(la_kernels_missing());
        assert_null(getenv(VARIABLE));
        check_product();
    }
    char text[256];
    la_kernels_describe(text, sizeof text);
    assert_non_null(strstr(text, la_kernels_name()));
    assert_non_null(strstr(text, "in place of its own choice, Prescott"));
}

static void every_name(void **state) {
    (void)state;
    skip_unless_it_switches();
    static const char *const names[] = {"Prescott", "Core2",   "Nehalem", "Sandybridge",
                                        "Zen",      "Haswell", "SkylakeX"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (la_kernels_level(names[i]) > level_here() || !la_kernels_switch(names[i]))
            continue;
        assert_string_equal(la_kernels_name(), names[i]);
        check_product();
    }
}

static void no_such_kernels(void **state) {
    (void)state;
    skip_unless_it_switches();
    assert_true(la_kernels_switch("Nehalem"));
    assert_false(la_kernels_switch("Pentium9"));
    assert_string_equal(la_kernels_name(), "Nehalem");
    assert_null(getenv(VARIABLE));
    check_product();
}

static void a_set_variable_wins(void **state) {
    (void)state;
    skip_unless_it_switches();
    assert_true(la_kernels_switch("Prescott"));
    /* in any case of letters, as the library has it */
    setenv(VARIABLE, "PRESCOTT", 1);
    assert_string_equal(la_kernels_choose(), "Prescott");
    assert_string_equal(getenv(VARIABLE), "PRESCOTT");
    char text[256];
    la_kernels_describe(text, sizeof text);
    assert_non_null(strstr(text, "OpenBLAS Prescott, as " VARIABLE " says; the processor could"));
    /* the library ignores a name that it lacks: then the default was kept */
    setenv(VARIABLE, "Pentium9", 1);
    assert_int_equal(la_kernels_level(la_kernels_choose()), level_here());
    assert_string_equal(getenv(VARIABLE), "Pentium9");
    la_kernels_describe(text, sizeof text);
    assert_non_null(strstr(text, "none of the name"));
}

/* ---- processes ---- */

static char here[PROGRAM_PATH];

/* Output of the second start under --restart. */
static int print_start(int argc, char **argv) {
    char line[64] = "";
    if (!fgets(line, sizeof line, stdin))
        return 9;
    printf("%s|%s|%s|%d|%s|%s|%s", la_kernels_name(), getenv(VARIABLE) ? "set" : "unset",
           getenv("LAPLORA_KERNELS_RESTARTED") ? "set" : "unset", argc, argv[0], argv[2], line);
    return 0;
}

static int restart(int argc, char **argv) {
    la_kernels_restart("Nehalem", argv);
    /* the second time it returns, and leaves no trace */
    la_kernels_choose();
    return print_start(argc, argv);
}

static void second_start(void **state) {
    (void)state;
    skip_unless_it_switches();
    const char *argv[] = {here, "--restart", "a b\tc", NULL};
    for (int by_hand = 0; by_hand < 2; by_hand++) {
        if (by_hand)
            setenv(VARIABLE, "Prescott", 1);
        command done = run_command(argv, "first line\nsecond line\n");
        char want[8192];
        snprintf(want, sizeof want, "Nehalem|unset|unset|3|%s|a b\tc|first line\n", here);
        if (done.code || strcmp(done.out, want))
            fail_msg("code %d, \"%s\", expected \"%s\"", done.code, done.out, want);
        command_free(&done);
    }
    unsetenv(VARIABLE);
}

static command fit(const char *folder) {
    static char base[4096], adapter[4096], data[4096], out[4096];
    snprintf(base, sizeof base, "%s/base", folder);
    snprintf(adapter, sizeof adapter, "%s/adapter", folder);
    snprintf(data, sizeof data, "%s/calib.jsonl", folder);
    snprintf(out, sizeof out, "%s", scratch("posterior.h5"));
    const char *argv[] = {NULL,     "fit", "--base", base, "--adapter", adapter,
                          "--data", data,  "--out",  out,  "--verbose", NULL};
    return run_command(argv, NULL);
}

/* AddressSanitizer's start-up breaks when another library provides dlsym. */
#ifdef __SANITIZE_ADDRESS__
enum { PRELOADS = 0 };
#else
enum { PRELOADS = 2 };
#endif

static void the_program(void **state) {
    (void)state;
    skip_unless_it_switches();
    const char *folder = fixture("parity/bert");
    char want[256];
    setenv(VARIABLE, "Nehalem", 1);
    command done = fit(folder);
    assert_int_equal(done.code, 0);
    assert_non_null(strstr(done.err, "kernels: OpenBLAS Nehalem, as " VARIABLE " says"));
    assert_non_null(strstr(done.err, "CPU: those that the program was built for"));
    command_free(&done);
    unsetenv(VARIABLE);
    la_kernels_switch("Prescott");
    const char *best = la_kernels_choose();
    /* a library that does not know the processor, and then one that does not offer the switch
     * either */
    char library[PROGRAM_PATH];
    beside_this_program("unknown_processor.so", library);
    for (int hidden = 0; hidden < PRELOADS; hidden++) {
        setenv("LD_PRELOAD", library, 1);
        if (hidden)
            setenv("LA_HIDE_SWITCH", "1", 1);
        done = fit(folder);
        unsetenv("LD_PRELOAD");
        unsetenv("LA_HIDE_SWITCH");
        snprintf(want, sizeof want, "kernels: OpenBLAS %s, %s", best,
                 hidden ? "by a second start" : "in place of its own choice, Prescott");
        if (done.code || !strstr(done.err, want))
            fail_msg("code %d, expected \"%s\" in: %s", done.code, want, done.err);
        command_free(&done);
    }
}

/* --others: names of two kinds of kernels that run here, of other instructions than those in use;
 * those that do not run are named on stderr. */
static int others(void) {
    static const char *const names[] = {"Prescott", "Haswell", "Nehalem", "SkylakeX"};
    char in_use[32];
    snprintf(in_use, sizeof in_use, "%s", la_kernels_name());
    int printed = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && printed < 2; i++) {
        if (la_kernels_level(names[i]) == la_kernels_level(in_use))
            continue;
        if (la_kernels_level(names[i]) > level_here() || !la_kernels_switch(names[i])) {
            fprintf(stderr, "no %s kernels on this processor, or in this OpenBLAS\n", names[i]);
            continue;
        }
        printf("%s\n", names[i]);
        printed++;
    }
    return 0;
}

int main(int argc, char **argv) {
    beside_this_program("", here);
    if (argc == 2 && !strcmp(argv[1], "--others"))
        return others();
    if (argc == 3 && !strcmp(argv[1], "--restart"))
        return restart(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_of_processors),
        cmocka_unit_test(levels_of_names),
        cmocka_unit_test(better_kernels),
        cmocka_unit_test_setup_teardown(unknown_processor, keep, put_back),
        cmocka_unit_test_setup_teardown(every_name, keep, put_back),
        cmocka_unit_test_setup_teardown(no_such_kernels, keep, put_back),
        cmocka_unit_test_setup_teardown(a_set_variable_wins, keep, put_back),
        cmocka_unit_test_setup_teardown(second_start, keep, put_back),
        cmocka_unit_test_setup_teardown(the_program, keep, put_back),
    };
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
