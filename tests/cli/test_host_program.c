/* The README's line for a program of one's own: it compiles, links and runs. */
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

static const char source[] =
    "#include <laplora.h>\n"
    "#include <stdio.h>\n"
    "int main(int argc, char **argv) {\n"
    "    la_error err;\n"
    "    la_fit_options fit = {.base = argv[1], .adapter = argv[2], .data = argv[3], .out = "
    "argv[4],\n"
    "                          .prior = LA_PRIOR_FIXED, .prior_value = 1, .prior_given = 1};\n"
    "    la_fit_summary *summary;\n"
    "    la_kernels_choose();\n"
    "    if (argc != 5 || la_fit(&fit, &summary, &err) != LA_OK)\n"
    "        return puts(err.message), 1;\n"
    "    printf(\"%lld rows, %lld blocks\\n\", (long long)summary->n_rows, (long "
    "long)summary->n_blocks);\n"
    "    la_fit_summary_free(summary);\n"
    "    return 0;\n"
    "}\n";

/* The line of the README that begins with "cc ", its files put where they are here. */
static char *compile_line(const char *host, const char *program) {
    size_t length;
    char *readme = read_file("README.md", &length), *line = malloc(16384);
    const char *at = strstr(readme, "\ncc ");
    const char *told = getenv("LAPLORA"), *slash = told ? strrchr(told, '/') : NULL;
    const char *const from[] = {"host.c", "build/liblaplora.a", "-o host\n"};
    char with[3][4200];
    assert_non_null(at);
    snprintf(with[0], sizeof with[0], "%s", host);
    snprintf(with[1], sizeof with[1], "%.*s/liblaplora.a", slash ? (int)(slash - told) : 5,
             slash ? told : "build");
    snprintf(with[2], sizeof with[2], "-o %s", program);
    *line = 0;
    at++;
    for (int i = 0; i < 3; i++) {
        const char *place = strstr(at, from[i]);
        assert_non_null(place);
        sprintf(line + strlen(line), "%.*s%s", (int)(place - at), at, with[i]);
        at = place + strlen(from[i]);
    }
    free(readme);
#if defined(__SANITIZE_ADDRESS__)
    strcat(line, " -fsanitize=address,undefined");
#elif defined(__SANITIZE_THREAD__)
    strcat(line, " -fsanitize=thread");
#endif
    return line;
}

static void readme_line_compiles(void **state) {
    (void)state;
    char host[4096], program[4096], out[4096], base[4096], adapter[4096], data[4096];
    snprintf(host, sizeof host, "%s", scratch("host.c"));
    snprintf(program, sizeof program, "%s", scratch("host"));
    snprintf(out, sizeof out, "%s", scratch("p.h5"));
    snprintf(base, sizeof base, "%s", fixture("parity/bert/base"));
    snprintf(adapter, sizeof adapter, "%s", fixture("parity/bert/adapter"));
    snprintf(data, sizeof data, "%s", fixture("parity/bert/calib.jsonl"));
    write_file(host, source, strlen(source));
    char *line = compile_line(host, program);
    command done = run_command((const char *const[]){"/bin/sh", "-c", line, NULL}, NULL);
    if (done.code)
        fail_msg("%s\n%s", line, done.err);
    command_free(&done);
    free(line);
    done = run_command((const char *const[]){program, base, adapter, data, out, NULL}, NULL);
    assert_string_equal(done.out, "24 rows, 12 blocks\n");
    assert_int_equal(done.code, 0);
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(readme_line_compiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
