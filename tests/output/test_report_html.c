/* The report's page: figures, rows to look at first, and what any page must hold to. */
#include "support/markup.h"
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output/report_figures.h"
#include "output/softmax_metrics.h"
#include "output/svg.h"
#include "pipeline/report_job.h"

/* The page of options; fails unless it is written. The caller frees it. */
static char *page_with(la_report_options options) {
    la_error err = {0};
    int failed;
    size_t length;
    for (int f = 0; f < LA_REPORT_FORMATS; f++)
        if (!strcmp(la_report_formats[f].name, "html"))
            options.format = &la_report_formats[f];
    options.out = scratch("page.html");
    if (la_report_run(&options, &failed, &err) != LA_OK)
        fail_msg("%s", err.message);
    char *page = read_file(options.out, &length);
    assert_int_equal(strlen(page), length);
    return page;
}

static char *page_of(const char *rows) {
    const char *path = scratch("rows.jsonl");
    write_file(path, rows, strlen(rows));
    return page_with((la_report_options){.predictions = path});
}

static void check_has(const char *page, const char *piece) {
    if (!strstr(page, piece))
        fail_msg("no \"%s\" in the page", piece);
}

static int occurrences(const char *text, const char *piece) {
    int n = 0;
    for (const char *c = text; (c = strstr(c, piece)); c += strlen(piece))
        n++;
    return n;
}

/* ---- any page ---- */

/* Fails unless the id, which ends with a quote or a blank, is one of the page's. */
static void check_id(const char *page, const char *id) {
    char wanted[80];
    snprintf(wanted, sizeof wanted, " id=\"%.*s\"", (int)strcspn(id, "\" "), id);
    if (occurrences(page, wanted) != 1)
        fail_msg("%s: %d times", wanted, occurrences(page, wanted));
}

static void check_references(const char *page) {
    for (const char *c = page; (c = strstr(c, " id=\"")); c += 5)
        check_id(page, c + 5);
    for (const char *c = page; (c = strstr(c, " href=\"")); c += 7) {
        assert_int_equal(c[7], '#');
        check_id(page, c + 8);
    }
    for (const char *c = page; (c = strstr(c, " aria-labelledby=\"")); c++)
        for (const char *id = c + strlen(" aria-labelledby=\""); *id != '"';) {
            check_id(page, id);
            id += strcspn(id, "\" ");
            id += *id == ' ';
        }
}

/* Headings go down one level at a time. */
static void check_headings(const char *page) {
    int level = 0;
    assert_int_equal(occurrences(page, "<h1"), 1);
    for (const char *c = page; (c = strstr(c, "<h")); c++)
        if (c[2] >= '1' && c[2] <= '6') {
            assert_true(c[2] - '0' <= level + 1);
            level = c[2] - '0';
        }
}

static void check_drawings(const char *page, int expected) {
    assert_int_equal(occurrences(page, "<svg "), expected);
    for (const char *c = page; (c = strstr(c, "<svg ")); c++) {
        const char *end = strstr(c, "</svg>"), *title = strstr(c, "<title id=");
        const char *description = strstr(c, "<desc id="), *table = strstr(c, "<details><summary>");
        assert_true(title && description && title < description && description < end);
        /* the table of slices is below their drawing */
        if (memmem(c, (size_t)(title - c), "-dots-title", 11))
            table = strstr(c, "</figure>\n<div class=\"scroll\"");
        assert_true(table && table <= strstr(c, "</figure>"));
        assert_true(!strncmp(c + strcspn(c, "\"") + 1, "0 0 ", 4));
        assert_non_null(memmem(c, (size_t)(title - c), "role=\"img\"", 10));
    }
    assert_null(strstr(page, "nan"));
    assert_null(strstr(page, "inf"));
}

static void check_page(const char *page, int drawings) {
    check_markup(page);
    check_references(page);
    check_headings(page);
    check_drawings(page, drawings);
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "http"));
    assert_null(strstr(page, "url("));
    assert_null(strstr(page, "@import"));
    static const char *const pieces[] = {"<html lang=\"en\">",
                                         "<main id=\"content\"",
                                         "<header>",
                                         "<nav aria-label=",
                                         "<footer>",
                                         "name=\"viewport\"",
                                         "href=\"#content\"",
                                         "@page{size:A4",
                                         "prefers-color-scheme:dark",
                                         ":focus-visible"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        check_has(page, pieces[i]);
}

/* The page of fixtures/reports but for its last lines, which have the version. Write it anew with
 * laplora report tests/fixtures/reports/page.jsonl --format html --max ece=0.2 --by language
 * --threshold tests/fixtures/reports/threshold.json, and look at it. */
