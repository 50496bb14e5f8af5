#include "input/row_label.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "base/stop.h"
#include "input/json.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* ---- spelling ---- */

typedef enum spelling {
    SPELLS_NONE,
    SPELLS_NUMBER,
    SPELLS_TRUTH,
    SPELLS_TEXT,
    SPELLS_OTHER
} spelling;

typedef struct spelled {
    spelling spelling;
    double number; /* a truth is 1 or 0 */
    bool quoted;   /* a string, which names a class before it counts one */
    char text[64]; /* the number, for messages; of a string the string itself is shown */
} spelled;

static bool is_name(const la_labels *labels, const char *text, int64_t *class) {
    for (int64_t i = 0; labels->names && i < labels->count; i++)
        if (!strcmp(labels->names[i], text)) {
            *class = i;
            return true;
        }
    return false;
}

/* True of the words that pandas, R and spreadsheets write where a value is missing. */
static bool is_missing(const char *text) {
    static const char *const words[] = {"NA", "N/A", "<NA>", "None", "null", "NULL"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(text, words[i]))
            return true;
    return !*text || !strcasecmp(text, "nan");
}

/* text without blanks around it; false when it does not fit. */
static bool trim(const char *text, char *out, size_t size) {
    size_t length = strlen(text);
    while (length && isspace((unsigned char)*text)) {
        text++;
        length--;
    }
    while (length && isspace((unsigned char)text[length - 1]))
        length--;
    if (length >= size)
        return false;
    memcpy(out, text, length);
    out[length] = 0;
    return true;
}

static spelled spelled_text(const json_t *value) {
    spelled v = {.spelling = SPELLS_TEXT, .quoted = true};
    const char *text = json_string_value(value);
    char plain[64];
    if (strlen(text) != json_string_length(value) || !trim(text, plain, sizeof plain))
        return v;
    if (is_missing(plain))
        v.spelling = SPELLS_NONE;
    else if (la_number_parse(plain, &v.number))
        v.spelling = SPELLS_NUMBER;
    else if (!strcasecmp(plain, "true") || !strcasecmp(plain, "false"))
        v = (spelled){SPELLS_TRUTH, tolower((unsigned char)*plain) == 't', true, ""};
    snprintf(v.text, sizeof v.text, "%s", plain);
    return v;
}

