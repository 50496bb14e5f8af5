#include "monitor/answers.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "base/stop.h"
#include "base/visible.h"
#include "input/json.h"
#include "input/json_members.h"
#include "input/rows.h"
#include "output/gaussian_metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const la_score_info la_scores[LA_SCORES] = {
    [LA_SCORE_CONFIDENCE] = {"confidence", false, "predict writes it"},
    [LA_SCORE_ENTROPY] = {"entropy", true, "predict writes it"},
    [LA_SCORE_MUTUAL_INFORMATION] = {"mutual_information", true,
                                     "predict with --samples above 0 writes it"},
    [LA_SCORE_ADUE] = {"adue", true, "fit --adue trains what it needs"},
    [LA_SCORE_OOD] = {"ood", true, "fit --ood stores what it needs, predict --emit ood writes it"},
};

/* Fields of a row that are read; scores are at their own place behind them. */
enum {
    ERROR,
    TOKENS,
    LABEL,
    PREDICTION,
    PREDICTION_LABEL,
    PROBS,
    KIND,
    MODEL,
    HELD_OUT,
    CALIBRATION,
    ID,
    TOKEN,
    VARIANCE,
    MODEL_VARIANCE,
    NOISE_VARIANCE,
    SCORES,
    FIELDS = SCORES + LA_SCORES
};
static const char *const field_names[SCORES] = {
    "error", "tokens",          "label",    "prediction",     "prediction_label",
    "probs", "confidence_kind", "model",    "held_out",       "calibration",
    "id",    "token",           "variance", "model_variance", "noise_variance"};

enum { MEMBERS_MOST = 64, CLASSES_MOST = 1 << 20 };

/* Id of a row, by its hash. */
typedef struct known_id {
    uint64_t hash;
    int64_t line;
} known_id;

typedef struct reading {
    la_answers *out;
    la_score scores[2];
    la_answer_take take; /* NULL: answers are listed */
    void *user;
    int64_t n_taken;
    la_row_reader *rows;
    const char *name;
    int64_t line;
    bool table;
    int64_t n_kinds, n_models;
    size_t list_capacity, names_capacity, ids_capacity;
    known_id *ids;
    int64_t n_ids;
    la_json_value members[MEMBERS_MOST];
    int n_members;
    size_t lengths[FIELDS]; /* of the fields' names */
    /* of the row at hand; NULL: missing, or null but for scores */
    const la_json_value *fields[FIELDS];
} reading;

static const char *field_name(int f) {
    return f < SCORES ? field_names[f] : la_scores[f - SCORES].name;
}

static la_status bad_field(const reading *r, int f, const char *expected, la_error *err) {
    const la_json_value *v = r->fields[f];
    char shown[40] = "missing";
    if (v) {
        char text[24];
        snprintf(text, sizeof text, "%.*s", (int)(v->length < 20 ? v->length : 20), v->text);
        la_visible(text, shown, sizeof shown);
    }
    return la_fail(err, LA_BAD_INPUT, "%s:%lld: \"%s\" is %s, expected %s", r->name,
                   (long long)r->line, field_name(f), shown, expected);
}

static int find_field(const reading *r, const la_json_value *member) {
    for (int f = 0; f < FIELDS; f++)
        if (member->key_length == r->lengths[f] &&
            !memcmp(member->key, field_name(f), r->lengths[f]))
            return f;
    return -1;
}

/* ---- values ---- */

static la_status take_score(const reading *r, la_score score, double *out, la_error *err) {
    int f = SCORES + (int)score;
    const la_json_value *v = r->fields[f];
    if (!v)
        return la_fail(err, LA_BAD_INPUT, "%s:%lld: no field \"%s\"; %s, or choose another --score",
                       r->name, (long long)r->line, la_scores[score].name, la_scores[score].source);
    if (v->type != '0')
        return bad_field(r, f, "a number", err);
    *out = la_json_value_number(v);
    bool share = score == LA_SCORE_CONFIDENCE || score == LA_SCORE_ADUE || score == LA_SCORE_OOD;
    if (*out < 0 || (share && *out > 1 + 1e-9))
        return bad_field(r, f, share ? "a number from 0 to 1" : "0 or more", err);
    return LA_OK;
}

static la_status take_class(const reading *r, int f, int64_t *class, la_error *err) {
    const la_json_value *v = r->fields[f];
    char expected[64] = "a class index";
    bool whole = v && la_json_value_integer(v, class);
    int64_t n = r->out->n_classes ? r->out->n_classes : CLASSES_MOST;
    if (whole && *class >= 0 && *class < n)
        return LA_OK;
    if (whole)
        snprintf(expected, sizeof expected, "0 to %lld%s", (long long)n - 1,
                 f == LABEL ? " (no \"label\" where there is none)" : "");
    return bad_field(r, f, expected, err);
}

