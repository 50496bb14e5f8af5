/* What drift promises of regressions, on simulated rows: false alarms of two files and of streams,
 * how often and how soon changes are found, the advice, and how often the intervals of the
 * estimated errors hold those that labels show.
 *
 *     make build/drift_numbers && build/drift_numbers [PAIRS [STREAMS [ROWS]]]
 */
#include "base/random.h"
#include "drift_simulation.h"

static uint64_t at; /* numbers drawn so far */

static double uniform(void) {
    return la_random_uniform(19, 0, at++);
}

static double normal(void) {
    double z;
    la_random_normal(19, 1, at++, 1, &z);
    return z;
}

/* Of unit variance: normal, or Student's t with six degrees of freedom. */
static double noise(bool heavy) {
    double z = normal(), chi = 0;
    for (int k = 0; k < 6 && heavy; k++) {
        double x = normal();
        chi += x * x;
    }
    return heavy ? z / sqrt(chi / 6) / sqrt(1.5) : z;
}

/* Standard deviations are (0.5 + u) size, stated times `stated`; labels lie `shift` of them off the
 * prediction, which is level + N(0, 1), and about that by `worse` of them; ood is u^(1 / far). */
typedef struct world {
    const char *name;
    double size, stated, level, shift, worse, far;
    bool heavy, constant;
} world;

static const world same[] = {
    {"no drift", 1, 1, 0, 0, 1, 1, false, false},
    {"no drift, deviations too small by 0.6", 1, 0.6, 0, 0, 1, 1, false, false},
    {"no drift, heavy tails", 1, 1, 0, 0, 1, 1, true, false},
    {"no drift, one deviation", 1, 1, 1000, 0, 1, 1, false, true}};
static const world shifts[] = {
    {"harder rows, which say so", 1.3, 1, 0, 0, 1, 1, false, false},
    {"errors grow by a third", 1, 1, 0, 0, 1.33, 1, false, false},
    {"errors to one side", 1, 1, 0, 0.4, 1, 1, false, false},
    {"same errors, deviations less by a third", 1, 0.67, 0, 0, 1, 1, false, false},
    {"other predictions", 1, 1, 0.4, 0, 1, 1, false, false},
    {"inputs far away, harder", 1.2, 1, 0, 0, 1, 3, false, false}};
enum { SAME = sizeof same / sizeof *same, SHIFTS = sizeof shifts / sizeof *shifts };

static la_drift_row draw(const void *of, bool labelled) {
    const world *w = of;
    double own = w->size * (w->constant ? 1 : 0.5 + uniform());
    la_drift_row row = {.labelled = labelled};
    row.scores[LA_NUMBER_PREDICTION] = w->level + normal();
    row.scores[LA_NUMBER_DEVIATION] = own * w->stated;
    row.scores[LA_NUMBER_MODEL_VARIANCE] = 0.2 * own * own * uniform();
    row.scores[LA_NUMBER_OOD] = pow(uniform(), 1 / w->far);
    double off = own * (w->shift + w->worse * noise(w->heavy));
    row.target = labelled ? row.scores[LA_NUMBER_PREDICTION] + off : NAN;
    row.right = fabs(off) <= 1.6448536269514722 * row.scores[LA_NUMBER_DEVIATION];
    return row;
}

static const simulation rows_drawn = {.draw = draw, .shape = {.numbers = true}};

/* ---- two files ---- */

static void compare_pairs(const world *from, const world *to, const int64_t n[2],
                          const bool labels[2], int64_t pairs) {
    int64_t alarms = 0, held[2] = {0, 0}, measured = 0, advice[3] = {0};
    double width = 0;
    for (int64_t i = 0; i < pairs; i++) {
        la_drift d = compare(&rows_drawn, from, to, n, labels);
        alarms += d.alarm;
        advice[d.advice]++;
        width += (d.rmse.interval[1] - d.rmse.interval[0]) / (double)pairs;
        const la_drift_error *errors[2] = {&d.rmse, &d.nll};
        measured += labels[1];
        for (int k = 0; k < 2 && labels[1]; k++)
            held[k] += errors[k]->measured >= errors[k]->interval[0] &&
                       errors[k]->measured <= errors[k]->interval[1];
    }
    print_alarms(to->name, n, labels, alarms, pairs);
    for (int k = 0; k < 2; k++)
        if (measured)
            printf(" %.3f |", (double)held[k] / (double)measured);
        else
            printf(" |");
    printf(" %.3f |", width);
    for (int a = 0; a < 3; a++)
        printf(" %.2f |", (double)advice[a] / (double)pairs);
    printf("\n");
}

static void table_of_pairs(int64_t pairs) {
    static const int64_t sizes[][2] = {{30, 20}, {300, 200}, {600, 600}, {2000, 200}};
    static const bool labels[][2] = {{true, true}, {true, false}, {false, true}};
    printf("| current rows | rows | labels | alarms | RMSE held | NLL held | width | none | "
           "recalibrate | retrain |\n|---|---|---|---|---:|---:|---:|---:|---:|---:|\n");
    for (size_t w = 0; w < SAME; w++)
        for (size_t s = 0; s < 4; s++)
            compare_pairs(&same[w], &same[w], sizes[s], labels[0], pairs);
    for (size_t l = 1; l < 3; l++)
        compare_pairs(&same[0], &same[0], sizes[2], labels[l], pairs);
    for (size_t w = 0; w < SHIFTS; w++)
        for (size_t l = 0; l < 2; l++)
            compare_pairs(&same[0], &shifts[w], sizes[2], labels[l], pairs / 4);
}

/* ---- streams ---- */

static void table_of_streams(int64_t streams, int64_t rows) {
    static const int64_t references[] = {10, 100, 1000};
    print_streams_heading();
    for (size_t w = 0; w < SAME; w += SAME - 1)
        for (size_t r = 0; r < 3; r++)
            print_streams(&rows_drawn, &same[w], same[w].name, references[r], streams, rows);
}

static void table_of_delays(int64_t streams) {
    enum { CHANGE = 1000 };
    printf("\n| change at row %d | found within %d rows | too early | median delay | 90 %% "
           "|\n|---|---:|---:|---:|---:|\n",
           CHANGE, LONGEST);
    for (size_t w = 0; w < SHIFTS; w++) {
        printf("| %s |", shifts[w].name);
        print_delays(&rows_drawn, &same[0], &shifts[w], CHANGE, streams);
    }
}

int main(int argc, char **argv) {
    return print_tables(argc, argv, table_of_pairs, table_of_streams, table_of_delays);
}
