#include "cli/options.h"
#include "base/visible.h"
#include "base/list.h"
#include "base/names.h"
#include "base/numbers.h"
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

enum { NAMES_TEXT = 256, LEFT = 30, WIDTH = 100 };

const char *la_option_name(const la_option *option, int place) {
    const char *at = (const char *)option->names + (size_t)place * option->stride;
    return *(const char *const *)(const void *)at;
}

/* "kron, ekfac, diag" */
static void list_names(const la_option *option, const char *between, char out[NAMES_TEXT]) {
    la_list_names(out, NAMES_TEXT, between, option->names, option->stride, option->n_names);
}

const la_option *la_option_at(const la_command *command, int number, size_t *place) {
    for (int g = 0; g < LA_GROUPS_MAX; g++) {
        const la_option_group *group = &command->groups[g];
        if (number < group->n) {
            *place = group->at + group->rows[number].offset;
            return &group->rows[number];
        }
        number -= group->n;
    }
    return NULL;
}

/* ---- which option is meant ---- */

/* The number of the option; -1: the command has none of that name. */
static int find(const la_command *command, const char *name, size_t length) {
    const la_option *option;
    size_t place;
    for (int i = 0; (option = la_option_at(command, i, &place)); i++)
        if (strlen(option->name) == length && !strncmp(option->name, name, length))
            return i;
    return -1;
}

/* True when one begins like the other, or few letters differ. */
static bool is_near(const char *typed, const char *name, size_t *distance) {
    size_t length = strlen(typed), most = length < 4 ? 1 : length < 8 ? 2 : 3;
    *distance = la_edit_distance(typed, name);
    if (length > 1 && !strncmp(typed, name, length))
        *distance = 1;
    return *distance <= most;
}

const char *la_command_near(const char *typed) {
    const char *best = NULL;
    for (size_t i = 0, least = SIZE_MAX, distance; i < LA_COMMANDS; i++)
        if (is_near(typed, la_commands[i]->name, &distance) && distance < least) {
            least = distance;
            best = la_commands[i]->name;
        }
    return best;
}

/* "compare and predict": the commands that take the option; "" if none does. */
static void list_takers(const char *name, char out[NAMES_TEXT]) {
    const char *takers[LA_COMMANDS];
    int n = 0;
    for (int i = 0; i < LA_COMMANDS; i++)
        if (find(la_commands[i], name, strlen(name)) >= 0)
            takers[n++] = la_commands[i]->name;
    la_list_sentence(out, NAMES_TEXT, takers, n);
}

static la_status unknown(const la_command *command, const char *text, la_error *err) {
    char name[64], takers[NAMES_TEXT];
    const char *best = NULL;
    const la_option *option;
    size_t least = SIZE_MAX, distance, place;
    size_t length = strcspn(text, "="), fits = la_visible_cut(text, sizeof name - 1);
    snprintf(name, sizeof name, "%.*s", (int)(length < fits ? length : fits), text);
    const char *bare = name + strspn(name, "-");
    for (int i = 0; (option = la_option_at(command, i, &place)); i++)
        if (is_near(bare, option->name, &distance) && distance < least) {
            least = distance;
            best = option->name;
        }
    list_takers(bare, takers);
    if (!strncmp(name, "--", 2) && *takers)
        return la_fail(err, LA_USAGE, "%s takes no option %s, it is of %s; see laplora %s --help",
                       command->name, name, takers, command->name);
    return la_fail(err, LA_USAGE, "%s takes no option %s%s%s%s; see laplora %s --help",
                   command->name, name, best ? ", did you mean --" : "", best ? best : "",
                   best ? "?" : "", command->name);
}

/* ---- values ---- */

static int find_name(const la_option *option, const char *value) {
    for (int i = 0; i < option->n_names; i++)
        if (!strcmp(la_option_name(option, i), value))
            return i;
    return -1;
}

static la_status store_integer(const la_option *option, const char *value, int64_t *to,
                               la_error *err) {
    char names[NAMES_TEXT], range[64];
    list_names(option, ", ", names);
    if (find_name(option, value) >= 0) {
        *to = -1;
        return LA_OK;
    }
    if (la_integer_parse(value, to) && *to >= option->min && *to <= option->max)
        return LA_OK;
    snprintf(range, sizeof range, "from %lld to %lld", (long long)option->min,
             (long long)option->max);
    if (option->max == INT64_MAX)
        snprintf(range, sizeof range, "of at least %lld", (long long)option->min);
    return la_fail(err, LA_USAGE, "--%s \"%s\": expected %s%san integer %s", option->name, value,
                   names, *names ? " or " : "", range);
}

