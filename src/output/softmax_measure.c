/* Metrics of probabilities of classes, of several resamples of the same rows at once
 * (output/lanes.h).
 *
 * Rows come in blocks of groups of one confidence. What happens to a resample seldom, where its
 * rows fill a bin of equal mass or reach a coverage, is found at the end of a block, which is then
 * gone through once more for this lane alone. */
#include "base/random.h"
#include "output/lanes.h"
#include "output/resampling.h"
#include "output/softmax_metrics.h"
#include "output/softmax_ranked.h"

#include <math.h>
#include <string.h>

enum { LANES = LA_LANES, GROUPS = 64, LEVELS = LA_SELECTIVE_LEVELS };

typedef la_lanes lanes;
typedef la_lane_masks masks;
#define WHERE LA_LANES_WHERE

/* Copies of the rows of one confidence, in each resample. */
typedef struct group {
    lanes n, right;
    double confidence;
    bool alone; /* it is one row, with its own label, */
    bool ok;    /* which is right */
} group;

typedef struct block {
    int n;
    group list[GROUPS];
} block;

/* Rows that are averaged together. right: a share of each row where ties are shared out. */
typedef struct tally {
    double n, right, confidence;
} tally;

typedef struct tallies {
    lanes n, right, confidence;
} tallies;

/* Bins of equal mass that are filled one after the other. */
typedef struct filling {
    tallies open;
    lanes taken, next; /* rows up to here, and up to the end of the open bin */
    lanes error;
    int64_t bin[LANES];
} filling;

/* From the least confident up. */
typedef struct rising {
    lanes right, nll, brier, confidence;
    tallies width[LA_METRIC_BINS];
    filling mass, debiased;
    lanes wrong, flagged, pairs, precision; /* pairs: twice those with the right row above */
} rising;

/* From the most confident down. */
typedef struct falling {
    lanes taken, right, total;
    lanes covered[LEVELS], risk[LEVELS], fpr95;
} falling;

/* What is measured: resamples of the rows, or the rows with other labels. */
typedef struct task {
    const uint32_t *count; /* [rows, LA_LANES_AT_ONCE]; NULL: one of each */
    bool drawn;            /* labels are drawn, by the streams from that one on */
    uint64_t seed, stream;
} task;

/* A row in each resample. labels: of drawn ones, else they are the row's own. */
typedef struct visit {
    lanes n, right;
    int32_t labels[LANES];
} visit;

typedef struct workspace {
    rising up;
    falling down;
    block block;
    double *sums;    /* of the smoother, for one lane */
    lanes *residual; /* [2, grid]: residuals, rows */
    lanes *excess;   /* [n_classes, LA_METRIC_BINS] probabilities less rows of the class */
} workspace;

LA_LANES_INLINED lanes at_least_one(const lanes *n) {
    return WHERE(*n < la_lanes_of(1), la_lanes_of(1), *n);
}

size_t la_softmax_workspace(const void *prepared) {
    const la_ranked_rows *all = prepared;
    size_t grid = (size_t)la_smooth_cells(all->smoother);
    size_t vectors = (size_t)all->n_classes * LA_METRIC_BINS + 2 * grid;
    return sizeof(workspace) + vectors * sizeof(lanes) + la_smooth_sums() * sizeof(double);
}

/* ---- groups ---- */

/* The prediction where the number lies below the confidence, else another class, each by its
 * probability. */
static int32_t draw_label(const la_scored_row *row, int64_t n_classes, double number) {
    int32_t drawn = row->prediction;
    number -= row->confidence;
    for (int32_t c = 0; c < n_classes && number >= 0; c++)
        if (c != row->prediction) {
            number -= row->probs[c];
            drawn = c;
        }
    return drawn;
}

static void visit_row(const la_ranked_rows *all, const task *of, int64_t i, visit *v) {
    const la_scored_row *row = &all->rows[i];
    v->n = la_lanes_copies(of->count, i);
    v->right = la_scored_right(row) ? v->n : la_lanes_of(0);
    for (int l = 0; of->drawn && l < LANES; l++) {
        double number = la_random_uniform(of->seed, of->stream + (uint64_t)l, (uint64_t)i);
        v->labels[l] = draw_label(row, all->n_classes, number);
        v->right[l] = v->labels[l] == row->prediction;
    }
}

static void put_row(group *to, const la_scored_row *row, const visit *v, bool first, bool drawn) {
    if (first)
        *to = (group){.confidence = row->confidence, .alone = !drawn, .ok = la_scored_right(row)};
    else
        to->alone = false;
    to->n += v->n;
    to->right += v->right;
}