/* Classes of a list as the keys of an object; NULL, and LA_BAD_INPUT in err, for another list. The
 * caller frees it. */
static json_t *take_set(const reading *r, int f, la_error *err) {
    const la_json_value *v = r->fields[f];
    json_t *list = v->type == '[' ? la_json_loadb(v->text, v->length, 0, NULL) : NULL, *entry;
    json_t *set = json_object();
    size_t i;
    bool bad = !list || !set;
    json_array_foreach(list, i, entry) {
        char key[24];
        snprintf(key, sizeof key, "%lld", (long long)json_integer_value(entry));
        bad |= !json_is_integer(entry) || json_object_set_new(set, key, json_true());
    }
    json_decref(list);
    if (!bad)
        return set;
    json_decref(set);
    (void)bad_field(r, f, "a list of class indices", err);
    return NULL;
}

static la_status compare_sets(reading *r, la_answer *answer, la_error *err) {
    json_t *label = take_set(r, LABEL, err), *prediction = take_set(r, PREDICTION, err);
    answer->class = -1;
    answer->right = label && prediction && json_equal(label, prediction);
    json_decref(label);
    json_decref(prediction);
    return err->status;
}

/* The largest probability and its class, for rows that do not say them. */
static la_status take_largest(const reading *r, int64_t *class, double *confidence, la_error *err) {
    const la_json_value *v = r->fields[PROBS];
    json_t *list = v && v->type == '[' ? la_json_loadb(v->text, v->length, 0, NULL) : NULL, *entry;
    size_t i;
    *class = -1;
    *confidence = -1;
    json_array_foreach(list, i, entry) {
        double p = json_number_value(entry);
        if (!json_is_number(entry) || p < 0 || p > 1 + 1e-9)
            break;
        if (p > *confidence) {
            *confidence = p;
            *class = (int64_t)i;
        }
    }
    bool whole = list && i == json_array_size(list) && i;
    json_decref(list);
    return whole ? LA_OK : bad_field(r, PROBS, "a list of probabilities", err);
}

void la_answers_word(const char *text, size_t size, char *word) {
    snprintf(word, size, "%s", text);
    for (char *c = word; *c; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 127 || *c == '"' || *c == '\\')
            *c = '?';
}

/* A word that all rows of a file should share. */
static void take_word(const reading *r, int f, char *word, size_t size, int64_t *n, bool *same) {
    const la_json_value *v = r->fields[f];
    char own[LA_KIND_TEXT], text[LA_KIND_TEXT];
    *same = true;
    if (!v || v->type != '"')
        return;
    snprintf(own, size, "%.*s", (int)(v->length < size ? v->length : size - 1), v->text);
    la_answers_word(own, size, text);
    *same = !(*n)++ || !strcmp(text, word);
    if (*n == 1)
        memcpy(word, text, size);
}

static la_status take_origin(reading *r, la_error *err) {
    la_answers *out = r->out;
    char model[LA_MODEL_TEXT];
    bool same;
    take_word(r, KIND, out->kind, sizeof out->kind, &r->n_kinds, &same);
    if (!same)
        strcpy(out->kind, "mixed");
    memcpy(model, out->model, sizeof model);
    take_word(r, MODEL, out->model, sizeof out->model, &r->n_models, &same);
    if (same)
        return LA_OK;
    return bad_field(r, MODEL, "that of the rows before: a file is of one model", err);
}

static la_status take_name(reading *r, int64_t class, la_error *err) {
    const la_json_value *v = r->fields[PREDICTION_LABEL];
    la_answers *out = r->out;
    if (!v || v->type != '"' || class < 0)
        return LA_OK;
    LA_TRY(la_grow(&out->names, &r->names_capacity, (size_t) class + 1, sizeof *out->names, err));
    for (; out->n_names <= class; out->n_names++)
        out->names[out->n_names] = NULL;
    if (out->names[class])
        return LA_OK;
    char *name = out->names[class] = la_alloc(v->length + 1, 1, err);
    if (name)
        memcpy(name, v->text, v->length);
    return err->status;
}

