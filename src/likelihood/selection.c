#include "likelihood/selection.h"
#include "base/memory.h"
#include "likelihood/scaling.h"
#include "likelihood/setting_table.h"
#include "likelihood/signs.h"
#include "likelihood/softmax_sum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TEMPERATURES = LA_SELECTION_TEMPERATURES };
#define TEMPERATURE_STEP 1.15
/* Likelihoods that are nearer than this are equal: they are kept in f32. */
#define ROUNDING 1e-6
/* Share of the rows that may be wrong beyond the MAP model's errors. */
#define ACCURACY_SLACK 0.005
/* Corrections of less evidence, relative to the best one's, are left out. */
#define EVIDENCE_LEAST 0.05
/* Their grid: every second scale, and seven temperatures over the range of the model's own, so that
 * four of them cost less than the model as it is. */
#define CORRECTED_STEPS (16.0 / 6)
enum { CORRECTED_STEP = 2, CORRECTED_TEMPERATURES = 7 };

void la_selection_scales(double *scales) {
    for (int i = 0; i < LA_SELECTION_SCALES; i++)
        scales[i] = pow(10, -2 + 0.25 * i);
}

void la_selection_temperatures(double scaling, double *temperatures) {
    temperatures[0] = 1;
    for (int i = 1; i < TEMPERATURES; i++)
        temperatures[i] = scaling * pow(TEMPERATURE_STEP, 5 - i);
}

/* Corrections that are tried, and the prior mass of each: biases alone and biases with weights
 * share it equally, each kind evenly over its numbers. */
enum { WEIGHED_FROM = 2, TRIED_MOST = LA_CORRECTION_SCALES + WEIGHED_FROM * LA_CORRECTION_SPREADS };
typedef struct corrections {
    int n;
    la_correction_fit fits[TRIED_MOST];
    double log_mass[TRIED_MOST];
} corrections;

/* A choice that is being made. */
typedef struct choosing {
    la_setting_table table;
    const la_held_out *rows;
    corrections tried;
    double *base;              /* [3, n] nll of MAP, of temperature scaling and of the average */
    unsigned char *map, *mean; /* [n] bits of the MAP model's answers and the average's */
    int64_t n_right;           /* rows that the MAP model has right */
    double temperature;        /* temperature scaling's own */
    la_average_list list;
} choosing;

/* ---- choosing ---- */

const char *const la_method_names[LA_METHODS] = {"map",
                                                 "temperature",
                                                 "laplace",
                                                 "laplace-scalar",
                                                 "laplace+temperature",
                                                 "laplace-scalar+temperature",
                                                 "average"};

/* A method's numbers that are chosen, and which table its rows are in. */
typedef struct method_info {
    const char *predictive;
    int chosen, base;
    bool laplace, scalar, tempered;
} method_info;

static const method_info methods[LA_METHODS] = {
    [LA_METHOD_MAP] = {"map"},
    [LA_METHOD_AVERAGE] = {LA_AVERAGE_NAME, .base = 2},
    [LA_METHOD_TEMPERATURE] = {"temperature", .chosen = 1, .base = 1},
    [LA_METHOD_LAPLACE] = {"mc", .chosen = 1, .laplace = true},
    [LA_METHOD_SCALAR] = {"scalar", .chosen = 1, .laplace = true, .scalar = true},
    [LA_METHOD_TEMPERED] = {"mc", .chosen = 2, .laplace = true, .tempered = true},
    [LA_METHOD_TEMPERED_SCALAR] = {"scalar", .chosen = 2, .laplace = true, .scalar = true,
                                   .tempered = true},
};

/* Number of the setting of a method with a covariance, of the model as it is. */
static int64_t number_of(const choosing *t, int method, int64_t scale, int temperature) {
    const la_setting_group *group = t->table.groups;
    int64_t cell = scale * group->n_temperatures + temperature;
    return cell + (methods[method].scalar ? group->n_scales * group->n_temperatures : 0);
}

/* -log of the label's probabilities of all rows */
static double row_nll(const choosing *t, int method, int64_t number, int64_t i) {
    return methods[method].laplace ? (double)t->table.nll[number * t->rows->n + i]
                                   : t->base[methods[method].base * t->rows->n + i];
}