/* ---- up ---- */

static void add_row(const la_ranked_rows *all, int64_t i, const visit *v, bool drawn,
                    workspace *work) {
    const la_scored_row *row = &all->rows[i];
    const uint8_t *bin = all->bins + i * all->n_classes;
    tallies *width = &work->up.width[bin[row->prediction]];
    work->up.right += v->right;
    work->up.nll += row->nll * v->n;
    work->up.brier += row->brier * v->n;
    work->up.confidence += row->confidence * v->n;
    width->n += v->n;
    width->right += v->right;
    width->confidence += row->confidence * v->n;
    for (int64_t c = 0; c < all->n_classes; c++)
        work->excess[c * LA_METRIC_BINS + bin[c]] += v->n * row->probs[c];
    if (!drawn)
        work->excess[row->label * LA_METRIC_BINS + bin[row->label]] -= v->n;
    for (int l = 0; drawn && l < LANES; l++)
        work->excess[v->labels[l] * LA_METRIC_BINS + bin[v->labels[l]]][l] -= 1;
}

/* Fills a block with the rows from i on; returns the row behind it. */
static int64_t fill_up(const la_ranked_rows *all, const task *of, int64_t i, workspace *work) {
    block *b = &work->block;
    b->n = 0;
    for (; i < all->n; i++) {
        bool first = !b->n || all->rows[i].confidence != b->list[b->n - 1].confidence;
        visit v;
        if (first && b->n == GROUPS)
            break;
        visit_row(all, of, i, &v);
        b->n += first;
        put_row(&b->list[b->n - 1], &all->rows[i], &v, first, of->drawn);
        add_row(all, i, &v, of->drawn, work);
    }
    return i;
}

static void add_group(tallies *to, const group *g) {
    to->n += g->n;
    to->right += g->right;
    to->confidence += g->confidence * g->n;
}

static tally lane_of(const tallies *all, int lane) {
    return (tally){all->n[lane], all->right[lane], all->confidence[lane]};
}

static void set_lane(tallies *all, int lane, const tally *t) {
    all->n[lane] = t->n;
    all->right[lane] = t->right;
    all->confidence[lane] = t->confidence;
}

static void add(tally *t, double confidence, double right, double count) {
    t->n += count;
    t->right += right;
    t->confidence += confidence * count;
}

static double gap(const tally *t) {
    return fabs(t->confidence / t->n - t->right / t->n);
}

/* Rows in the first `bins` of n rows cut like numpy.array_split: the first n % all of them hold one
 * row more. */
static int64_t cut_at(int64_t n, int64_t all, int64_t bins) {
    return bins * (n / all) + (bins < n % all ? bins : n % all);
}

/* The rows of a tie group may fall into several bins: each brings the group's accuracy, its
 * expectation over all orders. */
static void fill_mass(filling *f, int lane, const block *b, int64_t n) {
    tally t = lane_of(&f->open, lane);
    for (const group *g = b->list; g < b->list + b->n; g++) {
        double size = g->n[lane];
        for (double left = size; left > 0;) {
            double space = f->next[lane] - f->taken[lane], take = left < space ? left : space;
            add(&t, g->confidence, take * g->right[lane] / size, take);
            left -= take;
            f->taken[lane] += take;
            if (take == space) {
                f->error[lane] += t.n / (double)n * gap(&t);
                t = (tally){0};
                f->bin[lane]++;
                f->next[lane] = f->bin[lane] < LA_METRIC_BINS
                                    ? (double)cut_at(n, LA_METRIC_BINS, f->bin[lane] + 1)
                                    : HUGE_VAL;
            }
        }
    }
    set_lane(&f->open, lane, &t);
}

/* The debiased L2 error of Kumar, Liang and Ma, "Verified Uncertainty Calibration", 2019, section
 * 4.1, over min(15, n) equal-mass bins, where a tie group lies in the first that it reaches. */
static int64_t debiased_bins(int64_t n) {
    return n < LA_METRIC_BINS ? n : LA_METRIC_BINS;
}