static la_status take_id(reading *r, la_error *err) {
    const la_json_value *v = r->fields[ID];
    if (!v || r->take || r->fields[TOKEN]) /* tokens of a row share its id */
        return LA_OK;
    LA_TRY(la_grow(&r->ids, &r->ids_capacity, (size_t)r->n_ids + 1, sizeof *r->ids, err));
    uint64_t keys[2] = {la_hash64(v->text, v->length), v->type == '"'};
    r->ids[r->n_ids++] = (known_id){la_hash64(keys, sizeof keys), r->line};
    return LA_OK;
}

/* ---- rows ---- */

static void count_seen(reading *r) {
    la_seen_rows *seen = &r->out->seen;
    seen->n_held_out += r->fields[HELD_OUT] && r->fields[HELD_OUT]->type == 't';
    seen->n_calibration += r->fields[CALIBRATION] && r->fields[CALIBRATION]->type == 't';
}

/* Scores that the row has; largest: its confidence, where no field says it. */
static la_status take_scores(const reading *r, double largest, la_answer_values *row,
                             la_error *err) {
    for (int s = 0; s < LA_SCORES; s++) {
        const la_json_value *v = r->fields[SCORES + s];
        row->scores[s] = s == LA_SCORE_CONFIDENCE ? largest : NAN;
        if (v && v->type != 'n')
            LA_TRY(take_score(r, (la_score)s, &row->scores[s], err));
    }
    return LA_OK;
}

static la_status hand_over(reading *r, la_answer_values *row, la_error *err) {
    r->n_taken++;
    r->out->n += row->labelled;
    if (row->labelled)
        count_seen(r);
    r->out->n_unlabelled += !row->labelled;
    return r->take(r->user, row, err);
}

static la_status hand_over_class(reading *r, int64_t class, double largest, bool set,
                                 la_error *err) {
    la_answer_values row = {
        .form = set ? LA_ANSWER_SET : LA_ANSWER_CLASS, .class = (int32_t) class, .label = -1};
    la_answer compared;
    int64_t label = -1;
    LA_TRY(take_scores(r, largest, &row, err));
    row.labelled = r->fields[LABEL] != NULL;
    if (row.labelled && set) {
        LA_TRY(compare_sets(r, &compared, err));
        row.right = compared.right;
    } else if (row.labelled) {
        LA_TRY(take_class(r, LABEL, &label, err));
        row.label = (int32_t)label;
        row.right = label == class;
    }
    return hand_over(r, &row, err);
}

/* A number of a regression's row; NaN where there is none and none is required. least: what it is
 * above, or at least, where orless. */
static la_status take_number(const reading *r, int f, bool required, double least, bool orless,
                             double *number, la_error *err) {
    const la_json_value *v = r->fields[f];
    *number = NAN;
    if (!v && !required)
        return LA_OK;
    *number = v && v->type == '0' ? la_json_value_number(v) : NAN;
    if (isfinite(*number) && (*number > least || (orless && *number == least)))
        return LA_OK;
    return bad_field(r, f,
                     isinf(least) ? "a number"
                     : orless     ? "0 or more"
                                  : "a number above 0",
                     err);
}

static la_status hand_over_number(reading *r, la_error *err) {
    la_answer_values row = {.form = LA_ANSWER_NUMBER, .class = -1, .label = -1};
    double variance;
    LA_TRY(take_origin(r, err));
    LA_TRY(take_scores(r, NAN, &row, err));
    LA_TRY(take_number(r, PREDICTION, true, -INFINITY, false, &row.mean, err));
    LA_TRY(take_number(r, VARIANCE, true, 0, false, &variance, err));
    LA_TRY(take_number(r, MODEL_VARIANCE, false, 0, true, &row.model_variance, err));
    LA_TRY(take_number(r, LABEL, false, -INFINITY, false, &row.target, err));
    row.deviation = sqrt(variance);
    row.labelled = !isnan(row.target);
    row.right = fabs(row.target - row.mean) <= LA_GAUSSIAN_Z90 * row.deviation;
    return hand_over(r, &row, err);
}

static bool is_number(const reading *r) {
    const la_json_value *variance = r->fields[VARIANCE];
    return r->fields[NOISE_VARIANCE] ||
           (r->fields[PREDICTION] && variance && variance->type == '0');
}

