/* What drift found, for machines and people. */
#include "monitor/drift.h"

#include <math.h>

static const char *const advices[] = {"none", "recalibrate", "retrain"};

static void write_number(FILE *stream, const char *before, double number) {
    fputs(before, stream);
    if (isnan(number))
        fputs("null", stream);
    else
        fprintf(stream, "%.12g", number);
}

static void write_json(const la_drift *d, FILE *stream) {
    const char *between = "";
    fprintf(stream, "{\"schema\":\"laplora.drift/1\",\"n_reference\":%lld,\"n_current\":%lld",
            (long long)d->n_reference, (long long)d->n_current);
    fprintf(stream, ",\"alpha\":%.12g,\"alarm\":%s,\"tests\":[", d->alpha,
            d->alarm ? "true" : "false");
    for (int k = 0; k < LA_DRIFT_KINDS; k++) {
        const la_drift_test *t = &d->tests[k];
        if (!t->tested)
            continue;
        fprintf(stream, "%s{\"name\":\"%s\"", between, la_drift_names[k]);
        write_number(stream, ",\"statistic\":", t->statistic);
        write_number(stream, ",\"p_value\":", t->p_value);
        write_number(stream, ",\"adjusted\":", t->adjusted);
        fprintf(stream, ",\"alarm\":%s,\"n_reference\":%lld,\"n_current\":%lld}",
                t->alarm ? "true" : "false", (long long)t->n_reference, (long long)t->n_current);
        between = ",";
    }
    write_number(stream, "],\"accuracy\":{\"reference\":", d->reference);
    write_number(stream, ",\"estimated\":", d->estimated);
    if (isnan(d->estimated))
        fputs(",\"estimated_ci\":null", stream);
    else
        fprintf(stream, ",\"estimated_ci\":[%.12g,%.12g]", d->interval[0], d->interval[1]);
    write_number(stream, ",\"measured\":", d->measured);
    write_number(stream, "},\"auroc\":{\"reference\":", d->auroc[0]);
    write_number(stream, ",\"current\":", d->auroc[1]);
    fprintf(stream, "},\"advice\":\"%s\",\"reason\":\"%s\"}\n", advices[d->advice], d->reason);
}

static void write_share(FILE *stream, const char *before, double share, const char *behind) {
    if (!isnan(share))
        fprintf(stream, "%s%.4f%s", before, share, behind);
}

static void write_accuracy(const la_drift *d, FILE *stream) {
    fputs("accuracy:", stream);
    write_share(stream, " reference ", d->reference, ",");
    write_share(stream, " estimated ", d->estimated, "");
    if (!isnan(d->estimated))
        fprintf(stream, " (95 %% interval %.4f to %.4f)", d->interval[0], d->interval[1]);
    write_share(stream, isnan(d->estimated) ? " measured " : ", measured ", d->measured, "");
    fputs("\n", stream);
}

static void write_rows(const la_drift *d, bool markdown, FILE *stream) {
    const char *heading =
        markdown ? "| test | statistic | p | adjusted | alarm |\n|---|---:|---:|---:|---|\n"
                 : "test                statistic          p   adjusted\n";
    const char *row =
        markdown ? "| %s | %.4g | %.3g | %.3g | %s |\n" : "%-18s %10.4g %10.3g %10.3g%s\n";
    fputs(heading, stream);
    for (int k = 0; k < LA_DRIFT_KINDS; k++) {
        const la_drift_test *t = &d->tests[k];
        const char *alarm = !t->alarm ? "" : markdown ? "**alarm**" : "   alarm";
        if (t->tested)
            fprintf(stream, row, la_drift_names[k], t->statistic, t->p_value, t->adjusted, alarm);
    }
    fputs("\n", stream);
    for (int k = 0; k < LA_DRIFT_SCORES; k++) {
        const la_drift_test *t = &d->tests[k];
        if (t->tested && (t->n_reference < d->n_reference || t->n_current < d->n_current))
            fprintf(stream, "%s: of the %lld reference rows and %lld current ones that have it\n%s",
                    la_drift_names[k], (long long)t->n_reference, (long long)t->n_current,
                    markdown ? "\n" : "");
    }
}

void la_drift_write(const la_drift *d, la_drift_format format, FILE *stream) {
    bool markdown = format == LA_DRIFT_MARKDOWN;
    if (format == LA_DRIFT_JSON) {
        write_json(d, stream);
        return;
    }
    fprintf(stream, "%s%s: %lld reference rows, %lld current ones, alpha %g\n\n",
            markdown ? "## Drift: " : "drift: ", d->alarm ? "alarm" : "none",
            (long long)d->n_reference, (long long)d->n_current, d->alpha);
    write_rows(d, markdown, stream);
    if (!isnan(d->reference) || !isnan(d->estimated) || !isnan(d->measured))
        write_accuracy(d, stream);
    if (markdown)
        fputs("\n", stream);
    fprintf(stream, "advice: %s: %s\n", advices[d->advice], d->reason);
}