static spelled spelled_of(const json_t *value) {
    spelled v = {.spelling = SPELLS_OTHER};
    if (!value || json_is_null(value)) {
        v.spelling = SPELLS_NONE;
    } else if (json_is_string(value)) {
        v = spelled_text(value);
    } else if (json_is_integer(value)) {
        v = (spelled){.spelling = SPELLS_NUMBER, .number = (double)json_integer_value(value)};
        snprintf(v.text, sizeof v.text, "%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        v = (spelled){.spelling = SPELLS_NUMBER, .number = json_real_value(value)};
        snprintf(v.text, sizeof v.text, "%.10g", json_real_value(value));
    } else if (json_is_boolean(value)) {
        v = (spelled){.spelling = SPELLS_TRUTH, .number = json_is_true(value)};
        snprintf(v.text, sizeof v.text, "%s", json_is_true(value) ? "true" : "false");
    }
    return v;
}

static bool number_is_name(const la_labels *labels, double number, int64_t *class) {
    double named;
    for (int64_t i = 0; labels->names && i < labels->count; i++)
        if (la_number_parse(labels->names[i], &named) && named == number) {
            *class = i;
            return true;
        }
    return false;
}

static bool number_is_class(double number, int64_t n_classes) {
    return number == floor(number) && number >= 0 && number < (double)n_classes;
}

/* ---- one reading for a file ---- */

/* True where a number may be the name of one class and the index of another. */
static bool names_are_other_numbers(const la_labels *labels) {
    double named;
    for (int64_t i = 0; labels->names && i < labels->count; i++)
        if (la_number_parse(labels->names[i], &named) && named != (double)i)
            return true;
    return false;
}

/* Labels seen in a file. */
typedef struct label_evidence {
    bool names, indices; /* some are names and no indices, and the other way round */
    bool minus_one;      /* a class has the name -1, which else stands for no label */
} label_evidence;

static void weigh(const json_t *label, bool table, const la_label_rule *rule,
                  label_evidence *seen) {
    int64_t class;
    spelled v = spelled_of(label);
    if (v.spelling != SPELLS_NUMBER)
        return;
    bool named = number_is_name(rule->names, v.number, &class);
    bool counted = number_is_class(v.number, rule->n_classes);
    if (v.number == -1)
        seen->minus_one |= named;
    else if (named && (!counted || (v.quoted && !table)))
        seen->names = true;
    else if (counted && !named)
        seen->indices = true;
}

static la_status look_through(const char *path, const la_row_fields *fields,
                              const la_label_rule *rule, label_evidence *seen, la_error *err) {
    /* labels alone are of interest here; what is wrong with a row is reported when it is read */
    la_row_fields only = {.label = fields->label, .tagged = true};
    la_row_reader *reader;
    la_row row;
    la_error ignored = {0};
    bool more = true;
    if (la_row_reader_open(path, &only, &reader, &ignored) != LA_OK)
        return LA_OK;
    for (int64_t n = 1; more && err->status == LA_OK; n++) {
        ignored = (la_error){0};
        la_status status = la_row_reader_next(reader, &row, &more, &ignored);
        if (status == LA_OK && more)
            weigh(row.label, la_row_reader_is_table(reader), rule, seen);
        if (n % 1024 == 0)
            (void)la_check_interrupt(err);
    }
    la_row_reader_close(reader);
    return err->status;
}

la_status la_label_reading_find(const char *path, const la_row_fields *fields, la_label_rule *rule,
                                la_error *err) {
    label_evidence seen = {0};
    struct stat info;
    rule->reading = LA_READING_EITHER;
    if (!names_are_other_numbers(rule->names))
        return LA_OK;
    bool looked = strcmp(path, "-") && !stat(path, &info) && S_ISREG(info.st_mode);
    if (looked)
        LA_TRY(look_through(path, fields, rule, &seen, err));
    bool names = seen.names || (seen.minus_one && !seen.indices);
    rule->reading = seen.indices && !names ? LA_READING_INDICES : LA_READING_NAMES;
    const char *name = looked ? path : "standard input", *first = rule->names->names[0];
    if (rule->reading == LA_READING_INDICES)
        la_warn(fields->log,
                "%s: labels are read as numbers of classes from 0, not as class names (%s, ...): "
                "some are no name",
                name, first);
    else
        la_warn(fields->log,
                "%s: labels are read as class names (%s, ...), not as numbers of "
                "classes from 0%s",
                name, first,
                names ? ""
                      : "; to have them read as numbers, name the classes so: --labels 0,1,...");
    return LA_OK;
}

/* ---- one row ---- */

/* Appends "ham, spam" as far as it fits. */
static void list_names(const la_labels *labels, char *out, size_t size) {
    size_t used = 0;
    *out = 0;
    for (int64_t i = 0; labels->names && i < labels->count; i++) {
        size_t needed = strlen(labels->names[i]) + sizeof ", ...";
        if (used + needed + 5 > size) {
            snprintf(out + used, size - used, "%s...", i ? ", " : "");
            return;
        }
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", labels->names[i]);
    }
}

static la_status no_class(const la_row_reader *reader, const la_row *row, const spelled *v,
                          const la_label_rule *rule, la_error *err) {
    char names[256], expected[512];
    const char *text = json_string_value(row->label);
    bool whole = v->spelling == SPELLS_NUMBER && v->number == floor(v->number);
    list_names(rule->names, names, sizeof names);
    if (rule->reading == LA_READING_NAMES)
        snprintf(expected, sizeof expected, "one of the class names %s", names);
    else
        snprintf(expected, sizeof expected, "0 to %lld%s%s", (long long)rule->n_classes - 1,
                 *names ? " or one of the class names " : "", names);
    switch (v->spelling) {
    case SPELLS_NUMBER:
        return la_row_fail(reader, row, err, "label %s%s, expected %s", v->text,
                           whole || rule->reading == LA_READING_NAMES ? "" : " is no whole number",
                           expected);
    case SPELLS_TRUTH:
        return la_row_fail(reader, row, err,
                           "label is %s, which says a class only where there are two; "
                           "expected %s",
                           v->text, expected);
    case SPELLS_TEXT:
        return la_row_fail(reader, row, err, "label \"%s\" is no class, expected %s%s", text,
                           expected,
                           rule->names->names ? "" : "; label names are not known, give --labels");
    default:
        return la_row_fail(reader, row, err, "label is %s, expected an integer class: %s",
                           la_json_kind(row->label), expected);
    }
}

/* true and false: the class of that name, else of two classes the second and the first. */
static bool truth_class(bool truth, const la_labels *labels, int64_t n_classes, int64_t *class) {
    for (int64_t i = 0; labels->names && i < labels->count; i++)
        if (!strcasecmp(labels->names[i], truth ? "true" : "false")) {
            *class = i;
            return true;
        }
    *class = truth;
    return n_classes == 2;
}

static la_status read_class(const la_row_reader *reader, const la_row *row, const spelled *v,
                            const la_label_rule *rule, la_label *label, la_error *err) {
    const char *text = json_string_value(row->label);
    const la_labels *names = rule->names;
    char plain[256];
    int64_t class = -1;
    bool number = v->spelling == SPELLS_NUMBER, found = false;
    if (text && rule->reading != LA_READING_INDICES)
        found = is_name(names, text, &class) ||
                (trim(text, plain, sizeof plain) && is_name(names, plain, &class));
    if (!found && number && rule->reading == LA_READING_NAMES)
        found = number_is_name(names, v->number, &class);
    if (!found && number && rule->reading != LA_READING_NAMES &&
        (found = number_is_class(v->number, rule->n_classes)))
        class = (int64_t)v->number;
    if (!found && v->spelling == SPELLS_TRUTH)
        found = truth_class(v->number != 0, names, rule->n_classes, &class);
    if (found)
        label->class = class;
    else if (v->spelling != SPELLS_NONE && !(number && v->number == -1))
        return no_class(reader, row, v, rule, err);
    return LA_OK;
}

static la_status read_number(const la_row_reader *reader, const la_row *row, const spelled *v,
                             const la_label_rule *rule, la_label *label, la_error *err) {
    (void)rule;
    if (v->spelling == SPELLS_NONE)
        return LA_OK;
    if (v->spelling == SPELLS_NUMBER) {
        label->number = v->number;
        return LA_OK;
    }
    if (v->quoted)
        return la_row_fail(reader, row, err,
                           "label \"%s\" is no finite number, which the label of a regression "
                           "has to be",
                           json_string_value(row->label));
    return la_row_fail(reader, row, err, "label is %s, expected a number",
                       la_json_kind(row->label));
}

/* True of a list that has a 0 or 1, or true or false, for each class. */
static bool is_indicator(const json_t *list, int64_t n_classes) {
    size_t i;
    const json_t *entry;
    bool all = json_array_size(list) == (size_t)n_classes;
    json_array_foreach(list, i, entry) {
        double number = json_number_value(entry);
        all &= json_is_boolean(entry) || (json_is_number(entry) && (number == 0 || number == 1));
    }
    return all;
}

static la_status read_classes(const la_row_reader *reader, const la_row *row,
                              const la_label_rule *rule, const json_t *list, unsigned char *set,
                              la_error *err) {
    bool indicator = is_indicator(list, rule->n_classes);
    size_t i;
    const json_t *entry;
    la_row one = *row;
    json_array_foreach(list, i, entry) {
        spelled v = spelled_of(entry);
        la_label class = la_label_none(LA_LABEL_CLASS);
        one.label = entry;
        if (indicator) {
            set[i] = json_is_true(entry) || json_number_value(entry) == 1;
            continue;
        }
        LA_TRY(read_class(reader, &one, &v, rule, &class, err));
        if (la_label_is_none(class))
            return la_row_fail(reader, row, err, "label[%zu] is missing, expected a class", i);
        set[class.class] = 1;
    }
    return LA_OK;
}

static la_status read_set(const la_row_reader *reader, const la_row *row, const spelled *v,
                          const la_label_rule *rule, la_label *label, la_error *err) {
    const json_t *value = la_row_reader_label(reader, row, "labels");
    const char *text = json_string_value(value);
    json_t *parsed = text && *text == '[' ? la_json_loadb(text, strlen(text), 0, NULL) : NULL;
    json_t *list = parsed ? parsed : json_incref((json_t *)(uintptr_t)value);
    (void)v;
    if (!json_is_array(list) && spelled_of(list).spelling != SPELLS_NONE) {
        json_t *alone = json_pack("[o]", list);
        list = alone;
    }
    unsigned char *set = NULL;
    la_status status = LA_OK;
    if (json_is_array(list)) {
        set = la_alloc((size_t)rule->n_classes, 1, err);
        status = set ? read_classes(reader, row, rule, list, set, err) : err->status;
    }
    json_decref(list);
    label->set = set;
    return status;
}

bool la_row_may_have_label(const la_row *row, const la_label_rule *rule) {
    return row->label || rule->kind == LA_LABEL_SET;
}

la_status la_row_label(const la_row_reader *reader, const la_row *row, const la_label_rule *rule,
                       la_label *label, la_error *err) {
    static la_status (*const readers[])(const la_row_reader *, const la_row *, const spelled *,
                                        const la_label_rule *, la_label *, la_error *) = {
        [LA_LABEL_CLASS] = read_class, [LA_LABEL_NUMBER] = read_number, [LA_LABEL_SET] = read_set};
    spelled v = spelled_of(row->label);
    *label = la_label_none(rule->kind);
    return readers[rule->kind](reader, row, &v, rule, label, err);
}
