/* What drift promises, on simulated rows: false alarms of two files and of streams without drift,
 * how often and how soon changes are found, and how often the interval of the estimated accuracy
 * holds the accuracy that labels show.
 *
 *     make build/drift_promise && build/drift_promise [PAIRS [STREAMS [ROWS]]]
 */
#include "base/random.h"
#include "drift_simulation.h"
#include <string.h>

enum { CLASSES = 6 };

static uint64_t at; /* numbers drawn so far */

static double uniform(void) {
    return la_random_uniform(17, 0, at++);
}

/* Rows of a model: confidence is 1 - (1 - 1/C) u^sharp, right with a probability of the confidence
 * less gap; stated is 1 - (1 - confidence)^sharpened; the class has odds 1, 1/2, .. 1/C raised to
 * skew; ood is uniform, raised to 1/far. */
typedef struct world {
    const char *name;
    double sharp, gap, skew, far, sharpened;
    bool ties;
} world;

static const world before = {"no drift", 3, 0, 1, 1, 1, false};
static const world before_tied = {"no drift, confidences of ten values", 3, 0, 1, 1, 1, true};
static const world before_off = {"no drift, over-confident by 0.05", 3, 0.05, 1, 1, 1, false};
static const world shifts[] = {{"confidence drops", 2.2, 0, 1, 1, 1, false},
                               {"over-confident by 0.1", 3, 0.1, 1, 1, 1, false},
                               {"same answers, confidences sharpened", 3, 0, 1, 1, 1.5, false},
                               {"class shares", 3, 0, 0.3, 1, 1, false},
                               {"inputs far away, calibrated", 2.5, 0, 1, 3, 1, false}};

static la_drift_row draw(const void *of, bool labelled) {
    const world *w = of;
    la_drift_row row = {.label = -1, .labelled = labelled};
    double odds[CLASSES], sum = 0, confidence;
    confidence = 1 - (1 - 1.0 / CLASSES) * pow(uniform(), w->sharp);
    if (w->ties)
        confidence = fmax(0.2, floor(confidence * 10) / 10);
    double truth = confidence - w->gap;
    confidence = 1 - pow(1 - confidence, w->sharpened);
    double rest = fmax(1e-12, 1 - confidence);
    row.scores[LA_DRIFT_CONFIDENCE] = confidence;
    row.scores[LA_DRIFT_ENTROPY] = -confidence * log(confidence) - rest * log(rest / (CLASSES - 1));
    row.scores[LA_DRIFT_MUTUAL_INFORMATION] = 0.2 * rest * uniform();
    row.scores[LA_DRIFT_OOD] = pow(uniform(), 1 / w->far);
    for (int c = 0; c < CLASSES; c++)
        sum += odds[c] = pow(c + 1, -w->skew);
    double u = uniform() * sum;
    for (row.class = 0; row.class < CLASSES - 1 && u >= odds[row.class]; row.class ++)
        u -= odds[row.class];
    row.right = labelled && uniform() < truth;
    if (labelled)
        row.label = row.right ? row.class : (row.class + 1) % CLASSES;
    return row;
}

static const simulation rows_drawn = {.draw = draw, .shape = {.n_classes = CLASSES}};

/* ---- two files ---- */

static void compare_pairs(const world *from, const world *to, const int64_t n[2],
                          const bool labels[2], int64_t pairs) {
    int64_t alarms = 0, held = 0, measured = 0, advice[3] = {0};
    for (int64_t i = 0; i < pairs; i++) {
        la_drift drift = compare(&rows_drawn, from, to, n, labels);
        alarms += drift.alarm;
        advice[drift.advice]++;
        if (!isnan(drift.measured)) {
            measured++;
            held += drift.measured >= drift.interval[0] && drift.measured <= drift.interval[1];
        }
    }
    print_alarms(to->name, n, labels, alarms, pairs);
    if (measured)
        printf(" %.3f |", (double)held / (double)measured);
    else
        printf(" |");
    for (int a = 0; a < 3; a++)
        printf(" %.2f |", (double)advice[a] / (double)pairs);
    printf("\n");
}

static void table_of_pairs(int64_t pairs) {
    static const int64_t sizes[][2] = {{30, 20}, {300, 200}, {600, 600}, {2000, 200}};
    static const bool labels[][2] = {{true, true}, {true, false}, {false, true}};
    const world *same[] = {&before, &before_tied, &before_off};
    printf(
        "| current rows | rows | labels | alarms | interval holds | none | recalibrate | retrain "
        "|\n|---|---|---|---|---:|---:|---:|---:|\n");
    for (size_t w = 0; w < 3; w++)
        for (size_t s = 0; s < 4; s++)
            compare_pairs(same[w], same[w], sizes[s], labels[0], pairs);
    for (size_t l = 1; l < 3; l++)
        compare_pairs(&before, &before, sizes[2], labels[l], pairs);
    for (size_t w = 0; w < sizeof shifts / sizeof *shifts; w++)
        for (size_t l = 0; l < 2; l++)
            compare_pairs(&before, &shifts[w], sizes[2], labels[l], pairs / 4);
}

/* ---- streams ---- */

static void table_of_streams(int64_t streams, int64_t rows) {
    static const int64_t references[] = {100, 1000};
    const world *same[] = {&before, &before_tied};
    print_streams_heading();
    for (size_t w = 0; w < 2; w++)
        for (size_t r = 0; r < 2; r++)
            print_streams(&rows_drawn, same[w], same[w]->name, references[r], streams, rows);
}

static void table_of_delays(int64_t streams) {
    static const int64_t changes[] = {0, 1000, 10000};
    printf("\n| change | at row | found within %d rows | too early | median delay | 90 %% "
           "|\n|---|---:|---:|---:|---:|---:|\n",
           LONGEST);
    for (size_t w = 0; w < sizeof shifts / sizeof *shifts; w++)
        for (size_t c = 0; c < 3; c++) {
            printf("| %s | %lld |", shifts[w].name, (long long)changes[c]);
            print_delays(&rows_drawn, &before, &shifts[w], changes[c], streams);
        }
}

int main(int argc, char **argv) {
    return print_tables(argc, argv, table_of_pairs, table_of_streams, table_of_delays);
}
