/* Options of fit and of merge: how the prior is chosen, and what is guarded. */
#include "cli/cli.h"

static const struct {
    const char *name;
    la_prior_kind kind;
} priors[] = {{"module", LA_PRIOR_MODULE},
              {"global", LA_PRIOR_GLOBAL},
              {"layer", LA_PRIOR_LAYER},
              {"kind", LA_PRIOR_KIND}};
static const struct {
    const char *name;
    la_select_kind kind;
} selections[] = {{"auto", LA_SELECT_AUTO},
                  {"val", LA_SELECT_VAL},
                  {"cross", LA_SELECT_CROSS},
                  {"marglik", LA_SELECT_MARGLIK},
                  {"none", LA_SELECT_NONE}};

/* Costs of predict. */
enum { COST_FORWARD, COST_ANY, COSTS };
static const char *const costs[COSTS] = {"forward", "any"};

const la_option la_choosing_rows[LA_CHOOSING_ROWS] = {
    {.name = "val",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(la_choosing_given, val),
     .argument = "FILE",
     .help = "labelled rows that it was not trained on: they weigh prior scales and temperatures, "
             "and the guard stands over the result"},
    {.name = "heldout",
     .kind = LA_OPTION_FLAG,
     .offset = offsetof(la_choosing_given, heldout),
     .help = "the rows of --data were not trained on: curvature and choice are cross-fitted over "
             "five parts of them"},
    {.name = "keep-answers",
     .kind = LA_OPTION_FLAG,
     .offset = offsetof(la_choosing_given, keep_answers),
     .help = "the guard admits nothing that changes an answer of the adapter: no Monte Carlo, no "
             "correction of classes; needs --val or --heldout"},
    {.name = "predict-cost",
     .kind = LA_OPTION_CHOICE,
     .offset = offsetof(la_choosing_given, predict_cost),
     LA_NAMES(costs),
     .help = "forward: predict runs a forward pass alone; the variance is distilled from the full "
             "one on held-out rows (--val or --heldout). any (default): the full one, a backward "
             "pass a class"},
    {.name = "select",
     .kind = LA_OPTION_CHOICE,
     .offset = offsetof(la_choosing_given, select),
     LA_NAMES(selections),
     .help = "how the prior is chosen; auto (default): by the rows there are"},
    {.name = "prior",
     .kind = LA_OPTION_NUMBER,
     .offset = offsetof(la_choosing_given, prior),
     LA_NAMES(priors),
     .argument = "NUMBER",
     .help = "a precision a block (default), for all, a layer or a kind of matrix, by marginal "
             "likelihood, or exactly this. Given, it is meant exactly: nothing else is chosen or "
             "guarded"},
    {.name = "noise",
     .kind = LA_OPTION_NUMBER,
     .offset = offsetof(la_choosing_given, noise),
     .argument = "VARIANCE",
     .help = "regression: the variance of the noise; else it is chosen with the prior"},
    {.name = "adue",
     .kind = LA_OPTION_FLAG,
     .offset = offsetof(la_choosing_given, adue),
     .help = "also train an error head (AdUE): every prediction gets a score `adue`, larger for "
             "likely errors"},
    {.name = "ood",
     .kind = LA_OPTION_FLAG,
     .offset = offsetof(la_choosing_given, ood),
     .help = "also keep the calibration rows' means and covariance: predict --emit ood says how "
             "far from them a row lies"},
};

void la_cli_choose(const la_choosing_given *given, la_fit_options *fit) {
    if (given->prior.given)
        fit->prior = given->prior.name < 0 ? LA_PRIOR_FIXED : priors[given->prior.name].kind;
    if (given->select >= 0)
        fit->select = selections[given->select].kind;
    fit->prior_given = given->prior.given;
    fit->prior_value = given->prior.value;
    fit->val = given->val;
    fit->heldout = given->heldout;
    fit->keep_answers = given->keep_answers;
    fit->forward = given->predict_cost == COST_FORWARD;
    fit->adue = given->adue;
    fit->ood = given->ood;
    fit->noise = given->noise.value;
}

la_status la_cli_check_unchosen(const la_choosing_given *given, la_error *err) {
    const struct {
        const char *name;
        bool given;
    } options_given[] = {{"prior", given->prior.given},
                         {"noise", given->noise.given},
                         {"select", given->select >= 0},
                         {"val", given->val != NULL},
                         {"heldout", given->heldout},
                         {"keep-answers", given->keep_answers},
                         {"predict-cost", given->predict_cost >= 0},
                         {"adue", given->adue},
                         {"ood", given->ood}};
    for (size_t i = 0; i < sizeof options_given / sizeof *options_given; i++)
        if (options_given[i].given)
            return la_fail(err, LA_USAGE,
                           "--%s: with --shard rows are summed and nothing is chosen yet; give it "
                           "to laplora merge",
                           options_given[i].name);
    return LA_OK;
}