static void golden_page(void **state) {
    static const char *const max[] = {"ece=0.2"}, *const by[] = {"language"};
    la_report_options options = {.predictions = fixture("reports/page.jsonl"),
                                 .threshold = fixture("reports/threshold.json"),
                                 .by = by,
                                 .n_by = 1,
                                 .gates = {.max = max, .n_max = 1}};
    size_t length;
    (void)state;
    char *page = page_with(options), *again = page_with(options);
    char *expected = read_file(fixture("reports/page.html"), &length);
    assert_string_equal(page, again);
    check_page(page, 7);
    *strstr(page, "<footer>") = 0;
    *strstr(expected, "<footer>") = 0;
    assert_string_equal(page, expected);
    free(page);
    free(again);
    free(expected);
}

/* ---- text from files ---- */

static void escapes(void **state) {
    char rows[2000], filler[301];
    memset(filler, 'x', 300);
    filler[300] = 0;
    snprintf(
        rows, sizeof rows,
        "{\"index\":0,\"id\":\"<i>&\\u001b[31m\\u202e\",\"label\":1,\"prediction\":0,"
        "\"prediction_label\":\"</td><b onclick='x'>\",\"probs\":[0.75,0.25],"
        "\"fields\":{\"a<b\":\"\\\"q\\\"&\\ufffe\\u0000\",\"long\":\"%s\",\"list\":[1,{\"k\":2}],"
        "\"none\":null}}\n"
        "{\"index\":1,\"id\":\"%s\",\"label\":0,\"prediction\":1,\"probs\":[0.25,0.75],"
        "\"prediction_label\":\"<script>\",\"fields\":7}\n",
        filler, filler);
    (void)state;
    char *page = page_of(rows);
    check_page(page, 3);
    check_has(page, "&lt;i&gt;&amp;\\x1b[31m\\u202e<");
    check_has(page, "&lt;/td&gt;&lt;b onclick=&#39;x&#39;&gt;<");
    check_has(page, "a&lt;b: &quot;q&quot;&amp;\\ufffe\\x00");
    check_has(page, "list: [1,{&quot;k&quot;:2}]<br/>none: -");
    /* ids are cut to 48 bytes, values of fields to 160 */
    filler[161] = 0;
    assert_null(strstr(page, filler));
    filler[160] = 0;
    check_has(page, filler);
    check_has(page, "xxx…</td>");
    free(page);
}

/* ---- rows to look at first ---- */

/* Confidence of row i, in an order of its own, with ties. */
static double confidence_of(int i) {
    return 0.5 + 0.005 * ((i * 37 + 11) % 97);
}

static bool is_wrong(int i) {
    return i % 3 == 1;
}

static bool has_label(int i) {
    return i % 5 != 2;
}

/* Index of the k-th row by confidence, the lowest or the highest first, ties in the file's order;
 * wrong: of the rows that have a label and are wrong. -1: there are fewer. */
static int kth(int n, int k, bool wrong) {
    for (int i = 0; i < n; i++) {
        int before = 0;
        if (wrong && !(is_wrong(i) && has_label(i)))
            continue;
        for (int j = 0; j < n; j++) {
            double gap = confidence_of(j) - confidence_of(i);
            gap = wrong ? -gap : gap;
            before += (!wrong || (is_wrong(j) && has_label(j))) && (gap < 0 || (gap == 0 && j < i));
        }
        if (before == k)
            return i;
    }
    return -1;
}

static void check_list(const char *page, const char *id, int n, bool wrong) {
    char wanted[40];
    const char *list;
    snprintf(wanted, sizeof wanted, "<h3 id=\"%s\">", id);
    list = strstr(page, wanted);
    assert_non_null(list);
    const char *end = strstr(list, "</table>");
    for (int k = 0; k < LA_REVIEW_ROWS; k++) {
        list = strstr(list, "<tr><th scope=\"row\">");
        assert_true(list && list < end);
        list += strlen("<tr><th scope=\"row\">");
        assert_int_equal(atoi(list), kth(n, k, wrong));
    }
    assert_true(strstr(list, "<tr><th scope=\"row\">") == NULL ||
                strstr(list, "<tr><th scope=\"row\">") > end);
}

