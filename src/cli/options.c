#include "cli/options.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef enum option_kind { FLAG, TEXT, NUMBER, NUMBER_OR_AUTO, REPEATED } option_kind;

typedef struct option_row {
    const char *name;
    option_kind kind;
    size_t offset;
    int64_t min, max; /* of a NUMBER */
    const char *argument, *help;
} option_row;

#define AT(field) offsetof(la_cli, field)
#define BIG INT64_MAX

static const option_row rows[] = {
    {"base", TEXT, AT(base), 0, 0, "DIR", "folder of the Hugging Face base model"},
    {"base-quant", TEXT, AT(base_quant), 0, 0, "KIND",
     "pack a plain base's linear layers: nf4, nf4-double, fp4, fp4-double, int8; none"},
    {"adapter", REPEATED, AT(adapters), 0, 0, "DIR",
     "folder of the PEFT adapter; compare: several are an ensemble"},
    {"adapter-name", TEXT, AT(adapter_name), 0, 0, "NAME[,NAME]",
     "which adapter, where the folder holds several; or several at once"},
    {"data", TEXT, AT(data), 0, 0, "FILE", "rows: .jsonl, .csv, .tsv; - is JSONL on stdin"},
    {"calib", TEXT, AT(calib), 0, 0, "FILE", "labelled rows that the curvature is of"},
    {"test", TEXT, AT(test), 0, 0, "FILE", "labelled rows that the table is of"},
    {"ood", TEXT, AT(ood), 0, 0, "FILE", "rows of other data, to be told from those of --test"},
    {"methods", TEXT, AT(methods), 0, 0, "LIST",
     "map,temperature,kron,...; default: all but the slow"},
    {"out", TEXT, AT(out), 0, 0, "FILE", "where to write; - is stdout"},
    {"posterior", TEXT, AT(posterior), 0, 0, "FILE", "posterior file written by fit"},
    {"curvature", TEXT, AT(curvature), 0, 0, "KIND",
     "kron (default), ekfac, diag, exact, last-layer"},
    {"kron", TEXT, AT(kron), 0, 0, "KIND", "expand (default) or reduce"},
    {"prior", TEXT, AT(prior), 0, 0, "KIND", "module (default), global, layer, kind, or a number"},
    {"noise", TEXT, AT(noise), 0, 0, "VARIANCE",
     "regression: of the noise; default: by marginal likelihood"},
    {"select", TEXT, AT(select), 0, 0, "KIND",
     "val, cross, marglik or none; default: by the rows there are"},
    {"val", TEXT, AT(val), 0, 0, "FILE",
     "held-out labelled rows that choose scale and temperature"},
    {"heldout", FLAG, AT(heldout), 0, 0, NULL, "the rows of --data were not trained on"},
    {"adue", FLAG, AT(adue), 0, 0, NULL,
     "train an error head too: predict then scores how likely each answer is wrong"},
    {"rank", TEXT, AT(rank), 0, 0, "K", "full (default), or eigenpairs kept of large factors"},
    {"params", TEXT, AT(params), 0, 0, "KIND",
     "lora (default), lora+head, head, lora+magnitude, lora+magnitude+head"},
    {"choices", TEXT, AT(choices), 0, 0, "A,B,..", "answer tokens of a causal LM, as text"},
    {"choice-ids", TEXT, AT(choice_ids), 0, 0, "N,N,..", "answer tokens of a causal LM, as ids"},
    {"template", TEXT, AT(template_path), 0, 0, "FILE", "prompt with {field} placeholders"},
    {"samples", NUMBER, AT(samples), 0, 100000000, "N",
     "Monte Carlo samples (default 1000; networks of weights: 20); 0: closed form only, as a "
     "regression always is"},
    {"predictive", TEXT, AT(predictive), 0, 0, "KIND",
     "what fit chose (default), mc, probit, scalar, bridge, weights, temperature, map, average"},
    {"emit", TEXT, AT(emit), 0, 0, "LIST", "also write logits, cov"},
    {"stdin", FLAG, AT(use_stdin), 0, 0, NULL, "a line in, a line out, flushed"},
    {"flat", FLAG, AT(flat), 0, 0, NULL, "a line a classified token, not one a row"},
    {"skip-bad", FLAG, AT(skip_bad), 0, 0, NULL, "write an error for a bad row and go on"},
    {"format", TEXT, AT(format), 0, 0, "KIND", "text (default), json, markdown, html, junit"},
    {"max", REPEATED, AT(max), 0, 0, "METRIC=X", "fail (exit 1) when the metric is above X"},
    {"min", REPEATED, AT(min), 0, 0, "METRIC=X", "fail (exit 1) when the metric is below X"},
    {"baseline", TEXT, AT(baseline), 0, 0, "FILE", "an earlier report (json) to compare with"},
    {"max-regression", REPEATED, AT(max_regression), 0, 0, "METRIC=X",
     "fail when worse than the baseline by more than X"},
    {"min-samples", NUMBER, AT(min_samples), 0, BIG, "N", "fail with fewer rows"},
    {"device", TEXT, AT(device), 0, 0, "NAME", "auto (default), cpu, cuda, cuda:0,1"},
    {"threads", NUMBER, AT(threads), 1, 4096, "N", "default: the CPUs this process may use"},
    {"precision", TEXT, AT(precision), 0, 0, "NAME", "f32 (default); on CUDA also tf32, bf16"},
    {"seed", NUMBER, AT(seed), 0, BIG, "N", "of the Monte Carlo draw (default 0)"},
    {"max-length", NUMBER, AT(max_length), 1, INT32_MAX, "N", "tokens a text is truncated to"},
    {"batch-tokens", NUMBER_OR_AUTO, AT(batch_tokens), 1, 1 << 24, "N",
     "tokens run together; auto: as many as the free memory holds"},
    {"text-field", TEXT, AT(text_field), 0, 0, "NAME", "field with the text"},
    {"pair-field", TEXT, AT(pair_field), 0, 0, "NAME", "field with the second text"},
    {"label-field", TEXT, AT(label_field), 0, 0, "NAME", "field with the label"},
    {"id-field", TEXT, AT(id_field), 0, 0, "NAME", "field with the id"},
    {"labels", TEXT, AT(labels), 0, 0, "NAME,..", "names of the classes, in class order"},
    {"json", FLAG, AT(json), 0, 0, NULL, "machine-readable result on stdout"},
    {"quiet", FLAG, AT(quiet), 0, 0, NULL, "no progress, no notes"},
    {"verbose", FLAG, AT(verbose), 0, 0, NULL, "tell where the time went"},
    {"help", FLAG, AT(help), 0, 0, NULL, "this text"},
};

