/* The report as JUnit XML, which GitLab, Jenkins and Azure read: a test case for every gate. */
#include "output/report.h"
#include "output/escape.h"

#include <math.h>

static void write_properties(const la_report *report, FILE *stream) {
    char bias[LA_REPORT_BIAS];
    fputs("    <properties>\n      <property name=\"predictions\" value=\"", stream);
    la_xml_write(stream, report->file);
    fprintf(stream, "\"/>\n      <property name=\"n\" value=\"%lld\"/>\n", (long long)report->n);
    la_report_bias(report, bias);
    if (*bias)
        fprintf(stream, "      <property name=\"bias\" value=\"%s\"/>\n", bias);
    for (int m = 0; m < report->set->n; m++)
        if (!isnan(report->metrics.value[m]))
            fprintf(stream, "      <property name=\"%s\" value=\"%.17g\"/>\n",
                    report->set->list[m].name, report->metrics.value[m]);
    fputs("    </properties>\n", stream);
}

static void write_gate(const la_gate *gate, FILE *stream) {
    char text[LA_GATE_TEXT];
    fputs("    <testcase classname=\"laplora.report\" name=\"", stream);
    la_gate_condition(gate, text);
    la_xml_write(stream, text);
    if (gate->pass) {
        fputs("\" time=\"0\"/>\n", stream);
        return;
    }
    fputs("\" time=\"0\">\n      <failure type=\"gate\" message=\"", stream);
    la_gate_outcome(gate, text);
    la_xml_write(stream, text);
    fputs("\"/>\n    </testcase>\n", stream);
}

la_status la_report_junit(const la_report *report, const la_report_style *style, FILE *stream,
                          la_error *err) {
    int tests = report->n_gates ? report->n_gates : 1;
    (void)style;
    (void)err;
    fprintf(stream,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<testsuites name=\"laplora\" tests=\"%d\" failures=\"%d\" errors=\"0\" time=\"0\">\n"
            "  <testsuite name=\"laplora report\" tests=\"%d\" failures=\"%d\" errors=\"0\" "
            "skipped=\"0\" time=\"0\">\n",
            tests, report->n_failed, tests, report->n_failed);
    write_properties(report, stream);
    for (int i = 0; i < report->n_gates; i++)
        write_gate(&report->gates[i], stream);
    if (!report->n_gates)
        fputs("    <testcase classname=\"laplora.report\" name=\"report\" time=\"0\"/>\n", stream);
    fputs("  </testsuite>\n</testsuites>\n", stream);
    return LA_OK;
}
