/* The option table: every option has one name, one meaning and one line of help, whatever command
 * takes it. */
#ifndef LA_CLI_OPTIONS_H
#define LA_CLI_OPTIONS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { LA_REPEATS_MAX = 64 };

/* A repeatable option's values. */
typedef struct la_texts {
    const char *values[LA_REPEATS_MAX];
    int n;
} la_texts;

/* All options of all commands; texts point into argv. Numbers not given are -1 where 0 has a
 * meaning. */
typedef struct la_cli {
    const char *base, *adapter, *data, *out, *posterior;
    const char *base_quant, *adapter_name;
    const char *device, *precision, *text_field, *pair_field, *label_field, *id_field, *labels;
    la_texts adapters; /* adapter is the last of them */
    const char *calib, *test, *ood, *methods;
    const char *select, *val;
    bool heldout, adue;
    const char *curvature, *kron, *prior, *noise, *rank, *params, *choices, *choice_ids,
        *template_path;
    const char *predictive, *emit, *format, *baseline;
    int64_t threads, max_length, batch_tokens, samples, seed, min_samples;
    bool json, quiet, verbose, use_stdin, skip_bad, flat, help;
    la_texts max, min, max_regression;
    const char *operands[8];
    int n_operands;
} la_cli;

typedef struct la_command {
    const char *name, *summary, *usage;
    const char *options; /* names, separated by blanks */
    int (*run)(const la_cli *cli);
} la_command;

/* Parses argv[1..] of a command. LA_USAGE names the option and what was expected. */
la_status la_cli_parse(const la_command *command, int argc, char **argv, la_cli *cli,
                       la_error *err);
void la_cli_help(const la_command *command, FILE *stream);

/* Index of value among names[n]; LA_USAGE when it is none of them. value NULL: index 0. */
la_status la_cli_choice(const char *option, const char *value, const char *const *names, int n,
                        int *out, la_error *err);

#endif
