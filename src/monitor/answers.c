#include "monitor/answers.h"
#include "base/memory.h"
#include "base/visible.h"
#include "output/gaussian_metrics.h"
#include "output/prediction_file.h"

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
    LABEL,
    PREDICTION,
    PREDICTION_LABEL,
    PROBS,
    KIND,
    MODEL,
    ID,
    TOKEN,
    VARIANCE,
    MODEL_VARIANCE,
    NOISE_VARIANCE,
    SCORES,
    FIELDS = SCORES + LA_SCORES
};
static const char *const field_names[SCORES] = {
    "label", "prediction", "prediction_label", "probs",          "confidence_kind", "model",
    "id",    "token",      "variance",         "model_variance", "noise_variance"};

enum { CLASSES_MOST = 1 << 20 };

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
    const char *name;
    int64_t line;
    int64_t n_kinds, n_models;
    size_t list_capacity, names_capacity, ids_capacity;
    known_id *ids;
    int64_t n_ids;
    const la_prediction_entry *entry;
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
        char text[24], *said = v->escaped ? la_json_value_text(v, err) : NULL;
        size_t length = said ? strlen(said) : v->length;
        length = la_visible_cut(said ? said : v->text, length < 20 ? length : 20);
        snprintf(text, sizeof text, "%.*s", (int)length, said ? said : v->text);
        la_visible(text, shown, sizeof shown);
        free(said);
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
    json_t *list = v->type == '[' ? la_json_value_parse(v) : NULL, *entry;
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
    const la_json_value *list = r->fields[PROBS];
    la_json_value entry;
    const char *at;
    int64_t i = 0;
    *class = -1;
    *confidence = -1;
    if (list && list->type == '[')
        for (la_json_entries(list, &at); la_json_entry(list, &at, &entry); i++) {
            double p = entry.type == '0' ? la_json_value_number(&entry) : -1;
            if (p < 0 || p > 1 + 1e-9)
                break;
            if (p > *confidence) {
                *confidence = p;
                *class = i;
            }
        }
    return list && i && i == list->count ? LA_OK
                                         : bad_field(r, PROBS, "a list of probabilities", err);
}

void la_answers_word(const char *text, size_t size, char *word) {
    snprintf(word, size, "%s", text);
    for (char *c = word; *c; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 127 || *c == '"' || *c == '\\')
            *c = '?';
}

/* A word that all rows of a file should share. */
static la_status take_word(const reading *r, int f, char *word, size_t size, int64_t *n, bool *same,
                           la_error *err) {
    const la_json_value *v = r->fields[f];
    char text[LA_KIND_TEXT];
    *same = true;
    if (!v || v->type != '"')
        return LA_OK;
    char *own = la_json_value_text(v, err);
    if (!own)
        return err->status;
    la_answers_word(own, size, text);
    free(own);
    *same = !(*n)++ || !strcmp(text, word);
    if (*n == 1)
        memcpy(word, text, size);
    return LA_OK;
}

static la_status take_origin(reading *r, la_error *err) {
    la_answers *out = r->out;
    char model[LA_MODEL_TEXT];
    bool same;
    LA_TRY(take_word(r, KIND, out->kind, sizeof out->kind, &r->n_kinds, &same, err));
    if (!same)
        strcpy(out->kind, "mixed");
    memcpy(model, out->model, sizeof model);
    LA_TRY(take_word(r, MODEL, out->model, sizeof out->model, &r->n_models, &same, err));
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
    out->names[class] = la_json_value_text(v, err);
    return err->status;
}

static la_status take_id(reading *r, la_error *err) {
    const la_json_value *v = r->fields[ID];
    if (!v || r->take || r->fields[TOKEN]) /* tokens of a row share its id */
        return LA_OK;
    LA_TRY(la_grow(&r->ids, &r->ids_capacity, (size_t)r->n_ids + 1, sizeof *r->ids, err));
    char *text = v->escaped ? la_json_value_text(v, err) : NULL;
    LA_TRY(err->status);
    uint64_t keys[2] = {text ? la_hash64(text, strlen(text)) : la_hash64(v->text, v->length),
                        v->type == '"'};
    free(text);
    r->ids[r->n_ids++] = (known_id){la_hash64(keys, sizeof keys), r->line};
    return LA_OK;
}

/* ---- rows ---- */

static void count_seen(reading *r) {
    la_seen_rows *seen = &r->out->seen;
    seen->n_held_out += la_entry_is(r->entry, "held_out");
    seen->n_calibration += la_entry_is(r->entry, "calibration");
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

static la_status take_entry(reading *r, const la_prediction_entry *entry, la_error *err) {
    r->entry = entry;
    r->line = entry->line;
    if (entry->failed) {
        r->out->n_errors++;
        return LA_OK;
    }
    memset(r->fields, 0, sizeof r->fields);
    for (int m = 0; m < entry->n_members; m++) {
        int f = find_field(r, &entry->members[m]);
        if (f >= 0 && (f >= SCORES || entry->members[m].type != 'n'))
            r->fields[f] = &entry->members[m];
    }
    return take_fields(r, err);
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

static la_status read_rows(reading *r, la_prediction_file *file, la_error *err) {
    la_answers *out = r->out;
    la_prediction_entry entry;
    for (bool more = true;;) {
        LA_TRY(la_prediction_file_next(file, &entry, &more, err));
        if (!more)
            break;
        LA_TRY(take_entry(r, &entry, err));
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
    la_prediction_file *file = NULL;
    la_status status = la_prediction_file_open(path, digest, true, &file, err);
    if (status == LA_OK) {
        r->name = la_prediction_file_name(file);
        status = read_rows(r, file, err);
    }
    la_prediction_file_close(file);
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
