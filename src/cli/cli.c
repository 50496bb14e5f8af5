#include "cli/cli.h"
#include "backend/ops.h"
#include "base/stop.h"
#include "base/machine.h"
#include "model/quantised.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAR = 24 };

static struct {
    const char *stage;
    double start, shown;
    bool drawn;
} bar;

static void warn(void *user, const char *message) {
    (void)user;
    la_cli_progress_end();
    fprintf(stderr, "laplora: note: %s\n", message);
}

/* rows done, rate, time left; drawn at most ten times a second */
static void progress(void *user, const char *stage, int64_t rows, double fraction) {
    (void)user;
    double now = la_seconds();
    if (bar.stage != stage) {
        la_cli_progress_end();
        bar.stage = stage;
        bar.start = now;
        bar.shown = 0;
    }
    if (now - bar.shown < 0.1 && fraction < 1)
        return;
    bar.shown = now;
    bar.drawn = true;
    double spent = now - bar.start, rate = spent > 0 ? (double)rows / spent : 0;
    char filled[BAR + 1];
    int n = (int)(fraction * BAR);
    for (int i = 0; i < BAR; i++)
        filled[i] = i < n ? '#' : '.';
    filled[BAR] = 0;
    fprintf(stderr, "\r%-10s [%s] %lld rows, %.0f rows/s", stage, filled, (long long)rows, rate);
    if (fraction > 0 && fraction < 1)
        fprintf(stderr, ", %.0f s left   ", ceil(spent * (1 - fraction) / fraction));
    else
        fprintf(stderr, ", %.1f s          ", spent);
    fflush(stderr);
}

void la_cli_progress_end(void) {
    if (bar.drawn)
        fputc('\n', stderr);
    bar.drawn = false;
    bar.stage = NULL;
}

la_log la_cli_log(const la_common *common) {
    if (common->quiet)
        return (la_log){0};
    return (la_log){.warn = warn, .progress = isatty(STDERR_FILENO) ? progress : NULL};
}

int la_cli_exit(const la_error *err) {
    la_cli_progress_end();
    if (err->status == LA_OK)
        return 0;
    /* whatever failed after a signal failed because of it: a read or a write that it broke off */
    la_error stop = {0};
    bool stopped = la_check_interrupt(&stop) != LA_OK;
    if (!stopped || la_stop_first_report())
        fprintf(stderr, "laplora: error: %s\n", stopped ? stop.message : err->message);
    if (stopped)
        return 128 + la_interrupted();
    return (int)err->status;
}

la_status la_cli_join(la_run_options *run, la_ranks *ranks, la_error *err) {
    LA_TRY(la_ranks_open(ranks, err));
    run->threads = la_ranks_threads(ranks, run->threads);
    if (ranks->rank)
        run->log = (la_log){0};
    return LA_OK;
}

int la_cli_leave(const la_error *err) {
    la_ranks_before_report((int)err->status);
    return la_ranks_end(la_cli_exit(err));
}

la_run_options la_cli_run_options(const la_common *common, const la_run_given *given) {
    bool packs = given->base_quant >= 0, rounds = given->precision >= 0;
    return (la_run_options){.device = given->device,
                            .precision = rounds ? la_precision_names[given->precision] : NULL,
                            .base_quant = packs ? la_base_quant_names[given->base_quant] : NULL,
                            .adapter_name = given->adapter_name,
                            .threads = (int)given->threads,
                            .max_length = given->text.max_length,
                            .batch_tokens = given->batch_tokens,
                            .text_field = given->text.text_field,
                            .pair_field = given->text.pair_field,
                            .label_field = given->label_field,
                            .labels = given->labels,
                            .profile = given->verbose,
                            .log = la_cli_log(common)};
}

la_status la_cli_check_run(const la_common *common, const la_run_given *given, la_error *err) {
    if (common->quiet && given->verbose)
        return la_fail(err, LA_USAGE, "--quiet and --verbose contradict each other; give one");
    return LA_OK;
}

la_status la_cli_require(const char *command, const char *option, const char *value,
                         la_error *err) {
    if (value)
        return LA_OK;
    return la_fail(err, LA_USAGE, "%s needs --%s; see laplora %s --help", command, option, command);
}

la_status la_cli_format(const char *const *names, int given, bool json, int *format,
                        la_error *err) {
    *format = given < 0 ? 0 : given;
    if (json && given >= 0 && strcmp(names[given], "json"))
        return la_fail(err, LA_USAGE, "--json and --format %s contradict each other; give one",
                       names[given]);
    while (json && strcmp(names[*format], "json"))
        ++*format;
    return LA_OK;
}

la_status la_cli_no_operands(const la_command *command, const la_common *common, la_error *err) {
    if (!common->n_operands)
        return LA_OK;
    return la_fail(err, LA_USAGE, "%s takes no operand (\"%s\"); see laplora %s --help",
                   command->name, common->operands[0], command->name);
}