static double mean_nll(const choosing *t, int method, int64_t number) {
    double sum = 0;
    for (int64_t i = 0; i < t->rows->n; i++)
        sum += row_nll(t, method, number, i);
    return sum / (double)t->rows->n;
}

/* Number of answers that are right. *admitted: not fewer than the MAP model's by more than chance
 * (the standard error of the count of rows where they differ) or than a two-hundredth. */
static int64_t count_right(const choosing *t, const unsigned char *answers, bool *admitted) {
    int64_t n = t->rows->n, right = 0, differ = 0;
    for (int64_t i = 0; i < n; i++) {
        right += answers[i] & LA_ANSWER_RIGHT;
        differ += (answers[i] ^ t->map[i]) & LA_ANSWER_RIGHT;
    }
    double lost = (double)(t->n_right - right);
    *admitted = lost <= sqrt((double)differ) && lost <= ACCURACY_SLACK * (double)n;
    return right;
}

/* Closed forms of the model as it is keep the MAP model's answers on all rows. */
static int64_t right_of(const choosing *t, int64_t number, bool *admitted) {
    la_setting_place place = la_setting_find(&t->table, number);
    int64_t right = count_right(t, la_setting_answers(&t->table, number), admitted);
    if (t->rows->keep_answers && (place.group || place.family == LA_METHOD_LAPLACE))
        *admitted = false;
    return right;
}

/* Fills the candidate, whose nll is NaN when no setting is admitted. Returns the best one's
 * number. */
static int64_t best_setting(const choosing *t, int method, la_candidate *to) {
    const la_held_out *rows = t->rows;
    const method_info *info = &methods[method];
    int64_t best = 0;
    *to = (la_candidate){.prior_scale = 1, .temperature = 1, .nll = NAN, .accuracy = NAN};
    if (!info->laplace) {
        to->nll = mean_nll(t, method, 0);
        to->accuracy = (double)t->n_right / (double)rows->n;
        to->temperature = method == LA_METHOD_TEMPERATURE ? t->temperature : 1;
        return 0;
    }
    to->prior_scale = rows->scales[0];
    for (int64_t g = 0; g < rows->n_scales; g++)
        for (int u = 0; u < (info->tempered ? TEMPERATURES : 1); u++) {
            int64_t number = number_of(t, method, g, u);
            double nll = mean_nll(t, method, number);
            bool admitted;
            int64_t right = right_of(t, number, &admitted);
            if (nll >= to->nll || !admitted)
                continue;
            best = number;
            *to = (la_candidate){.prior_scale = rows->scales[g],
                                 .temperature = t->table.groups->temperatures[u],
                                 .nll = nll,
                                 .accuracy = (double)right / (double)rows->n};
        }
    return best;
}

static la_status base_rows(choosing *t, la_error *err) {
    const la_held_out *rows = t->rows;
    int64_t n = rows->n, c = rows->n_classes;
    double *p = la_alloc((size_t)c, sizeof *p, err);
    for (int64_t i = 0; p && i < n; i++) {
        const float *f = rows->logits + i * c;
        la_label label = {.kind = LA_LABEL_CLASS, .class = rows->labels.classes[i]};
        t->base[i] = -la_softmax_likelihood.log_likelihood(c, f, label);
        for (int64_t k = 0; k < c; k++)
            p[k] = (double)f[k] / t->temperature;
        double own = p[label.class];
        la_softmax_sum sum = la_softmax(c, p);
        t->base[n + i] = sum.log_sum - own;
        int64_t top = 0;
        for (int64_t k = 1; k < c; k++)
            top = f[k] > f[top] ? k : top;
        t->map[i] = top == label.class ? LA_ANSWER_RIGHT : 0;
        t->n_right += t->map[i];
    }
    free(p);
    return err->status;
}