static void rows_to_look_at(void **state) {
    enum { ROWS = 300 };
    const char *path = scratch("look.jsonl");
    FILE *file = fopen(path, "w");
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        double p = confidence_of(i);
        fprintf(file, "{\"index\":%d,\"probs\":[%.17g,%.17g]", i, p, 1 - p);
        fprintf(file, has_label(i) ? ",\"label\":%d}\n" : "}\n", is_wrong(i));
    }
    fclose(file);
    char *page = page_with((la_report_options){.predictions = path});
    check_page(page, 4);
    check_list(page, "review-wrong", ROWS, true);
    check_list(page, "review-uncertain", ROWS, false);
    free(page);
}

/* ---- what does not apply ---- */

static void all_right(void **state) {
    (void)state;
    char *page = page_of("{\"index\":0,\"label\":1,\"probs\":[0.25,0.75]}\n");
    check_page(page, 3);
    check_has(page, "<td>undefined: needs both right and wrong answers</td>");
    check_has(page, "<td>undefined: needs a wrong answer</td>");
    check_has(page, "and every answer is right.");
    check_has(page, ">Most confidently wrong</h3>\n<p>None.</p>");
    assert_null(strstr(page, "id=\"errors-title\""));
    assert_null(strstr(page, "id=\"reliability-map"));
    check_has(page, "left out: MAP (1 rows have no map_probs)");
    free(page);
    page = page_of("{\"index\":0,\"label\":0,\"probs\":[0.25,0.75],\"map_probs\":[0.5,0.5]}\n");
    check_page(page, 5);
    check_has(page, "id=\"reliability-map-title\"");
    check_has(page, "and every answer is wrong.");
    free(page);
}

static void regression(void **state) {
    static const char rows[] =
        "{\"index\":0,\"label\":1,\"prediction\":2,\"variance\":1,\"noise_variance\":1}\n"
        "{\"index\":1,\"label\":1,\"prediction\":1.5,\"variance\":0.01,\"noise_variance\":1}\n"
        "{\"index\":2,\"label\":1,\"prediction\":1,\"variance\":4,\"noise_variance\":1}\n";
    (void)state;
    char *page = page_of(rows);
    check_page(page, 0);
    check_has(page, "<td>undefined: needs labels and predictions that vary</td>");
    const char *off = strstr(page, ">Furthest off, in standard deviations</h3>");
    const char *uncertain = strstr(page, ">Least certain</h3>");
    assert_true(off && uncertain);
    assert_int_equal(atoi(strstr(off, "<tr><th scope=\"row\">") + 20), 1);
    assert_int_equal(atoi(strstr(uncertain, "<tr><th scope=\"row\">") + 20), 2);
    free(page);
}

static void sets_of_classes(void **state) {
    static const char rows[] =
        "{\"index\":0,\"label\":[0,1],\"prediction\":[0],"
        "\"prediction_label\":[\"a<\"],\"probs\":[0.75,0.25]}\n"
        "{\"index\":1,\"label\":[],\"prediction\":[],\"probs\":[0.25,0.25]}\n";
    (void)state;
    char *page = page_of(rows);
    check_page(page, 2);
    check_has(page, "<td class=\"name\">a&lt;, 1</td><td class=\"name\">a&lt;</td>");
    check_has(page, "<td class=\"name\">none</td><td class=\"name\">none</td>");
    check_has(page, "class not in the set");
    free(page);
}

/* Rows that no list takes are not parsed: the page is that of a reading in which all are, as tasks
 * want them. Names and notable rows come anywhere, some of the same confidence. */
static void most_rows_are_skipped(void **state) {
    enum { ROWS = 600 };
    const char *path = scratch("many.jsonl"), *write[] = {scratch("tasks.json")};
    char *pages[2], tasks[600];
    FILE *rows = fopen(path, "w");
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        int top = 400 + i * 7919 % 577 / 3 * 3, label = i * 31 % 7 < 2, named = i % 40 == 39;
        fprintf(rows, "{\"index\":%d,\"label\":%d,\"probs\":[0.%03d,0.%03d],", i, label, top,
                1000 - top);
        fprintf(rows, named ? "\"prediction_label\":\"%s\"," : "", top > 500 ? "low" : "high");
        fprintf(rows, "\"confidence\":0.%03d,\"map_probs\":[0.75,0.25],",
                top > 500 ? top : 1000 - top);
        fprintf(rows, "\"confidence_kind\":\"map\",\"prediction\":%d}\n", top < 500);
    }
    fclose(rows);
    snprintf(tasks, sizeof tasks, "label-studio=%s", write[0]);
    write[0] = tasks;
    for (int all = 0; all < 2; all++)
        pages[all] =
            page_with((la_report_options){.predictions = path, .write = write, .n_write = all});
    check_has(pages[0], "high");
    assert_string_equal(pages[0], pages[1]);
    free(pages[0]);
    free(pages[1]);
}

