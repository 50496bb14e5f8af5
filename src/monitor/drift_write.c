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

static void write_interval(FILE *stream, const double interval[2]) {
    if (isnan(interval[0]))
        fputs(",\"estimated_ci\":null", stream);
    else
        fprintf(stream, ",\"estimated_ci\":[%.12g,%.12g]", interval[0], interval[1]);
}

static void write_json_errors(const la_drift *d, FILE *stream) {
    const la_drift_error *errors[2] = {&d->rmse, &d->nll};
    for (int k = 0; k < 2; k++) {
        fprintf(stream, "%s\"%s\":", k ? "," : ",\"errors\":{", k ? "nll" : "rmse");
        write_number(stream, "{\"reference\":", errors[k]->reference);
        write_number(stream, ",\"estimated\":", errors[k]->estimated);
        write_interval(stream, errors[k]->interval);
        write_number(stream, ",\"measured\":", errors[k]->measured);
        fputs("}", stream);
    }
    write_number(stream, ",\"coverage_90\":{\"reference\":", d->coverage[0]);
    write_number(stream, ",\"measured\":", d->coverage[1]);
    write_number(stream, "},\"standardised_rms\":{\"reference\":", d->spread[0]);
    write_number(stream, ",\"measured\":", d->spread[1]);
    fputs("}}", stream);
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
        fprintf(stream, "%s{\"name\":\"%s\"", between, la_drift_name(d->numbers, k));
        write_number(stream, ",\"statistic\":", t->statistic);
        write_number(stream, ",\"p_value\":", t->p_value);
        write_number(stream, ",\"adjusted\":", t->adjusted);
        fprintf(stream, ",\"alarm\":%s,\"n_reference\":%lld,\"n_current\":%lld}",
                t->alarm ? "true" : "false", (long long)t->n_reference, (long long)t->n_current);
        between = ",";
    }
    write_number(stream, "],\"accuracy\":{\"reference\":", d->reference);
    write_number(stream, ",\"estimated\":", d->estimated);
    write_interval(stream, d->interval);
    write_number(stream, ",\"measured\":", d->measured);
    write_number(stream, "},\"auroc\":{\"reference\":", d->auroc[0]);
    write_number(stream, ",\"current\":", d->auroc[1]);
    fputs("}", stream);
    if (d->numbers)
        write_json_errors(d, stream);
    fprintf(stream, ",\"advice\":\"%s\",\"reason\":\"%s\"}\n", advices[d->advice], d->reason);
}

/* A line of what was before, is expected and was found, as far as it is known. */
static void write_line(const char *name, const la_drift_error *e, bool markdown, FILE *stream) {
    const char *between = ":";
    if (isnan(e->reference) && isnan(e->estimated) && isnan(e->measured))
        return;
    fputs(name, stream);
    if (!isnan(e->reference)) {
        fprintf(stream, ": reference %.4f", e->reference);
        between = ",";
    }
    if (!isnan(e->estimated)) {
        fprintf(stream, "%s estimated %.4f (95 %% interval %.4f to %.4f)", between, e->estimated,
                e->interval[0], e->interval[1]);
        between = ",";
    }
    if (!isnan(e->measured))
        fprintf(stream, "%s measured %.4f", between, e->measured);
    fputs(markdown ? "\n\n" : "\n", stream);
}

static void write_figures(const la_drift *d, bool markdown, FILE *stream) {
    la_drift_error accuracy = {
        d->reference, d->estimated, {d->interval[0], d->interval[1]}, d->measured};
    la_drift_error coverage = {d->coverage[0], NAN, {NAN, NAN}, d->coverage[1]};
    la_drift_error spread = {d->spread[0], NAN, {NAN, NAN}, d->spread[1]};
    if (d->numbers) {
        write_line("rmse", &d->rmse, markdown, stream);
        write_line("nll", &d->nll, markdown, stream);
        write_line("labels in the intervals of 90 %", &coverage, markdown, stream);
        write_line("errors in standard deviations, rms", &spread, markdown, stream);
    } else {
        write_line("accuracy", &accuracy, markdown, stream);
    }
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
            fprintf(stream, row, la_drift_name(d->numbers, k), t->statistic, t->p_value,
                    t->adjusted, alarm);
    }
    fputs("\n", stream);
    for (int k = 0; k < LA_DRIFT_SCORES; k++) {
        const la_drift_test *t = &d->tests[k];
        if (t->tested && (t->n_reference < d->n_reference || t->n_current < d->n_current))
            fprintf(stream, "%s: of the %lld reference rows and %lld current ones that have it\n%s",
                    la_drift_name(d->numbers, k), (long long)t->n_reference,
                    (long long)t->n_current, markdown ? "\n" : "");
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
    write_figures(d, markdown, stream);
    fprintf(stream, "advice: %s: %s\n", advices[d->advice], d->reason);
}