enum { N_ROWS = sizeof rows / sizeof *rows };

/* Whether the blank-separated list holds the name. --help is everywhere. */
static bool takes(const la_command *command, const char *name) {
    size_t length = strlen(name);
    if (!strcmp(name, "help"))
        return true;
    for (const char *at = command->options; (at = strstr(at, name)); at += length) {
        bool begins = at == command->options || at[-1] == ' ';
        if (begins && (at[length] == ' ' || !at[length]))
            return true;
    }
    return false;
}

static la_status store(const option_row *row, const char *value, la_cli *cli, la_error *err) {
    char *field = (char *)cli + row->offset;
    switch (row->kind) {
    case FLAG:
        *(bool *)(void *)field = true;
        return LA_OK;
    case TEXT:
        *(const char **)(void *)field = value;
        return LA_OK;
    case REPEATED: {
        la_texts *list = (la_texts *)(void *)field;
        if (list->n == LA_REPEATS_MAX)
            return la_fail(err, LA_USAGE, "--%s is given more than %d times", row->name,
                           LA_REPEATS_MAX);
        list->values[list->n++] = value;
        return LA_OK;
    }
    case NUMBER_OR_AUTO:
        if (!strcmp(value, "auto")) {
            *(int64_t *)(void *)field = -1;
            return LA_OK;
        }
        /* fall through */
    case NUMBER: {
        char *end;
        errno = 0;
        long long number = strtoll(value, &end, 10);
        if (errno || end == value || *end || number < row->min || number > row->max) {
            if (row->max == BIG)
                return la_fail(err, LA_USAGE, "--%s \"%s\": expected an integer of at least %lld",
                               row->name, value, (long long)row->min);
            return la_fail(err, LA_USAGE, "--%s \"%s\": expected an integer from %lld to %lld",
                           row->name, value, (long long)row->min, (long long)row->max);
        }
        *(int64_t *)(void *)field = number;
        return LA_OK;
    }
    }
    return LA_OK;
}