/* ---- threshold ---- */

static const char four_rows[] = "{\"label\":0,\"probs\":[0.9,0.1],\"confidence\":0.9,"
                                "\"model\":\"7f?01\",\"confidence_kind\":\"map\"}\n"
                                "{\"label\":1,\"probs\":[0.8,0.2],\"confidence\":0.8}\n"
                                "{\"label\":0,\"probs\":[0.7,0.3],\"confidence\":0.7}\n"
                                "{\"probs\":[0.7,0.3],\"confidence\":0.7}\n"
                                "{\"label\":1,\"probs\":[0.6,0.4],\"confidence\":0.6}\n";

/* Options with a threshold file of this text. */
static la_report_options with_threshold(const char *text) {
    la_report_options options = {.predictions = scratch("four.jsonl"),
                                 .threshold = scratch("threshold.json"),
                                 .out = scratch("refused.html")};
    write_file(options.predictions, four_rows, strlen(four_rows));
    write_file(options.threshold, text, strlen(text));
    return options;
}

#define RULE_OF(score, accept, value, origin)                                                      \
    "{\"schema\":\"laplora.threshold/1\",\"score\":\"" score "\",\"accept\":\"" accept             \
    "\",\"provenance\":{" origin "},\"threshold\":" value "}"
#define RULE(score, accept, value) RULE_OF(score, accept, value, "")

static void threshold_is_marked(void **state) {
    (void)state;
    char *page = page_with(with_threshold(RULE("confidence", ">=", "0.7")));
    check_page(page, 4);
    check_has(page, "(confidence 0.7) accepts 3 of the 4 labelled rows, a coverage of 0.7500; 1 of "
                    "them are wrong, 0.3333");
    check_has(page, ">threshold: confidence 0.7</text>");
    assert_int_equal(occurrences(page, "class=\"mark\""), 2);
    free(page);
    /* of the rows' own model and kind, as far as rows say */
    page = page_with(with_threshold(
        RULE_OF("confidence", ">=", "0.7", "\"model\":\"7f?01\",\"confidence_kind\":\"map\"")));
    check_has(page, "(confidence 0.7) accepts 3 of the 4 labelled rows");
    free(page);
    page = page_with(with_threshold(RULE("confidence", ">=", "null")));
    check_has(page, "none could be promised) accepts 0 of the 4 labelled rows, a coverage of 0.0");
    assert_int_equal(occurrences(page, "class=\"mark\""), 0);
    free(page);
}

static void bad_thresholds(void **state) {
    static const struct {
        const char *text, *format, *message;
        la_status status;
    } bad[] = {
        {RULE("adue", "<=", "0.5"), "html", "\"adue\", which the threshold of", LA_BAD_INPUT},
        {RULE("confidence", "<=", "0.5"), "html", "\"accept\": expected >=", LA_BAD_INPUT},
        {"{}", "html", "\"schema\" is missing, expected laplora.threshold/1", LA_BAD_INPUT},
        {RULE("confidence", ">=", "0.5"), "json", "give --format html", LA_USAGE},
        {RULE_OF("confidence", ">=", "0.5", "\"model\":\"00ff\""), "html",
         "made from predictions of model 00ff, and the row at", LA_MISMATCH},
        {RULE_OF("confidence", ">=", "0.5", "\"confidence_kind\":\"average\""), "html",
         "of kind \"average\", and these are \"map\"", LA_MISMATCH},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        la_report_options options = with_threshold(bad[i].text);
        la_error err = {0};
        int failed;
        for (int f = 0; f < LA_REPORT_FORMATS; f++)
            if (!strcmp(la_report_formats[f].name, bad[i].format))
                options.format = &la_report_formats[f];
        assert_int_equal(la_report_run(&options, &failed, &err), bad[i].status);
        if (!strstr(err.message, bad[i].message))
            fail_msg("%s", err.message);
        assert_null(fopen(options.out, "r"));
    }
}

/* ---- numbers ---- */

/* scipy 1.17, binomtest(hits, n).proportion_ci(method="wilson") */
static void wilson(void **state) {
    static const struct {
        int n, hits;
        double lo, hi;
    } known[] = {{10, 1, 0.017876213095072896, 0.4041500267952385},
                 {10, 0, 0, 0.27753279986288973},
                 {10, 10, 0.7224672001371103, 1},
                 {400, 23, 0.03861754275773307, 0.08480083772811936}};
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        la_interval found = la_share_interval(known[i].n, known[i].hits);
        check_within("lower end", fabs(found.lo - known[i].lo), 1e-14);
        check_within("upper end", fabs(found.hi - known[i].hi), 1e-14);
    }
}

