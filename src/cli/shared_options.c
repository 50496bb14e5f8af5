/* Rows of the options that several commands take. */
#include "backend/ops.h"
#include "cli/cli.h"
#include "model/quantised.h"

static const char *const auto_names[] = {"auto"};

const la_option la_common_rows[LA_COMMON_ROWS] = {
    LA_ROW(FLAG, la_common, quiet, "quiet", .help = "no progress, no notes"),
    LA_ROW(FLAG, la_common, help, "help", .help = "this text"),
};

const la_option la_text_rows[LA_TEXT_ROWS] = {
    LA_ROW(TEXT, la_text_given, text_field, "text-field", .argument = "NAME",
           .help = "field with the text"),
    LA_ROW(TEXT, la_text_given, pair_field, "pair-field", .argument = "NAME",
           .help = "field with the second text"),
    LA_ROW(INTEGER, la_text_given, max_length, "max-length", .argument = "N", .min = 1,
           .max = INT32_MAX,
           .help = "tokens a text is truncated to; default: as many as the model takes"),
};

const la_option la_prompt_rows[LA_PROMPT_ROWS] = {
    LA_ROW(TEXT, la_prompt_given, choices, "choices", .argument = "A,B,..",
           .help =
               "answer tokens of a causal LM, its classes, as text; \"\\ A\" begins with a space"),
    LA_ROW(TEXT, la_prompt_given, choice_ids, "choice-ids", .argument = "N,N,..",
           .help = "answer tokens of a causal LM, as ids"),
    LA_ROW(TEXT, la_prompt_given, template_path, "template", .argument = "FILE",
           .help = "prompt with {field} placeholders; fit keeps it in the posterior"),
};

const la_option la_run_rows[LA_RUN_ROWS] = {
    LA_ROW(TEXT, la_run_given, label_field, "label-field", .argument = "NAME",
           .help = "field with the label"),
    LA_ROW(TEXT, la_run_given, labels, "labels", .argument = "NAME,..",
           .help = "names of the classes, in class order; \"\\,\" is a comma within a name"),
    LA_ROW(TEXT, la_run_given, adapter_name, "adapter-name", .argument = "NAME,..",
           .help =
               "which adapter, where the folder (or the file's keys) holds several; a list: all of "
               "them at once, in the order in which they were added; kept in the posterior"),
    LA_ROW(CHOICE, la_run_given, base_quant, "base-quant", LA_NAMES(la_base_quant_names),
           .help = "pack a plain base's linear layers as bitsandbytes does; kept in the posterior"),
    LA_ROW(TEXT, la_run_given, device, "device", .argument = "auto|cpu|cuda|cuda:0,1",
           .help = "where to compute (default auto); several devices share the rows"),
    LA_ROW(CHOICE, la_run_given, precision, "precision", LA_NAMES(la_precision_names),
           .help = "of products (default f32); on the CPU f32, and bf16 where it is fast"),
    LA_ROW(INTEGER, la_run_given, threads, "threads", .argument = "N", .min = 1, .max = 4096,
           .help = "default: the CPUs this process may use"),
    LA_ROW(INTEGER, la_run_given, batch_tokens, "batch-tokens", LA_NAMES(auto_names),
           .argument = "N", .min = 1, .max = 1 << 24,
           .help = "tokens run together; auto: as many as the free memory holds"),
    LA_ROW(FLAG, la_run_given, verbose, "verbose",
           .help =
               "the memory plan, and where the time went, by operation (operations then wait for "
               "each other)"),
};