/* Mean distance of a candidate from the best, and its standard error. */
static void compare(const choosing *t, int method, int64_t number, int best, int64_t of_best,
                    la_candidate *to) {
    double n = (double)t->rows->n, sum = 0, square = 0;
    for (int64_t i = 0; i < t->rows->n; i++) {
        double gap = row_nll(t, method, number, i) - row_nll(t, best, of_best, i);
        sum += gap;
        square += gap * gap;
    }
    to->gap = sum / n;
    double variance = square / n - to->gap * to->gap;
    to->gap_error = sqrt((variance > 0 ? variance : 0) / (n > 1 ? n - 1 : 1));
}

/* Numbers that are chosen on the rows look better there than they are: by half a unit of log
 * likelihood each, and half a unit they cost on others (Akaike). */
static double charged(const la_choice *choice, int method) {
    return choice->candidates[method].nll + (double)methods[method].chosen / (double)choice->n;
}

static void count_changes(const choosing *t, const unsigned char *answers, la_changes *to) {
    for (int64_t i = 0; i < t->rows->n; i++) {
        bool right = answers[i] & LA_ANSWER_RIGHT, was = t->map[i] & LA_ANSWER_RIGHT;
        to->n += (answers[i] & LA_ANSWER_CHANGED) != 0;
        to->to_right += right && !was;
        to->to_wrong += was && !right;
    }
}

static void choose(const choosing *t, la_choice *choice) {
    int64_t settings[LA_METHODS] = {0};
    la_candidate *all = choice->candidates;
    int best = LA_METHOD_MAP;
    for (int k = 0; k < LA_METHODS; k++) {
        if (k != LA_METHOD_AVERAGE)
            settings[k] = best_setting(t, k, &all[k]);
        best = all[k].nll < all[best].nll ? k : best;
    }
    for (int k = 0; k < LA_METHODS; k++)
        if (isfinite(all[k].nll))
            compare(t, k, settings[k], best, settings[best], &all[k]);
    choice->method = la_choice_single(choice);
    if (isfinite(all[LA_METHOD_AVERAGE].nll))
        choice->method = LA_METHOD_AVERAGE;
    /* the benefit of the doubt */
    double doubt = choice->n < LA_DOUBT_ROWS ? 0 : all[LA_METHOD_MAP].gap_error;
    if (all[LA_METHOD_MAP].gap <= doubt + ROUNDING)
        choice->method = LA_METHOD_MAP;
    la_candidate against;
    compare(t, LA_METHOD_MAP, 0, choice->method, settings[choice->method], &against);
    choice->gain = against.gap;
    choice->gain_error = against.gap_error;
    if (choice->method == LA_METHOD_AVERAGE)
        count_changes(t, t->mean, &choice->changes);
    else if (methods[choice->method].laplace)
        count_changes(t, la_setting_answers(&t->table, settings[choice->method]), &choice->changes);
}

/* ---- averaging ---- */

/* Every family of a group has the same mass, spread evenly over its settings that are admitted. */
static void set_prior(const choosing *t, int n_groups, double *log_prior) {
    int64_t counts[LA_SETTING_GROUPS][LA_METHODS] = {{0}};
    for (int64_t s = 0; s < t->table.n; s++) {
        la_setting_place place = la_setting_find(&t->table, s);
        bool admitted;
        right_of(t, s, &admitted);
        admitted &= place.group < n_groups;
        log_prior[s] = admitted ? t->table.groups[place.group].log_mass : -INFINITY;
        counts[place.group][place.family] += admitted;
    }
    for (int64_t s = 0; s < t->table.n; s++) {
        la_setting_place place = la_setting_find(&t->table, s);
        int families = place.group ? 3 : 4; /* a correction has no MAP model */
        if (isfinite(log_prior[s]))
            log_prior[s] -= log((double)(families * counts[place.group][place.family]));
    }
}

/* Means over the rows of the outputs less their mean. */
static void put_centre(const la_held_out *rows, double *centre) {
    int64_t n = rows->n, c = rows->n_classes;
    for (int64_t i = 0; i < n; i++) {
        const float *f = rows->logits + i * c;
        double mean = 0;
        for (int64_t k = 0; k < c; k++)
            mean += (double)f[k] / (double)c;
        for (int64_t k = 0; k < c; k++)
            centre[k] += ((double)f[k] - mean) / (double)n;
    }
}

