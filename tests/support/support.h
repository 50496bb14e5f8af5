/* Helpers shared by test programs. */
#ifndef LA_TESTS_SUPPORT_H
#define LA_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

/* "tests/fixtures/NAME": in a static buffer of eight, used in turn. LA_FIXTURES overrides the
 * folder. */
const char *fixture(const char *name);
/* A path in a folder of this process that is removed at exit; likewise in a buffer. */
const char *scratch(const char *name);
/* A JSON file, which must be there. json_decref it. */
json_t *load_json(const char *path);
/* The lines of a JSONL file, which must be there, as an array. json_decref it. */
json_t *load_lines(const char *path);
/* number at a path of keys and indices "expand.centred_logit_cov.3.0" */
double number_at(const json_t *root, const char *path);
const json_t *at(const json_t *root, const char *path);

/* |a - b| / max(|b|, floor) */
double relative(double a, double b, double floor);

/* Fails unless worst <= limit; prints both, so that a tolerance can be held against what is
 * observed. */
void check_within(const char *what, double worst, double limit);

/* The largest deviation seen of each kind. */
typedef struct deviations {
    double logits, likelihood, prior, covariance, trace;
} deviations;

/* A command run to its end. Free with command_free. */
typedef struct command {
    int code; /* exit code, or 128 + signal */
    char *out, *err;
} command;
/* argv ends with NULL; argv[0] is taken from LAPLORA (default build/laplora) when NULL. input may
 * be NULL. */
command run_command(const char *const *argv, const char *input);
void command_free(command *done);
void write_file(const char *path, const void *data, size_t length);
char *read_file(const char *path, size_t *length);
/* Path of a file by the folder of the program that runs (name "": the program's own), which make
 * builds with it. */
enum { PROGRAM_PATH = 4352 };
void beside_this_program(const char *name, char path[PROGRAM_PATH]);
/* A sanitizer wants to be the first library, and its allocator the only one. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
/* Copies a folder with its files (one level of subfolders). */
void copy_folder(const char *from, const char *to);

#endif