/* A prediction, its fields found. */
static la_status take_fields(reading *r, la_error *err) {
    la_answers *out = r->out;
    la_answer answer = {.score = NAN, .second = NAN};
    const la_json_value *prediction = r->fields[PREDICTION], *probs = r->fields[PROBS];
    int64_t label, class = -1;
    double largest = NAN;
    if (!probs && is_number(r) && r->take)
        return hand_over_number(r, err);
    if (!probs && is_number(r))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s:%lld: the row is of a regression, whose answers are not right or wrong; "
                       "expected rows of classes",
                       r->name, (long long)r->line);
    if (!prediction && !probs)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: no field \"probs\"; expected rows as laplora predict writes them",
                       r->name, (long long)r->line);
    if (probs && probs->type == '[') {
        if (out->n_classes && out->n_classes != probs->count)
            return la_fail(err, LA_BAD_INPUT,
                           "%s:%lld: \"probs\" has %lld entries, expected %lld, one for each class",
                           r->name, (long long)r->line, (long long)probs->count,
                           (long long)out->n_classes);
        out->n_classes = probs->count;
    }
    LA_TRY(take_origin(r, err));
    LA_TRY(take_id(r, err));
    bool set = prediction && prediction->type == '[';
    if (!prediction || !r->fields[SCORES + LA_SCORE_CONFIDENCE])
        LA_TRY(take_largest(r, &class, &largest, err));
    if (prediction && !set)
        LA_TRY(take_class(r, PREDICTION, &class, err));
    LA_TRY(take_name(r, set ? -1 : class, err));
    if (r->take)
        return hand_over_class(r, set ? -1 : class, largest, set, err);
    for (int s = 0; s < 2; s++) {
        double *score = s ? &answer.second : &answer.score;
        if (r->scores[s] == LA_SCORE_CONFIDENCE && !r->fields[SCORES + LA_SCORE_CONFIDENCE])
            *score = largest;
        else if (r->scores[s] != LA_SCORE_NONE)
            LA_TRY(take_score(r, r->scores[s], score, err));
    }
    if (!r->fields[LABEL]) {
        out->n_unlabelled++;
        return LA_OK;
    }
    answer.class = (int32_t) class;
    if (set) {
        LA_TRY(compare_sets(r, &answer, err));
    } else {
        LA_TRY(take_class(r, LABEL, &label, err));
        answer.right = label == class;
    }
    count_seen(r);
    out->n_tokens += r->fields[TOKEN] != NULL;
    LA_TRY(la_grow(&out->list, &r->list_capacity, (size_t)out->n + 1, sizeof *out->list, err));
    out->list[out->n++] = answer;
    return LA_OK;
}

static void find_fields(reading *r) {
    memset(r->fields, 0, sizeof r->fields);
    for (int m = 0; m < r->n_members; m++) {
        int f = find_field(r, &r->members[m]);
        if (f >= 0 && (f >= SCORES || r->members[m].type != 'n'))
            r->fields[f] = &r->members[m];
    }
}

static bool scan(void *user, const char *text, size_t length) {
    reading *r = user;
    if (!la_json_members(text, length, r->members, MEMBERS_MOST, &r->n_members))
        return false;
    find_fields(r);
    return !r->fields[TOKENS];
}

/* Value of a parsed row in the form in which scanned ones are; *text is to be freed. */
static la_json_value value_of(const json_t *value, bool table, char **text) {
    static const char types[] = {
        [JSON_OBJECT] = '{', [JSON_ARRAY] = '[', [JSON_STRING] = '"', [JSON_INTEGER] = '0',
        [JSON_REAL] = '0',   [JSON_TRUE] = 't',  [JSON_FALSE] = 'f',  [JSON_NULL] = 'n'};
    double number;
    la_json_value v = {.type = types[json_typeof(value)]};
    if (json_is_string(value)) {
        v.text = json_string_value(value);
        v.length = json_string_length(value);
        bool digits = table && v.length < LA_JSON_DIGITS && la_number_parse(v.text, &number);
        v.type = table && !v.length ? 'n' : digits ? '0' : table && *v.text == '[' ? '[' : '"';
        if (table && !strcmp(v.text, "true"))
            v.type = 't';
        return v;
    }
    v.text = *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    v.length = *text ? strlen(*text) : 0;
    v.count = (int64_t)json_array_size(value);
    return v;
}

/* A row that was parsed. */
static la_status take_object(reading *r, const json_t *row, la_error *err) {
    char *texts[FIELDS] = {NULL};
    la_json_value values[FIELDS];
    const char *column;
    json_t *cell;
    int64_t n_probs = 0;
    memset(r->fields, 0, sizeof r->fields);
    for (int f = 0; f < FIELDS; f++) {
        const json_t *value = json_object_get(row, field_name(f));
        if (!value)
            continue;
        values[f] = value_of(value, r->table, &texts[f]);
        if (!values[f].text && values[f].type != 'n')
            (void)la_fail(err, LA_RESOURCE, "out of memory for a row");
        bool missing = values[f].type == 'n' && (f < SCORES || r->table);
        r->fields[f] = missing ? NULL : &values[f];
    }
    json_object_foreach((json_t *)(uintptr_t)row, column, cell) n_probs +=
        r->table && !strncmp(column, "prob_", 5);
    if (n_probs)
        r->out->n_classes = n_probs;
    la_status status = err->status == LA_OK ? take_fields(r, err) : err->status;
    for (int f = 0; f < FIELDS; f++)
        free(texts[f]);
    return status;
}