/* The list goes into the choice, the heaviest first, with the corrections that it has. */
static void put_list(const choosing *t, la_choice *choice) {
    int64_t numbers[LA_SETTING_GROUPS] = {0};
    choice->n_settings = t->list.n;
    choice->shortening = t->list.difference;
    for (int64_t j = 0; j < t->list.n; j++) {
        la_setting_place place = la_setting_find(&t->table, t->list.setting[j]);
        const la_setting_group *group = &t->table.groups[place.group];
        if (group->correction && !numbers[place.group]) {
            choice->corrections[choice->n_corrections++] = *group->correction;
            numbers[place.group] = choice->n_corrections;
        }
        bool scaled = methods[place.family].laplace;
        la_setting one = {.method = place.family,
                          .prior_scale = scaled ? t->rows->scales[place.scale] : 1,
                          .temperature = group->temperatures[place.temperature],
                          .weight = t->list.weight[j],
                          .correction = numbers[place.group]};
        int64_t at = j;
        for (; at && choice->settings[at - 1].weight < one.weight; at--)
            choice->settings[at] = choice->settings[at - 1];
        choice->settings[at] = one;
    }
    if (choice->n_corrections)
        put_centre(t->rows, choice->centre);
}

/* The average's likelihood, its list and how many rows that answers right, over the first n_groups
 * groups; none when those are too few. memory: 2 numbers a setting. */
static la_status average(choosing *t, int n_groups, double *memory, la_choice *choice,
                         la_error *err) {
    int64_t n = t->rows->n;
    double *log_prior = memory, *weights = log_prior + t->table.n;
    double *nll = t->base + methods[LA_METHOD_AVERAGE].base * n;
    la_average_table all = {
        .n_settings = t->table.n, .n = n, .nll = t->table.nll, .log_prior = log_prior};
    la_candidate *own = &choice->candidates[LA_METHOD_AVERAGE];
    *own = (la_candidate){.prior_scale = 1, .temperature = 1, .nll = NAN, .accuracy = NAN};
    set_prior(t, n_groups, log_prior);
    la_average_weights(&all, weights);
    la_average_left_out(&all, weights, nll);
    LA_TRY(la_average_shorten(&all, weights, LA_SETTINGS_MOST, &t->list, err));
    LA_TRY(la_setting_table_mean(&t->table, &t->list, t->mean, err));
    bool admitted;
    int64_t right = count_right(t, t->mean, &admitted);
    if (!admitted)
        return LA_OK;
    own->nll = mean_nll(t, LA_METHOD_AVERAGE, 0);
    own->accuracy = (double)right / (double)n;
    put_list(t, choice);
    return LA_OK;
}

