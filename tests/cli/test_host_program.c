/* The program of include/README.md, by the line that stands there: it compiles, links and runs. */
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 12, BLOCKS = 8 }; /* the fixture's */

/* Text of include/README.md behind a mark, up to the next line of three backticks. */
static char *documented(const char *mark) {
    size_t length;
    char *text = read_file("include/README.md", &length), *at = strstr(text, mark);
    assert_non_null(at);
    at += strlen(mark);
    char *end = strstr(at, "```");
    assert_non_null(end);
    *end = 0;
    at = strdup(at);
    assert_non_null(at);
    free(text);
    return at;
}

/* The documented line, with the files of this test in place of its own. The caller frees it. */
static char *compile_line(const char *host, const char *program) {
    char *documented_line = documented("```\ncc "), *line = malloc(16384);
    const char *at = documented_line;
    const char *named = getenv("LAPLORA"), *slash = named ? strrchr(named, '/') : NULL;
    const char *const from[] = {"host.c", "build/liblaplora.a", "-o host\n"};
    char with[3][4200];
    assert_non_null(line);
    snprintf(with[0], sizeof with[0], "%s", host);
    snprintf(with[1], sizeof with[1], "%.*s/liblaplora.a", slash ? (int)(slash - named) : 5,
             slash ? named : "build");
    snprintf(with[2], sizeof with[2], "-o %s", program);
    strcpy(line, "cc ");
    for (int i = 0; i < 3; i++) {
        const char *place = strstr(at, from[i]);
        assert_non_null(place);
        sprintf(line + strlen(line), "%.*s%s", (int)(place - at), at, with[i]);
        at = place + strlen(from[i]);
    }
    free(documented_line);
#if defined(__SANITIZE_ADDRESS__)
    strcat(line, " -fsanitize=address,undefined");
#elif defined(__SANITIZE_THREAD__)
    strcat(line, " -fsanitize=thread");
#endif
    return line;
}

static void documented_program_runs(void **state) {
    (void)state;
    char host[4096], program[4096], out[4096], base[4096], adapter[4096], data[4096];
    snprintf(host, sizeof host, "%s", scratch("host.c"));
    snprintf(program, sizeof program, "%s", scratch("host"));
    snprintf(out, sizeof out, "%s", scratch("p.h5"));
    snprintf(base, sizeof base, "%s", fixture("beside/adapter-tokenizer/base"));
    snprintf(adapter, sizeof adapter, "%s", fixture("beside/adapter-tokenizer/adapter"));
    snprintf(data, sizeof data, "%s", fixture("beside/adapter-tokenizer/calib.jsonl"));
    char *source = documented("```c\n");
    write_file(host, source, strlen(source));
    free(source);
    char *line = compile_line(host, program);
    command done = run_command((const char *const[]){"/bin/sh", "-c", line, NULL}, NULL);
    if (done.code)
        fail_msg("%s\n%s", line, done.err);
    command_free(&done);
    free(line);
    done = run_command((const char *const[]){program, base, adapter, data, out, "the cat", NULL},
                       NULL);
    int rows = 0, blocks = 0, class = -1, read = 0;
    double confidence = 0;
    sscanf(done.out, "%d rows, %d blocks\nclass %d, confidence %lf\n%n", &rows, &blocks, &class,
           &confidence, &read);
    if (done.code || !read || done.out[read])
        fail_msg("exit %d: %s%s", done.code, done.out, done.err);
    assert_true(rows == ROWS && blocks == BLOCKS && class >= 0);
    assert_true(confidence > 0 && confidence <= 1);
    command_free(&done);
}

static const char careless[] = "#include <laplora.h>\n"
                               "void f(la_error *err);\n"
                               "void f(la_error *err) { la_fit(NULL, NULL, err); }\n";
static const char careful[] = "#include <laplora.h>\n"
                              "void f(la_error *err);\n"
                              "void f(la_error *err) { (void)la_fit(NULL, NULL, err); }\n";

static void dropped_status_is_a_warning(void **state) {
    (void)state;
    static const char *const compilers[][2] = {{"cc", "-std=c11"}, {"c++", "-std=c++17"}};
    for (int i = 0; i < 4; i++) {
        const char *text = i < 2 ? careless : careful, *const *compiler = compilers[i % 2];
        char host[4096];
        snprintf(host, sizeof host, "%s", scratch(i % 2 ? "careless.cpp" : "careless.c"));
        write_file(host, text, strlen(text));
        command done =
            run_command((const char *const[]){compiler[0], compiler[1], "-Iinclude", "-Wall",
                                              "-Wpedantic", "-Werror", "-fsyntax-only", host, NULL},
                        NULL);
        assert_int_equal(done.code == 0, i >= 2);
        if (i < 2)
            assert_non_null(strstr(done.err, "la_status"));
        command_free(&done);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(documented_program_runs),
                                       cmocka_unit_test(dropped_status_is_a_warning)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