static la_status take_row(reading *r, const la_row *row, la_error *err) {
    const json_t *error = json_object_get(row->object, "error");
    const json_t *tokens = json_object_get(row->object, "tokens"), *entry;
    bool failed = error && !json_is_null(error) && (!r->table || json_string_length(error));
    size_t i;
    if (row->object ? failed : r->fields[ERROR] != NULL) {
        r->out->n_errors++;
        return LA_OK;
    }
    if (!row->object)
        return take_fields(r, err);
    if (!json_is_array(tokens) || json_object_get(row->object, "probs"))
        return take_object(r, row->object, err);
    json_array_foreach((json_t *)(uintptr_t)tokens, i, entry) LA_TRY(take_object(r, entry, err));
    return LA_OK;
}

static int by_hash(const void *a, const void *b) {
    const known_id *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

static la_status check_ids(reading *r, la_error *err) {
    const known_id *first = NULL;
    if (r->n_ids)
        qsort(r->ids, (size_t)r->n_ids, sizeof *r->ids, by_hash);
    for (int64_t i = 1; i < r->n_ids; i++)
        if (r->ids[i].hash == r->ids[i - 1].hash && (!first || r->ids[i].line < first->line))
            first = &r->ids[i];
    if (!first)
        return LA_OK;
    return la_fail(
        err, LA_BAD_INPUT,
        "%s:%lld: the row has the \"id\" of line %lld; each labelled row counts once, as "
        "its error says nothing new the second time: leave one of them out",
        r->name, (long long)first->line, (long long)first[-1].line);
}

static la_status read_rows(reading *r, la_error *err) {
    la_answers *out = r->out;
    la_row row;
    for (bool more = true;;) {
        LA_TRY(la_row_reader_next(r->rows, &row, &more, err));
        if (!more)
            break;
        r->line = row.line;
        LA_TRY(take_row(r, &row, err));
        if (row.index % 1024 == 0)
            LA_TRY(la_check_interrupt(err));
    }
    if (r->take && !r->n_taken)
        return la_fail(err, LA_BAD_INPUT, "%s: no predictions, and %lld rows with an error; %s",
                       r->name, (long long)out->n_errors, "expected prediction rows");
    if (!r->take && !out->n)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: no row with a label: %lld without one, %lld with an error; expected "
                       "predictions of labelled rows",
                       r->name, (long long)out->n_unlabelled, (long long)out->n_errors);
    return check_ids(r, err);
}

static la_status read_file(const char *path, reading *r, la_answers *answers, la_error *err) {
    la_digest *digest = la_digest_new(err);
    *answers = (la_answers){0};
    if (!digest)
        return err->status;
    r->out = answers;
    for (int f = 0; f < FIELDS; f++)
        r->lengths[f] = strlen(field_name(f));
    la_row_fields fields = {.objects = true,
                            .expected = "a prediction file",
                            .scan = scan,
                            .user = r,
                            .digest = digest};
    la_status status = la_row_reader_open(path, &fields, &r->rows, err);
    if (status == LA_OK) {
        r->name = la_row_reader_name(r->rows);
        r->table = la_row_reader_is_table(r->rows);
        status = read_rows(r, err);
    }
    la_row_reader_close(r->rows);
    la_digest_finish(digest, answers->digest);
    free(r->ids);
    if (status != LA_OK)
        la_answers_free(answers);
    return status;
}

la_status la_answers_read(const char *path, la_score score, la_score second, la_answers *answers,
                          la_error *err) {
    reading r = {.scores = {score, second}};
    return read_file(path, &r, answers, err);
}

la_status la_answers_each(const char *path, la_answer_take take, void *user, la_answers *answers,
                          la_error *err) {
    reading r = {.take = take, .user = user};
    return read_file(path, &r, answers, err);
}

void la_answers_free(la_answers *answers) {
    for (int64_t c = 0; c < answers->n_names; c++)
        free(answers->names[c]);
    free(answers->names);
    free(answers->list);
    *answers = (la_answers){0};
}