static la_status add_average(choosing *t, la_choice *choice, la_error *err) {
    double *memory = la_alloc((size_t)(2 * t->table.n), sizeof *memory, err);
    t->list.setting = la_alloc(LA_SETTINGS_MOST, sizeof *t->list.setting, err);
    t->list.weight = la_alloc(LA_SETTINGS_MOST, sizeof *t->list.weight, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = average(t, t->table.n_groups, memory, choice, err);
    if (status == LA_OK && !choice->n_settings && t->table.n_groups > 1)
        status = average(t, 1, memory, choice, err);
    free(memory);
    free(t->list.setting);
    free(t->list.weight);
    return status;
}

/* ---- what is tried ---- */

/* The logarithm of what the rows and the prior give a correction. */
static double tried_weight(const corrections *tried, int k) {
    return tried->log_mass[k] + la_correction_evidence(&tried->fits[k]);
}

/* The correction of most weight that is not taken; -1: there is none. */
static int next_tried(const corrections *tried, const bool *taken) {
    int next = -1;
    for (int k = 0; k < tried->n; k++)
        if (!taken[k] && isfinite(tried->fits[k].log_likelihood) &&
            (next < 0 || tried_weight(tried, k) > tried_weight(tried, next)))
            next = k;
    return next;
}

/* Fits biases, and weights from the biases of most evidence. */
static la_status try_corrections(choosing *t, la_error *err) {
    const la_held_out *rows = t->rows;
    corrections *tried = &t->tried;
    bool weighs = la_correction_weighs(rows->n_classes), taken[TRIED_MOST] = {false};
    LA_TRY(la_corrections_fit(rows->n, rows->n_classes, rows->logits, rows->labels.classes,
                              t->temperature, tried->fits, err));
    tried->n = LA_CORRECTION_SCALES;
    for (int k = 0; k < tried->n; k++)
        tried->log_mass[k] = log((weighs ? 0.5 : 1) / LA_CORRECTION_SCALES);
    for (int from = 0; weighs && from < WEIGHED_FROM; from++) {
        corrections biases = {.n = LA_CORRECTION_SCALES};
        memcpy(biases.fits, tried->fits, sizeof biases.fits);
        int next = next_tried(&biases, taken);
        if (next < 0)
            break;
        taken[next] = true;
        LA_TRY(la_weights_fit(rows->n, rows->n_classes, rows->logits, rows->labels.classes,
                              &tried->fits[next], &tried->fits[tried->n], err));
        for (int k = 0; k < LA_CORRECTION_SPREADS; k++)
            tried->log_mass[tried->n++] = log(0.5 / (LA_CORRECTION_SCALES * LA_CORRECTION_SPREADS));
    }
    return LA_OK;
}

/* The corrections of most weight become groups of their own, which share half of the prior mass. */
static la_status add_corrections(choosing *t, la_error *err) {
    const la_held_out *rows = t->rows;
    la_setting_table *table = &t->table;
    const corrections *tried = &t->tried;
    bool taken[TRIED_MOST] = {false};
    double least = -INFINITY, mass = 0;
    if (rows->keep_answers || rows->uncorrected || rows->n_classes > LA_CORRECTION_CLASSES_MOST)
        return LA_OK;
    LA_TRY(try_corrections(t, err));
    while (table->n_groups < LA_SETTING_GROUPS) {
        int next = next_tried(tried, taken);
        if (next < 0 || tried_weight(tried, next) < least)
            break;
        least = fmax(least, tried_weight(tried, next) + log(EVIDENCE_LEAST));
        taken[next] = true;
        mass += exp(tried->log_mass[next]);
        la_setting_group *group = &table->groups[table->n_groups++];
        *group = (la_setting_group){.correction = &tried->fits[next].correction,
                                    .log_mass = tried->log_mass[next] + tried->fits[next].log_occam,
                                    .scale_step = CORRECTED_STEP,
                                    .n_temperatures = CORRECTED_TEMPERATURES};
        for (int u = 0; u < CORRECTED_TEMPERATURES; u++)
            group->temperatures[u] =
                group->correction->temperature * pow(TEMPERATURE_STEP, 4 - CORRECTED_STEPS * u);
    }
    for (int k = 0; mass > 0 && k < table->n_groups; k++)
        table->groups[k].log_mass += log(k ? 0.5 / mass : 0.5);
    return LA_OK;
}

static la_status select_all(choosing *t, la_choice *choice, la_error *err) {
    const la_held_out *rows = t->rows;
    la_setting_group *as_it_is = t->table.groups;
    LA_TRY(la_temperature_scaling_fit(rows->n, rows->n_classes, rows->logits, rows->labels.classes,
                                      &t->temperature, err));
    *as_it_is = (la_setting_group){.scale_step = 1, .n_temperatures = TEMPERATURES};
    la_selection_temperatures(t->temperature, as_it_is->temperatures);
    t->table.n_groups = 1;
    LA_TRY(add_corrections(t, err));
    LA_TRY(base_rows(t, err));
    LA_TRY(la_setting_table_open(&t->table, err));
    LA_TRY(add_average(t, choice, err));
    choose(t, choice);
    choice->guarded = 1;
    la_warn_biased(rows, choice);
    return LA_OK;
}

la_status la_select_class(la_team team, const la_held_out *rows, la_choice *choice, la_error *err) {
    choosing *t = la_alloc(1, sizeof *t, err);
    size_t n = (size_t)rows->n;
    *choice = (la_choice){.n = rows->n};
    if (!t)
        return err->status;
    *t = (choosing){.table = {.team = team, .rows = rows}, .rows = rows};
    t->map = la_alloc(2 * n, sizeof *t->map, err);
    t->mean = t->map + n;
    t->base = la_alloc(3 * n, sizeof *t->base, err);
    la_status status = err->status == LA_OK ? select_all(t, choice, err) : err->status;
    la_setting_table_close(&t->table);
    free(t->map);
    free(t->base);
    free(t);
    return status;
}

const char *la_candidate_lacks(const la_candidate *candidate) {
    return isnan(candidate->accuracy) ? "accuracy" : NULL;
}

la_method la_choice_single(const la_choice *choice) {
    int least = LA_METHOD_MAP;
    for (int k = 0; k < LA_METHODS; k++)
        if (k != LA_METHOD_AVERAGE && charged(choice, k) < charged(choice, least))
            least = k;
    return (la_method)least;
}

la_method la_choice_laplace(const la_choice *choice) {
    int least = LA_METHOD_TEMPERED_SCALAR; /* keeps all answers: always there, of classes */
    for (int k = 0; k < LA_METHODS; k++)
        if (methods[k].laplace && isfinite(choice->candidates[k].nll) &&
            !(charged(choice, k) >= charged(choice, least)))
            least = k;
    return (la_method)least;
}

const char *la_method_predictive(la_method method) {
    return methods[method].predictive;
}

int64_t la_choice_recipes(const la_likelihood *likelihood, const la_choice *choice,
                          la_method method, la_recipe *recipes) {
    const la_candidate *own = &choice->candidates[method];
    la_setting single = {.method = method,
                         .prior_scale = own->prior_scale,
                         .temperature = own->temperature,
                         .weight = 1};
    bool average = method == LA_METHOD_AVERAGE;
    const la_setting *settings = average ? choice->settings : &single;
    int64_t n = average ? choice->n_settings : 1;
    for (int64_t s = 0; s < n; s++) {
        const la_correction *of =
            settings[s].correction ? &choice->corrections[settings[s].correction - 1] : NULL;
        recipes[s] =
            (la_recipe){.kind = la_predictive_find(likelihood->predictives,
                                                   la_method_predictive(settings[s].method)),
                        .prior_scale = settings[s].prior_scale,
                        .temperature = settings[s].temperature,
                        .weight = settings[s].weight,
                        .class_weight = of ? la_correction_weight(of) : NULL,
                        .bias = of ? of->bias : NULL,
                        .determined = of ? of->determined : 0};
    }
    return n;
}

double la_choice_surety(const la_choice *choice) {
    if (choice->method == LA_METHOD_MAP || !(choice->gain_error > 0))
        return choice->gain > 0 ? 1 : 0.5;
    return 0.5 * erfc(-M_SQRT1_2 * choice->gain / choice->gain_error);
}

void la_choice_log_odds(const la_choice *choice, int64_t n_classes, double *log_odds) {
    memset(log_odds, 0, (size_t)n_classes * sizeof *log_odds);
    for (int64_t s = 0; s < choice->n_settings; s++) {
        const la_setting *one = &choice->settings[s];
        if (!one->correction)
            continue;
        const la_correction *of = &choice->corrections[one->correction - 1];
        const double *weight = la_correction_weight(of);
        for (int64_t c = 0; c < n_classes; c++) {
            double moved = of->bias[c] + (weight ? (weight[c] - 1) * choice->centre[c] : 0);
            log_odds[c] += one->weight / one->temperature * moved;
        }
    }
}

la_choice_summary la_choice_summarise(const la_choice *choice, const la_choice *record) {
    const la_candidate *own = &choice->candidates[choice->method];
    const la_candidate *map = &choice->candidates[LA_METHOD_MAP];
    if (!choice->guarded)
        return (la_choice_summary){.record = record};
    return (la_choice_summary){.method = la_method_names[choice->method],
                               .cross = choice->cross,
                               .n = choice->n,
                               .prior_scale = own->prior_scale,
                               .temperature = own->temperature,
                               .nll = own->nll,
                               .accuracy = own->accuracy,
                               .map_nll = map->nll,
                               .map_accuracy = map->accuracy,
                               .record = record};
}
