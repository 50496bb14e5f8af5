/* What export is given, and how it fails. */
#include "support/faults.h"
#include "support/posterior_files.h"

#include <string.h>

#define EXPORT "export --posterior @/posterior --out @/out --to "
#define OF(rest)                                                                                   \
    "{\"schema\":\"laplora.threshold/"                                                             \
    "1\",\"score\":\"confidence\",\"accept\":\">=\",\"threshold\":0.9,"                            \
    "\"provenance\":{" rest "}"
#define SCHEMA OF("") "}"

/* A guard's choice without a fit for it. */
static void guard(const fault *f, const char *folder) {
    la_posterior p = case_load(folder, "posterior");
    p.choice = (la_choice){.guarded = 1, .n = 20, .method = LA_METHOD_TEMPERATURE};
    for (int k = 0; k < LA_METHODS; k++)
        p.choice.candidates[k] = (la_candidate){1, 2.5, 0.5, 0.75, 0, 0, 0};
    case_save(&p, folder, "posterior");
    la_posterior_free(&p);
    if (f->file)
        put_file(f, folder);
}

static const fault faults[] = {
    {"no posterior", 2, {"--posterior"}, .command = "export --to json --out @/out"},
    {"no format", 2, {"--to"}, .command = "export --posterior @/posterior --out @/out"},
    {"another format", 2, {"onnx", "vllm, json"}, .command = EXPORT "onnx"},
    {"an operand", 2, {"extra"}, .command = EXPORT "json extra"},
    {"onto the posterior",
     2,
     {"--posterior"},
     .command = "export --posterior @/posterior --out @/posterior --to json"},
    {"a posterior that is missing",
     3,
     {"/nothing", "No such file"},
     .command = "export --posterior @/nothing --out @/out --to json"},
    {"a folder", 3, {"is no file"}, .command = "export --posterior @/base --out @/out --to json"},
    {"an adapter for a posterior",
     3,
     {"/adapter_config.json", "no posterior"},
     .command = "export --posterior @/adapter/adapter_config.json --out @/out --to json"},
    {"a truncated posterior",
     3,
     {"/posterior", "incomplete"},
     EXPORT "json",
     cut_file,
     .file = "posterior",
     .a = "3000"},
    {"a posterior of a later version",
     4,
     {"/posterior", "schema 2"},
     EXPORT "json",
     replace_text,
     .file = "posterior",
     .a = "laplora posterior 1",
     .b = "laplora posterior 2"},
    {"no temperature",
     4,
     {"/posterior", "no held-out rows", "--val", "--to json"},
     .command = EXPORT "vllm"},
    {"no folder for it",
     5,
     {"/none/o"},
     .command = "export --posterior @/posterior --out @/none/o --to json"},
    {"a full disk",
     5,
     {"/dev/full"},
     .command = "export --posterior @/posterior --out /dev/full --to json"},
    {"a threshold that is missing", 3, {"/t.json"}, .command = EXPORT "json --threshold @/t.json"},
    {"a threshold that is no JSON",
     3,
     {"/t.json"},
     EXPORT "json --threshold @/t.json",
     put_file,
     .file = "t.json",
     .a = "{\"schema\":"},
    {"a threshold that is something else",
     3,
     {"/t.json", "schema", "laplora.threshold/1"},
     EXPORT "json --threshold @/t.json",
     put_file,
     .file = "t.json",
     .a = "{\"schema\":\"laplora.report/1\"}"},
    {"a threshold of a later version",
     4,
     {"/t.json", "update laplora"},
     EXPORT "json --threshold @/t.json",
     put_file,
     .file = "t.json",
     .a = "{\"schema\":\"laplora.threshold/2\"}"},
    {"a threshold without a schema",
     3,
     {"/t.json", "schema"},
     EXPORT "json --threshold @/t.json",
     put_file,
     .file = "t.json",
     .a = "{}"},
    {"onto the threshold",
     2,
     {"--threshold"},
     "export --posterior @/posterior --to json --threshold @/t.json --out @/t.json",
     put_file,
     .file = "t.json",
     .a = SCHEMA},
    {"an unguarded posterior as JSON",
     0,
     {"\"temperature\": null", "\"guard\": null"},
     .command = "export --posterior @/posterior --to json"},
    {"a temperature",
     0,
     {"{\"logit_mean\":0.0,\"logit_sigma\":2.5}\n"},
     .command = "export --posterior @/posterior --to vllm",
     .damage = guard},
    {"a threshold that goes with it",
     0,
     {"\"threshold\": 0.9", "\"temperature\": 2.5"},
     "export --posterior @/posterior --to json --threshold @/t.json",
     guard,
     .file = "t.json",
     .a = SCHEMA},
    {"a threshold of other answers",
     0,
     {"/t.json: is of confidences of kind average, the posterior's are temperature"},
     "export --posterior @/posterior --to json --threshold @/t.json",
     guard,
     .file = "t.json",
     .a = OF("\"confidence_kind\":\"average\"") "}"},
    {"a threshold of another model",
     7,
     {"/t.json", "0123456789abcdef", "make a threshold"},
     EXPORT "json --threshold @/t.json",
     put_file,
     .file = "t.json",
     .a = OF("\"model\":\"0123456789abcdef\"") "}"},
    {"thresholds of other classes",
     7,
     {"/t.json", "of 2 classes", "of 3"},
     EXPORT "json --threshold @/t.json",
     put_file,
     .file = "t.json",
     .a = OF("") ",\"classes\":[{\"class\":0},{\"class\":1}]}"},
    {"a threshold for vLLM",
     0,
     {"not expressed: the threshold", "\"logit_sigma\":2.5"},
     "export --posterior @/posterior --to vllm --threshold @/t.json",
     guard,
     .file = "t.json",
     .a = SCHEMA},
};

int main(void) {
    return run_faults("export", faults, sizeof faults / sizeof *faults);
}