static void fill_debiased(filling *f, int lane, const block *b, int64_t n) {
    int64_t bins = debiased_bins(n);
    tally t = lane_of(&f->open, lane);
    for (const group *g = b->list; g < b->list + b->n; g++) {
        add(&t, g->confidence, g->right[lane], g->n[lane]);
        f->taken[lane] += g->n[lane];
        if (f->taken[lane] < f->next[lane])
            continue;
        int64_t *bin = &f->bin[lane];
        while (*bin < bins && (double)cut_at(n, bins, *bin + 1) <= f->taken[lane])
            ++*bin;
        double accuracy = t.right / t.n;
        if (t.n > 1)
            f->error[lane] +=
                t.n / (double)n * (gap(&t) * gap(&t) - accuracy * (1 - accuracy) / (t.n - 1));
        t = (tally){0};
        f->next[lane] = *bin < bins ? (double)cut_at(n, bins, *bin + 1) : HUGE_VAL;
    }
    set_lane(&f->open, lane, &t);
}

/* Takes a block in, where lanes whose bin is filled in it are gone through by `fill`. */
static void take_block(filling *f, const block *b, int64_t n,
                       void (*fill)(filling *f, int lane, const block *b, int64_t n)) {
    const filling before = *f;
    for (const group *g = b->list; g < b->list + b->n; g++) {
        add_group(&f->open, g);
        f->taken += g->n;
    }
    for (int l = 0; l < LANES; l++) {
        if (f->taken[l] < f->next[l])
            continue;
        tally t = lane_of(&before.open, l);
        set_lane(&f->open, l, &t);
        f->taken[l] = before.taken[l];
        fill(f, l, b, n);
    }
}

static void add_smooth(const la_smoother *smoother, const block *b, lanes *residuals) {
    lanes *rows = residuals + la_smooth_cells(smoother);
    for (const group *g = b->list; g < b->list + b->n; g++) {
        double share;
        int64_t cell = la_smooth_cell(smoother, g->confidence, &share);
        lanes above = g->n * share, below = g->n - above;
        lanes residual = la_lanes_of(g->confidence - g->ok);
        if (!g->alone)
            residual = g->confidence - g->right / at_least_one(&g->n);
        residuals[cell] += below * residual;
        residuals[cell + 1] += above * residual;
        rows[cell] += below;
        rows[cell + 1] += above;
    }
}

/* auroc and aupr_error */
static void rank_errors(const block *b, rising *up) {
    for (const group *g = b->list; g < b->list + b->n; g++) {
        lanes wrong = g->n - g->right;
        up->pairs += g->right * (2 * up->wrong + wrong);
        up->flagged += g->n;
        if (g->alone && g->ok)
            continue;
        up->wrong += wrong;
        up->precision += wrong * (up->wrong / at_least_one(&up->flagged));
    }
}

static void go_up(const la_ranked_rows *all, const task *of, workspace *work) {
    rising *up = &work->up;
    up->mass.next = la_lanes_of((double)cut_at(all->n, LA_METRIC_BINS, 1));
    up->debiased.next = la_lanes_of((double)cut_at(all->n, debiased_bins(all->n), 1));
    for (int64_t i = 0; i < all->n;) {
        i = fill_up(all, of, i, work);
        take_block(&up->mass, &work->block, all->n, fill_mass);
        take_block(&up->debiased, &work->block, all->n, fill_debiased);
        add_smooth(all->smoother, &work->block, work->residual);
        if (!of->drawn)
            rank_errors(&work->block, up);
    }
}

/* ---- down ---- */

static int64_t fill_down(const la_ranked_rows *all, const task *of, int64_t i, block *b) {
    b->n = 0;
    for (; i >= 0; i--) {
        bool first = !b->n || all->rows[i].confidence != b->list[b->n - 1].confidence;
        visit v;
        if (first && b->n == GROUPS)
            break;
        visit_row(all, of, i, &v);
        b->n += first;
        put_row(&b->list[b->n - 1], &all->rows[i], &v, first, false);
    }
    return i;
}

static int64_t rows_at(int64_t n, int level) {
    return (la_selective_coverages[level] * n + 99) / 100;
}

/* Risks at coverages that lane reaches in the block, and fpr95. */
static void find_levels(falling *down, int lane, const block *b, int64_t n, double n_right,
                        double taken, double right) {
    double n_wrong = (double)n - n_right;
    for (const group *g = b->list; g < b->list + b->n; g++) {
        double size = g->n[lane], new_wrong = size - g->right[lane], wrong = taken - right;
        for (int l = 0; l < LEVELS; l++) {
            double rows = (double)rows_at(n, l), j = rows - taken;
            if (j >= 1 && j <= size)
                down->risk[l][lane] = (wrong + j * new_wrong / size) / rows;
        }
        taken += size;
        right += g->right[lane];
        /* integers, because 0.95 is no double; the first group that gets there is the threshold */
        if (n_right > 0 && n_wrong > 0 && isnan(down->fpr95[lane]) && 20 * right >= 19 * n_right)
            down->fpr95[lane] = (taken - right) / n_wrong;
    }
}