/* Points of n rows against counting the rows at each; ties in steps of a confidence. */
static void check_points(int n, int levels, int error_every) {
    double *probs = malloc((size_t)n * 2 * sizeof *probs);
    int64_t *labels = malloc((size_t)n * sizeof *labels);
    la_metrics metrics;
    la_error err = {0};
    for (int i = 0; i < n; i++) {
        probs[2 * i] = 0.5 + 0.49 * ((i * 7919 + 13) % levels) / levels;
        probs[2 * i + 1] = 1 - probs[2 * i];
        labels[i] = error_every && (i * 31) % error_every == 0;
    }
    la_metric_rows rows = {n, 2, probs, {.kind = LA_LABEL_CLASS, .classes = labels}};
    assert_int_equal(la_metrics_compute(&la_softmax_metrics, &rows, &metrics, &err), LA_OK);
    assert_in_range(metrics.n_points, 1, LA_METRIC_POINTS);
    for (int k = 0; k < metrics.n_points; k++) {
        const la_metric_point *point = &metrics.points[k];
        int64_t taken = 0, wrong = 0;
        for (int i = 0; i < n; i++)
            if (probs[2 * i] >= point->confidence) {
                taken++;
                wrong += labels[i];
            }
        assert_int_equal(point->n, taken);
        assert_int_equal(point->wrong, wrong);
        /* no hundredth of the rows is passed over but by rows of one confidence */
        int64_t step = point->n - (k ? point[-1].n : 0);
        assert_true(step <= n / 100 + 1 + (n + levels - 1) / levels);
    }
    assert_int_equal(metrics.points[metrics.n_points - 1].n, n);
    if (n <= 100)
        assert_int_equal(metrics.n_points, levels < n ? levels : n);
    free(probs);
    free(labels);
}

static void points_of_curves(void **state) {
    (void)state;
    check_points(1, 97, 0);
    check_points(1, 97, 1);
    check_points(60, 1000, 4);
    check_points(60, 7, 4);
    check_points(5000, 10007, 3);
    check_points(5000, 10007, 50);
    check_points(5000, 40, 2);
}

static void steps_and_counts(void **state) {
    static const double lengths[][2] = {{1, 0.2}, {0.99, 0.2}, {0.31, 0.1}, {7, 2},      {50, 10},
                                        {51, 20}, {999, 200},  {1e6, 2e5},  {0.01, .002}};
    static const struct {
        long long count;
        const char *text;
    } counts[] = {{0, "0"},         {999, "999"},    {1000, "1k"},        {1234, "1.2k"},
                  {9949, "9.9k"},   {9950, "10k"},   {151234, "151k"},    {999499, "999k"},
                  {999500, "1.0M"}, {1000000, "1M"}, {4294967293, "4.3G"}};
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        check_within("step", relative(la_plot_step(lengths[i][0], 5), lengths[i][1], 1), 1e-9);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        char text[24];
        la_count_show(counts[i].count, text);
        assert_string_equal(text, counts[i].text);
    }
}

/* A page grows with what it shows, not with the rows. */
static void many_rows(void **state) {
    const char *path = scratch("many.jsonl");
    FILE *file = fopen(path, "w");
    (void)state;
    for (int i = 0; i < 50000; i++) {
        double p = 0.5 + 0.49 * (i * 7919 % 50021) / 50021, q = 1 - (1 - p) / 2;
        fprintf(file,
                "{\"index\":%d,\"label\":%d,\"probs\":[%.10f,%.10f],\"map_probs\":[%.10f,%.10f]}\n",
                i, i % 7 == 3, p, 1 - p, q, 1 - q);
    }
    fclose(file);
    char *page = page_with((la_report_options){.predictions = path});
    check_page(page, 6);
    assert_in_range(strlen(page), 20000, 90000);
    free(page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_page),
        cmocka_unit_test(escapes),
        cmocka_unit_test(rows_to_look_at),
        cmocka_unit_test(all_right),
        cmocka_unit_test(regression),
        cmocka_unit_test(sets_of_classes),
        cmocka_unit_test(most_rows_are_skipped),
        cmocka_unit_test(threshold_is_marked),
        cmocka_unit_test(bad_thresholds),
        cmocka_unit_test(wilson),
        cmocka_unit_test(points_of_curves),
        cmocka_unit_test(steps_and_counts),
        cmocka_unit_test(many_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
