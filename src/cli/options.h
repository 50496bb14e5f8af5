/* Options as rows of a table: a command has an array of them and a struct of its own that their
 * values go to. The parser, the command's help and the README's table (make docs) follow from the
 * rows. */
#ifndef LA_CLI_OPTIONS_H
#define LA_CLI_OPTIONS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { LA_REPEATS_MAX = 64, LA_OPERANDS_MAX = 8, LA_OPTIONS_MAX = 64, LA_GROUPS_MAX = 6 };

typedef enum la_option_kind {
    LA_OPTION_FLAG,    /* bool; may be repeated */
    LA_OPTION_TEXT,    /* const char *, never empty; NULL: not given */
    LA_OPTION_PAIR,    /* const char *[2], two arguments; NULL: not given */
    LA_OPTION_INTEGER, /* int64_t from min to max; a name is -1 */
    LA_OPTION_NUMBER,  /* la_number, positive or a name */
    LA_OPTION_CHOICE,  /* int, the place of a name among them; -1: not given */
    LA_OPTION_LIST,    /* uint64_t, a bit for each name's place; 0: not given */
    LA_OPTION_REPEATED /* la_texts: as often as wanted */
} la_option_kind;

typedef struct la_texts {
    const char *values[LA_REPEATS_MAX];
    int n;
} la_texts;

typedef struct la_number {
    bool given;
    int name; /* its place among the names; -1: it is the value */
    double value;
} la_number;

typedef struct la_option {
    const char *name;
    la_option_kind kind;
    size_t offset; /* place of the value in the command's struct or a part of it */
    const char *argument, *help;
    int64_t min, max;
    int64_t absent; /* value of an integer that is not given */
    /* the names that the value may be: [n_names] places, stride bytes apart, of const char * */
    const void *names;
    size_t stride;
    int n_names;
} la_option;

/* The names of an array of names, or of an array of structs whose first member is one. */
#define LA_NAMES(table)                                                                            \
    .names = (table), .stride = sizeof *(table), .n_names = (int)(sizeof(table) / sizeof *(table))

/* Likewise, the first n of an array of names. */
#define LA_NAMES_FIRST(table, n) .names = (table), .stride = sizeof *(table), .n_names = (n)

/* Row of a table: the value of --name goes to a member of a struct. The rest is designated. */
#define LA_ROW(kind_, type, member, name_, ...)                                                    \
    { .name = name_, .kind = LA_OPTION_##kind_, .offset = offsetof(type, member), __VA_ARGS__ }

/* Rows whose offsets are within a struct that is a part of the command's. */
typedef struct la_option_group {
    const la_option *rows;
    int n;
    size_t at; /* offset of that part */
} la_option_group;

#define LA_GROUP(table, place)                                                                     \
    { (table), (int)(sizeof(table) / sizeof *(table)), (place) }

/* Options of every command; the first member of its struct. */
typedef struct la_common {
    bool help, quiet;
    const char **operands; /* [n_operands] */
    int n_operands;
} la_common;

typedef struct la_command {
    const char *name, *summary, *usage;
    la_option_group groups[LA_GROUPS_MAX]; /* its own rows first; the rest is zero */
    size_t size;                           /* bytes of the struct */
    bool many;                             /* takes any number of operands */
    int (*run)(const void *given);
} la_command;

/* A command's option by number, and the place of its value in the command's struct; NULL: no
 * more. */
const la_option *la_option_at(const la_command *command, int number, size_t *place);

/* Parses argv[1..] of a command into its struct. LA_USAGE names the option and what was
 * expected. */
la_status la_options_parse(const la_command *command, int argc, char **argv, void *given,
                           la_error *err);
void la_options_help(const la_command *command, FILE *stream);
/* The name at a place of an option's names. */
const char *la_option_name(const la_option *option, int place);

#endif