/* Rows of a group one after the other: inside of a tie, the expected risk under a random order. */
static void take_group(falling *down, const group *g) {
    lanes new_wrong = g->n - g->right, wrong = down->taken - down->right;
    lanes size = at_least_one(&g->n), here = down->taken;
    double most = 0;
    for (int l = 0; l < LANES; l++)
        most = g->n[l] > most ? g->n[l] : most;
    for (double j = 1; j <= most; j++) {
        masks there = g->n >= la_lanes_of(j);
        lanes more = g->alone ? la_lanes_of(g->ok ? 0 : j) : j * new_wrong / size;
        here += 1;
        lanes risk = (wrong + more) / here;
        down->total += WHERE(there, risk, la_lanes_of(0));
        for (int l = 0; l < LEVELS; l++)
            down->covered[l] =
                WHERE(there & (risk <= la_lanes_of(la_selective_risks[l])), here, down->covered[l]);
    }
    down->taken += g->n;
    down->right += g->right;
}

static void go_down(const la_ranked_rows *all, const task *of, workspace *work) {
    falling *down = &work->down;
    for (int l = 0; l < LEVELS; l++)
        down->risk[l] = la_lanes_of(NAN);
    down->fpr95 = la_lanes_of(NAN);
    for (int64_t i = all->n - 1; i >= 0;) {
        lanes taken = down->taken, right = down->right;
        i = fill_down(all, of, i, &work->block);
        for (const group *g = work->block.list; g < work->block.list + work->block.n; g++)
            take_group(down, g);
        for (int l = 0; l < LANES; l++) {
            double n_right = work->up.right[l];
            bool reached = isnan(down->fpr95[l]) && 20 * down->right[l] >= 19 * n_right;
            for (int k = 0; k < LEVELS; k++) {
                double rows = (double)rows_at(all->n, k);
                reached |= taken[l] < rows && down->taken[l] >= rows;
            }
            if (reached)
                find_levels(down, l, &work->block, all->n, n_right, taken[l], right[l]);
        }
    }
}

/* The least sum of risks that so many right answers can have, in each lane. */
LA_LANES_INLINED lanes sum_oracle(int64_t n, const lanes *right) {
    const lanes n_right = *right;
    lanes sum = {0}, zero = {0};
    double least = n_right[0];
    for (int l = 1; l < LANES; l++)
        least = fmin(least, n_right[l]);
    for (int64_t k = (int64_t)least + 1; k <= n; k++) {
        lanes wrong = (double)k - n_right;
        sum += WHERE(wrong > zero, wrong, zero) / (double)k;
    }
    return sum;
}

/* ---- metrics of a lane ---- */

static void take_means(const rising *up, int lane, double n, double *value) {
    value[LA_METRIC_ACCURACY] = up->right[lane] / n;
    value[LA_METRIC_NLL] = up->nll[lane] / n;
    value[LA_METRIC_BRIER] = up->brier[lane] / n;
    value[LA_METRIC_CONFIDENCE] = up->confidence[lane] / n;
}

static void take_bins(const rising *up, int lane, double n, double *value) {
    double ece = 0, mce = 0;
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        tally t = lane_of(&up->width[b], lane);
        if (t.n == 0)
            continue;
        ece += t.n / n * gap(&t);
        mce = fmax(mce, gap(&t));
    }
    value[LA_METRIC_ECE] = ece;
    value[LA_METRIC_MCE] = mce;
    value[LA_METRIC_ECE_EM] = up->mass.error[lane];
    value[LA_METRIC_ECE_DEBIASED] = sqrt(fmax(up->debiased.error[lane], 0));
}

static void take_smooth(const la_smoother *smoother, const workspace *work, int lane,
                        double *value) {
    int64_t grid = la_smooth_cells(smoother);
    for (int64_t i = 0; i < grid; i++) {
        work->sums[i] = work->residual[i][lane];
        work->sums[grid + i] = work->residual[grid + i][lane];
    }
    value[LA_METRIC_ECE_SMOOTH] = la_smooth_ece(smoother, work->sums);
}

static void take_classwise(const la_ranked_rows *all, const workspace *work, int lane,
                           double *value) {
    double sum = 0;
    for (int64_t k = 0; k < all->n_classes * LA_METRIC_BINS; k++)
        sum += fabs(work->excess[k][lane]);
    value[LA_METRIC_ECE_CLASSWISE] = sum / (double)all->n / (double)all->n_classes;
}