static la_status store_number(const la_option *option, const char *value, la_number *to,
                              la_error *err) {
    char names[NAMES_TEXT];
    list_names(option, ", ", names);
    *to = (la_number){.given = true, .name = find_name(option, value)};
    if (to->name >= 0 || (la_number_parse(value, &to->value) && to->value > 0))
        return LA_OK;
    return la_fail(err, LA_USAGE, "--%s \"%s\": expected %s%sa positive number", option->name,
                   value, names, *names ? " or " : "");
}

static la_status store_list(const la_option *option, const char *value, uint64_t *to,
                            la_error *err) {
    char names[NAMES_TEXT], title[64];
    la_list list;
    snprintf(title, sizeof title, "--%s", option->name);
    list_names(option, ", ", names);
    LA_TRY(la_list_parse(title, value, &list, err));
    *to = 0;
    for (size_t i = 0; i < list.n && err->status == LA_OK; i++) {
        int place = find_name(option, list.items[i]);
        if (place < 0)
            (void)la_fail(err, LA_USAGE, "--%s \"%s\": expected some of %s", option->name,
                          list.items[i], names);
        else
            *to |= (uint64_t)1 << place;
    }
    la_list_free(&list);
    return err->status;
}

static la_status store(const la_option *option, const char *value, void *to, la_error *err) {
    char names[NAMES_TEXT];
    switch (option->kind) {
    case LA_OPTION_FLAG:
        *(bool *)to = true;
        return LA_OK;
    case LA_OPTION_TEXT:
    case LA_OPTION_PAIR: /* the first */
        *(const char **)to = value;
        return LA_OK;
    case LA_OPTION_REPEATED: {
        la_texts *list = to;
        if (list->n == LA_REPEATS_MAX)
            return la_fail(err, LA_USAGE, "--%s is given more than %d times", option->name,
                           LA_REPEATS_MAX);
        list->values[list->n++] = value;
        return LA_OK;
    }
    case LA_OPTION_INTEGER:
        return store_integer(option, value, to, err);
    case LA_OPTION_NUMBER:
        return store_number(option, value, to, err);
    case LA_OPTION_LIST:
        return store_list(option, value, to, err);
    case LA_OPTION_CHOICE:
        *(int *)to = find_name(option, value);
        if (*(int *)to >= 0)
            return LA_OK;
        list_names(option, ", ", names);
        return la_fail(err, LA_USAGE, "--%s \"%s\": expected one of %s", option->name, value,
                       names);
    }
    return LA_OK;
}

static void clear(const la_command *command, void *given) {
    const la_option *option;
    size_t place;
    memset(given, 0, command->size);
    for (int i = 0; (option = la_option_at(command, i, &place)); i++) {
        void *to = (char *)given + place;
        if (option->kind == LA_OPTION_CHOICE)
            *(int *)to = -1;
        if (option->kind == LA_OPTION_INTEGER)
            *(int64_t *)to = option->absent;
    }
}

/* ---- the command line ---- */

typedef struct parsing {
    const la_command *command;
    int argc, at; /* the argument looked at */
    char **argv;
    void *given;
    bool seen[LA_OPTIONS_MAX];
} parsing;

static la_status take_operand(parsing *p, la_error *err) {
    la_common *common = p->given;
    if (common->n_operands == LA_OPERANDS_MAX && !p->command->many)
        return la_fail(err, LA_USAGE, "too many operands, at \"%s\"", p->argv[p->at]);
    /* gathered at the front of argv, over what is read already */
    common->operands = (const char **)(p->argv + 1);
    common->operands[common->n_operands++] = p->argv[p->at];
    return LA_OK;
}