la_status la_cli_parse(const la_command *command, int argc, char **argv, la_cli *cli,
                       la_error *err) {
    struct option list[N_ROWS + 1] = {{0}};
    int n = 0, numbers[N_ROWS], which;
    *cli = (la_cli){.samples = -1, .min_samples = -1};
    for (int i = 0; i < N_ROWS; i++) {
        if (!takes(command, rows[i].name))
            continue;
        numbers[n] = i;
        list[n++] = (struct option){
            rows[i].name, rows[i].kind == FLAG ? no_argument : required_argument, NULL, 0};
    }
    opterr = 0;
    optind = 1;
    /* '-': operands anywhere among the options; ':' tells a missing argument from an unknown option
     */
    for (int c; (c = getopt_long(argc, argv, "-:h", list, &which)) != -1;) {
        if (c == 1) {
            if (cli->n_operands == (int)(sizeof cli->operands / sizeof *cli->operands))
                return la_fail(err, LA_USAGE, "too many operands, at \"%s\"", optarg);
            cli->operands[cli->n_operands++] = optarg;
        } else if (c == 'h') {
            cli->help = true;
        } else if (c == ':') {
            return la_fail(err, LA_USAGE, "%s needs a value", argv[optind - 1]);
        } else if (c) {
            return la_fail(err, LA_USAGE, "%s takes no option %s; see laplora %s --help",
                           command->name, argv[optind - 1], command->name);
        } else {
            LA_TRY(store(&rows[numbers[which]], optarg, cli, err));
        }
    }
    for (; optind < argc; optind++) {
        if (cli->n_operands == (int)(sizeof cli->operands / sizeof *cli->operands))
            return la_fail(err, LA_USAGE, "too many operands, at \"%s\"", argv[optind]);
        cli->operands[cli->n_operands++] = argv[optind];
    }
    if (cli->adapters.n)
        cli->adapter = cli->adapters.values[cli->adapters.n - 1];
    return LA_OK;
}

void la_cli_help(const la_command *command, FILE *stream) {
    fprintf(stream, "laplora %s: %s\n\nusage: laplora %s %s\n\n", command->name, command->summary,
            command->name, command->usage);
    for (int i = 0; i < N_ROWS; i++) {
        if (!takes(command, rows[i].name))
            continue;
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", rows[i].name, rows[i].argument ? " " : "",
                 rows[i].argument ? rows[i].argument : "");
        fprintf(stream, "  %-27s %s\n", left, rows[i].help);
    }
}

la_status la_cli_choice(const char *option, const char *value, const char *const *names, int n,
                        int *out, la_error *err) {
    char known[256];
    size_t used = 0;
    *out = 0;
    if (!value)
        return LA_OK;
    for (int i = 0; i < n; i++) {
        if (!strcmp(names[i], value)) {
            *out = i;
            return LA_OK;
        }
        if (used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
                                     names[i]);
    }
    return la_fail(err, LA_USAGE, "--%s \"%s\": expected one of %s", option, value, known);
}