static void take_ranking(const rising *up, int lane, double n, double *value) {
    double n_right = up->right[lane], n_wrong = n - n_right;
    if (n_wrong > 0)
        value[LA_METRIC_AUPR_ERROR] = up->precision[lane] / n_wrong;
    if (n_wrong > 0 && n_right > 0)
        value[LA_METRIC_AUROC] = up->pairs[lane] / (2.0 * n_right * n_wrong);
}

static void take_selective(const falling *down, int lane, double n, double oracle, double *value) {
    value[LA_METRIC_FPR95] = down->fpr95[lane];
    value[LA_METRIC_AURC] = down->total[lane] / n;
    value[LA_METRIC_EAURC] = fmax(down->total[lane] - oracle, 0) / n;
    for (int l = 0; l < LEVELS; l++) {
        value[LA_METRIC_RISK_AT_COVERAGE_80 + l] = down->risk[l][lane];
        value[LA_METRIC_COVERAGE_AT_RISK_1 + l] = down->covered[l][lane] / n;
    }
}

static void show_bins(const rising *up, la_metric_bin *bins) {
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        tally t = lane_of(&up->width[b], 0);
        bins[b] = (la_metric_bin){.lo = la_metric_bin_edge(b),
                                  .hi = la_metric_bin_edge(b + 1),
                                  .n = (int64_t)t.n,
                                  .confidence = t.n > 0 ? t.confidence / t.n : NAN,
                                  .accuracy = t.n > 0 ? t.right / t.n : NAN};
    }
}

/* The memory as a workspace in which nothing is counted yet. */
static workspace *open_workspace(const la_ranked_rows *all, void *memory) {
    size_t n_excess = (size_t)all->n_classes * LA_METRIC_BINS;
    size_t n_grid = (size_t)la_smooth_cells(all->smoother);
    workspace *work = memory;
    memset(work, 0, sizeof *work);
    work->residual = (lanes *)(work + 1);
    work->excess = work->residual + 2 * n_grid;
    work->sums = (double *)(work->excess + n_excess);
    memset(work->residual, 0, (2 * n_grid + n_excess) * sizeof(lanes));
    return work;
}

static void measure(const la_ranked_rows *all, void *memory, const uint32_t *count, double *value,
                    la_metric_bin *bins) {
    const task of = {.count = count};
    workspace *work = open_workspace(all, memory);
    double n = (double)all->n;
    go_up(all, &of, work);
    go_down(all, &of, work);
    lanes oracle = sum_oracle(all->n, &work->up.right);
    for (int l = 0; l < (count ? LANES : 1); l++) {
        double *own = value + l * LA_METRIC_COUNT;
        for (int m = 0; m < LA_METRIC_COUNT; m++)
            own[m] = NAN;
        take_means(&work->up, l, n, own);
        take_bins(&work->up, l, n, own);
        take_smooth(all->smoother, work, l, own);
        take_classwise(all, work, l, own);
        take_ranking(&work->up, l, n, own);
        take_selective(&work->down, l, n, oracle[l], own);
    }
    if (bins)
        show_bins(&work->up, bins);
}

void la_softmax_measure(const void *prepared, void *memory, const uint32_t *count, double *value,
                        la_metric_bin *bins) {
    if (!count)
        measure(prepared, memory, NULL, value, bins);
    for (int first = 0; count && first < LA_LANES_AT_ONCE; first += LANES)
        measure(prepared, memory, count + first, value + first * LA_METRIC_COUNT, NULL);
}

static void measure_drawn(const la_ranked_rows *all, void *memory, const task *of, double *value) {
    workspace *work = open_workspace(all, memory);
    go_up(all, of, work);
    for (int l = 0; l < LANES; l++) {
        double *own = value + l * LA_METRIC_COUNT;
        for (int m = 0; m < LA_METRIC_COUNT; m++)
            own[m] = NAN;
        take_bins(&work->up, l, (double)all->n, own);
        take_smooth(all->smoother, work, l, own);
        take_classwise(all, work, l, own);
    }
}

void la_softmax_measure_drawn(const void *prepared, void *memory, uint64_t seed, uint64_t stream,
                              double *value) {
    for (int first = 0; first < LA_LANES_AT_ONCE; first += LANES) {
        const task of = {.drawn = true, .seed = seed, .stream = stream + (uint64_t)first};
        measure_drawn(prepared, memory, &of, value + first * LA_METRIC_COUNT);
    }
}