/* The value behind '=', or the argument that follows. */
static la_status take_value(parsing *p, const la_option *option, const char *equals,
                            const char **value, la_error *err) {
    const char *next = p->at + 1 < p->argc ? p->argv[p->at + 1] : NULL;
    *value = equals ? equals + 1 : next;
    if (!*value)
        return la_fail(err, LA_USAGE, "--%s needs a value: %s", option->name, option->help);
    if (!equals && !strncmp(next, "--", 2))
        return la_fail(err, LA_USAGE,
                       "--%s needs a value, and \"%s\" that follows looks like an option; write "
                       "--%s=%s if it is the value",
                       option->name, next, option->name, next);
    p->at += !equals;
    if (!**value)
        return la_fail(err, LA_USAGE,
                       "--%s \"\": the value is empty; leave the option out, or "
                       "give %s",
                       option->name, option->argument ? option->argument : "a name");
    return LA_OK;
}

static la_status take_option(parsing *p, la_error *err) {
    const char *text = p->argv[p->at], *equals = strchr(text, '='), *value = NULL;
    size_t length = equals ? (size_t)(equals - text) : strlen(text), place;
    bool is_long = length > 2 && text[1] == '-';
    int number = !strcmp(text, "-h") ? find(p->command, "help", 4)
                 : is_long           ? find(p->command, text + 2, length - 2)
                                     : -1;
    if (number < 0)
        return unknown(p->command, text, err);
    const la_option *option = la_option_at(p->command, number, &place);
    void *to = (char *)p->given + place;
    if (option->kind == LA_OPTION_FLAG && equals)
        return la_fail(err, LA_USAGE, "--%s takes no value, found \"%s\"", option->name,
                       equals + 1);
    if (option->kind == LA_OPTION_FLAG)
        return store(option, NULL, to, err);
    LA_TRY(take_value(p, option, equals, &value, err));
    if (p->seen[number] && option->kind != LA_OPTION_REPEATED)
        return la_fail(err, LA_USAGE,
                       "--%s is given twice, the second time with \"%s\"; it has one value",
                       option->name, value);
    p->seen[number] = true;
    LA_TRY(store(option, value, to, err));
    return option->kind == LA_OPTION_PAIR ? take_value(p, option, NULL, (const char **)to + 1, err)
                                          : LA_OK;
}

la_status la_options_parse(const la_command *command, int argc, char **argv, void *given,
                           la_error *err) {
    parsing p = {.command = command, .argc = argc, .argv = argv, .given = given};
    bool ended = false;
    clear(command, given);
    for (p.at = 1; p.at < argc; p.at++) {
        const char *text = argv[p.at];
        if (!ended && !strcmp(text, "--"))
            ended = true;
        else if (ended || *text != '-' || !text[1])
            LA_TRY(take_operand(&p, err));
        else
            LA_TRY(take_option(&p, err));
    }
    return LA_OK;
}

/* ---- help ---- */

/* The words of the text, in lines that end before WIDTH; it begins at column LEFT. */
static void print_wrapped(const char *text, FILE *stream) {
    int column = LEFT;
    for (const char *word = text; *word;) {
        int length = (int)strcspn(word, " ");
        if (column > LEFT && column + 1 + length > WIDTH) {
            fprintf(stream, "\n%*s", LEFT, "");
            column = LEFT;
        }
        column += fprintf(stream, "%s%.*s", column > LEFT ? " " : "", length, word);
        word += length + (word[length] == ' ');
    }
    fputc('\n', stream);
}

static void print_option(const la_option *option, FILE *stream) {
    char left[NAMES_TEXT + 64], names[NAMES_TEXT];
    list_names(option, option->kind == LA_OPTION_LIST ? "," : "|", names);
    const char *argument = option->argument ? option->argument : "";
    snprintf(left, sizeof left, "--%s%s%s%s%s", option->name, *names || *argument ? " " : "", names,
             *names && *argument ? "|" : "", argument);
    int used = fprintf(stream, "  %s", left);
    if (used + 2 > LEFT)
        fprintf(stream, "\n%*s", LEFT, "");
    else
        fprintf(stream, "%*s", LEFT - used, "");
    print_wrapped(option->help, stream);
}

void la_options_help(const la_command *command, FILE *stream) {
    const la_option *option;
    size_t place;
    fprintf(stream, "laplora %s: %s\n\nusage: laplora %s %s\n\n", command->name, command->summary,
            command->name, command->usage);
    for (int i = 0; (option = la_option_at(command, i, &place)); i++)
        print_option(option, stream);
}
