/* Every option that the help of a command (commands.def) lists changes something: a command or an
 * option without an entry here fails. And how options are read, whatever they are. */
#include "support/faults.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RUN_FIT "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/o "
#define PARTS "merge @/part1 @/part2 "
#define RUN_MERGE PARTS "--out @/o "
#define RUN_PREDICT "predict --posterior @/posterior --data @/test.jsonl --out @/o "
#define RUN_COMPARE                                                                                \
    "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl --json "  \
    "--samples 20 "
#define RUN_STILL                                                                                  \
    "compare --base @/base --adapter @/still --calib @/calib.jsonl --test @/test.jsonl --json "
#define RUN_REPORT "report @/p.jsonl --out @/o "
#define RUN_THRESHOLD "threshold @/scored.jsonl --out @/o --target-error 0.2 "
#define RUN_DRIFT "drift --reference @/scored.jsonl --current @/moved.jsonl --out @/o "
#define RUN_MODELS "drift --reference @/p.jsonl --current @/moved.jsonl --out @/o "
#define RUN_STREAM "drift --reference @/scored.jsonl --current @/moved.jsonl "
#define RUN_COST "threshold @/scored.jsonl --out @/o --cost-error 3 --cost-review 1 "
#define RUN_DIFF "diff @/adapter @/still --quiet --out @/o "
#define RUN_REFINE_TO(folder)                                                                      \
    "refine --posterior @/posterior --data @/test.jsonl --out @/o --out-adapter @/" folder         \
    " --epochs 1 --batch-rows 8 "
#define RUN_REFINE RUN_REFINE_TO("new")
#define RUN_UPDATE "update --posterior @/posterior --data @/test.jsonl --out @/o "
#define RUN_TOKENIZE "tokenize --base @/base --data @/fields.jsonl --out @/o "
#define RUN_EXPORT "export --posterior @/guarded --out @/o "
#define RUN_BENCH "bench --posterior @/posterior --data @/test.jsonl --json --repeats 1 "
#define QUIET "--quiet "
#define MAP "--methods map --quiet "

typedef enum setting { BERT, WORDS, CAUSAL, NUMBERS, PLACES } setting; /* where a line is run */

typedef struct effect {
    const char *command, *option;
    setting at;
    const char *without, *with; /* two lines that differ by the option */
    const char *piece; /* in what the second says, not in the first; NULL: any difference */
    const char *input;
} effect;

static char folders[PLACES][512];

/* The second line does something else than the first; or says the piece, which the first does not.
 */
#define ALTERS(command, option, at, without, with)                                                 \
    { command, option, at, without, with, NULL, NULL }
#define SAYS(command, option, at, without, with, piece)                                            \
    { command, option, at, without, with, piece, NULL }
#define SAYS_ON_INPUT(command, option, at, without, with, piece, input)                            \
    { command, option, at, without, with, piece, input }

static const effect effects[] = {
    ALTERS("fit", "base", BERT, RUN_FIT QUIET,
           "fit --base @/nothing --adapter @/adapter --data @/calib.jsonl --out @/o --quiet"),
    ALTERS("fit", "adapter", BERT, RUN_FIT QUIET,
           "fit --base @/base --adapter @/nothing --data @/calib.jsonl --out @/o --quiet"),
    ALTERS("fit", "data", BERT, RUN_FIT QUIET,
           "fit --base @/base --adapter @/adapter --data @/test.jsonl --out @/o --quiet"),
    ALTERS("fit", "out", BERT, RUN_FIT QUIET,
           "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/elsewhere --quiet"),
    ALTERS("fit", "val", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--val @/val.jsonl"),
    ALTERS("fit", "heldout", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--heldout"),
    ALTERS("fit", "keep-answers", BERT, RUN_FIT QUIET "--val @/val.jsonl",
           RUN_FIT QUIET "--val @/val.jsonl --keep-answers"),
    ALTERS("fit", "predict-cost", BERT, RUN_FIT QUIET "--val @/val.jsonl",
           RUN_FIT QUIET "--val @/val.jsonl --predict-cost forward"),
    ALTERS("fit", "select", BERT, RUN_FIT QUIET "--val @/val.jsonl",
           RUN_FIT QUIET "--val @/val.jsonl --select none"),
    ALTERS("fit", "prior", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--prior 3"),
    ALTERS("fit", "curvature", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--curvature diag"),
    ALTERS("fit", "kron", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--kron reduce"),
    ALTERS("fit", "rank", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--rank 1"),
    ALTERS("fit", "params", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--params lora+head"),
    ALTERS("fit", "noise", NUMBERS, RUN_FIT QUIET, RUN_FIT QUIET "--noise 2"),
    ALTERS("fit", "adue", BERT, RUN_FIT QUIET "--val @/val.jsonl",
           RUN_FIT QUIET "--val @/val.jsonl --adue"),
    ALTERS("fit", "ood", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--ood"),
    ALTERS("fit", "shard", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--shard 1/2"),
    SAYS("fit", "checkpoint", BERT, RUN_FIT, RUN_FIT "--checkpoint @/calib.jsonl",
         "would replace --data"),
    SAYS("fit", "checkpoint-every", BERT, RUN_FIT "--checkpoint @/ck --resume",
         RUN_FIT "--checkpoint @/ck --checkpoint-every 0 --resume", "--checkpoint-every"),
    SAYS("fit", "resume", BERT, RUN_FIT "--checkpoint @/ck", RUN_FIT "--checkpoint @/ck --resume",
         "starts from the beginning"),
    ALTERS("fit", "basis", BERT, RUN_FIT QUIET "--curvature ekfac --shard 1/2",
           RUN_FIT QUIET "--curvature ekfac --shard 1/2 --basis @/posterior"),
    SAYS("fit", "json", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--json", "laplora.fit/1"),
    ALTERS("fit", "choices", CAUSAL, RUN_FIT QUIET "--choices good,bad,film",
           RUN_FIT QUIET "--choices bad,good,film"),
    ALTERS("fit", "choice-ids", CAUSAL, RUN_FIT QUIET "--choice-ids 4,5,6",
           RUN_FIT QUIET "--choice-ids 5,4,6"),
    ALTERS("fit", "template", CAUSAL, RUN_FIT QUIET "--choice-ids 4,5,6",
           RUN_FIT QUIET "--choice-ids 4,5,6 --template @/t.txt"),
    ALTERS("fit", "text-field", WORDS, RUN_FIT QUIET, RUN_FIT QUIET "--text-field other"),
    ALTERS("fit", "pair-field", WORDS, RUN_FIT QUIET, RUN_FIT QUIET "--pair-field other"),
    ALTERS("fit", "max-length", WORDS, RUN_FIT QUIET, RUN_FIT QUIET "--max-length 3"),
    ALTERS("fit", "label-field", WORDS, RUN_FIT QUIET, RUN_FIT QUIET "--label-field second"),
    ALTERS("fit", "labels", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--labels a,b,c"),
    ALTERS("fit", "adapter-name", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--adapter-name default"),
    ALTERS("fit", "base-quant", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--base-quant int8"),
    SAYS("fit", "device", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--device cuda", "--device cuda"),
    SAYS("fit", "precision", BERT, RUN_FIT QUIET, RUN_FIT QUIET "--precision tf32", "tf32"),
    SAYS("fit", "threads", BERT, RUN_FIT QUIET "--json --threads 1",
         RUN_FIT QUIET "--json --threads 2", "\"threads\":2"),
    SAYS("fit", "batch-tokens", BERT, RUN_FIT "--verbose", RUN_FIT "--verbose --batch-tokens 77",
         "batches of 77 tokens"),
    SAYS("fit", "verbose", BERT, RUN_FIT, RUN_FIT "--verbose", "note: plan for"),
    SAYS("fit", "quiet", BERT, RUN_FIT QUIET, RUN_FIT, "log likelihood"),
    ALTERS("merge", "out", BERT, RUN_MERGE QUIET, PARTS "--out @/elsewhere --quiet"),
    ALTERS("merge", "base", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--base @/nothing"),
    ALTERS("merge", "adapter", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--adapter @/nothing"),
    SAYS("merge", "data", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--data @/test.jsonl",
         "its 10 rows are not"),
    SAYS("merge", "basis", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--basis @/posterior",
         "another --basis"),
    ALTERS("merge", "val", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--val @/val.jsonl"),
    ALTERS("merge", "heldout", BERT, RUN_MERGE QUIET "--data @/calib.jsonl",
           RUN_MERGE QUIET "--data @/calib.jsonl --heldout"),
    ALTERS("merge", "keep-answers", BERT, RUN_MERGE QUIET "--val @/val.jsonl",
           RUN_MERGE QUIET "--val @/val.jsonl --keep-answers"),
    ALTERS("merge", "predict-cost", BERT, RUN_MERGE QUIET "--val @/val.jsonl",
           RUN_MERGE QUIET "--val @/val.jsonl --predict-cost forward"),
    ALTERS("merge", "select", BERT, RUN_MERGE QUIET "--val @/val.jsonl",
           RUN_MERGE QUIET "--val @/val.jsonl --select none"),
    ALTERS("merge", "prior", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--prior 3"),
    SAYS("merge", "noise", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--noise 2", "noise"),
    ALTERS("merge", "adue", BERT, RUN_MERGE QUIET "--data @/calib.jsonl --val @/val.jsonl",
           RUN_MERGE QUIET "--data @/calib.jsonl --val @/val.jsonl --adue"),
    ALTERS("merge", "ood", BERT, RUN_MERGE QUIET "--data @/calib.jsonl",
           RUN_MERGE QUIET "--data @/calib.jsonl --ood"),
    SAYS("merge", "json", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--json", "laplora.merge/1"),
    ALTERS("merge", "text-field", WORDS, RUN_MERGE QUIET "--val @/calib.jsonl",
           RUN_MERGE QUIET "--val @/calib.jsonl --text-field other"),
    ALTERS("merge", "pair-field", WORDS, RUN_MERGE QUIET "--val @/calib.jsonl",
           RUN_MERGE QUIET "--val @/calib.jsonl --pair-field other"),
    SAYS("merge", "max-length", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--max-length 3",
         "leave --max-length out"),
    SAYS("merge", "label-field", BERT, RUN_MERGE QUIET "--val @/val.jsonl",
         RUN_MERGE QUIET "--val @/val.jsonl --label-field second", "second"),
    ALTERS("merge", "labels", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--labels a,b,c"),
    ALTERS("merge", "adapter-name", BERT, RUN_MERGE QUIET,
           RUN_MERGE QUIET "--adapter-name default"),
    SAYS("merge", "base-quant", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--base-quant int8",
         "--base-quant none, not int8"),
    SAYS("merge", "device", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--device cuda",
         "--device cuda"),
    SAYS("merge", "precision", BERT, RUN_MERGE QUIET, RUN_MERGE QUIET "--precision tf32", "tf32"),
    SAYS("merge", "threads", BERT, RUN_MERGE QUIET "--json --threads 1",
         RUN_MERGE QUIET "--json --threads 2", "\"threads\":2"),
    SAYS("merge", "batch-tokens", BERT, RUN_MERGE "--verbose",
         RUN_MERGE "--verbose --batch-tokens 77", "batches of 77 tokens"),
    SAYS("merge", "verbose", BERT, RUN_MERGE, RUN_MERGE "--verbose", "note: plan for"),
    SAYS("merge", "quiet", BERT, RUN_MERGE QUIET, RUN_MERGE, "log likelihood"),
    ALTERS("predict", "posterior", BERT, RUN_PREDICT QUIET,
           "predict --posterior @/guarded --data @/test.jsonl --out @/o --quiet"),
    ALTERS("predict", "data", BERT, RUN_PREDICT QUIET,
           "predict --posterior @/posterior --data @/calib.jsonl --out @/o --quiet"),
    SAYS_ON_INPUT("predict", "stdin", BERT, "predict --posterior @/posterior --quiet",
                  "predict --posterior @/posterior --quiet --stdin", "\"index\":0",
                  "{\"input_ids\":[5,6]}\n"),
    ALTERS("predict", "out", BERT, RUN_PREDICT QUIET,
           "predict --posterior @/posterior --data @/test.jsonl --quiet"),
    ALTERS("predict", "format", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--format csv"),
    ALTERS("predict", "base", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--base @/nothing"),
    ALTERS("predict", "adapter", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--adapter @/nothing"),
    ALTERS("predict", "predictive", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--predictive map"),
    ALTERS("predict", "samples", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--samples 10"),
    ALTERS("predict", "seed", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--seed 7"),
    ALTERS("predict", "id-field", WORDS, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--id-field second"),
    ALTERS("predict", "emit", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--emit cov"),
    SAYS("predict", "threshold", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--threshold @/limit",
         "\"action\":"),
    SAYS("predict", "keep", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--keep label,none",
         "\"none\":null"),
    ALTERS("predict", "class-shares", BERT, RUN_PREDICT QUIET,
           RUN_PREDICT QUIET "--class-shares 0.6,0.3,0.1"),
    SAYS("predict", "flat", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--flat", "--flat"),
    ALTERS("predict", "skip-bad", BERT,
           "predict --posterior @/posterior --data @/bad.jsonl --out @/o --quiet",
           "predict --posterior @/posterior --data @/bad.jsonl --out @/o --quiet --skip-bad"),
    SAYS("predict", "json", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--json",
         "laplora.predict/1"),
    ALTERS("predict", "text-field", WORDS, RUN_PREDICT QUIET,
           RUN_PREDICT QUIET "--text-field other"),
    ALTERS("predict", "pair-field", WORDS, RUN_PREDICT QUIET,
           RUN_PREDICT QUIET "--pair-field other"),
    ALTERS("predict", "max-length", WORDS, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--max-length 3"),
    ALTERS("predict", "label-field", WORDS, RUN_PREDICT QUIET,
           RUN_PREDICT QUIET "--label-field second"),
    ALTERS("predict", "labels", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--labels a,b,c"),
    ALTERS("predict", "adapter-name", BERT, RUN_PREDICT QUIET,
           RUN_PREDICT QUIET "--adapter-name none"),
    ALTERS("predict", "base-quant", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--base-quant int8"),
    SAYS("predict", "device", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--device cuda",
         "--device"),
    SAYS("predict", "precision", BERT, RUN_PREDICT QUIET, RUN_PREDICT QUIET "--precision tf32",
         "tf32"),
    SAYS("predict", "batch-tokens", BERT, RUN_PREDICT "--verbose",
         RUN_PREDICT "--verbose --batch-tokens 77", "batches of 77 tokens"),
    SAYS("predict", "verbose", BERT, RUN_PREDICT, RUN_PREDICT "--verbose", "note: plan for"),
    SAYS("predict", "quiet", BERT, RUN_PREDICT QUIET, RUN_PREDICT, "of loading"),
    ALTERS("report", "format", BERT, RUN_REPORT, RUN_REPORT "--format html"),
    ALTERS("report", "json", BERT, RUN_REPORT, RUN_REPORT "--json"),
    SAYS("report", "against", BERT, "report @/p.jsonl", "report @/p.jsonl --against @/p.jsonl",
         "against  "),
    SAYS("report", "by", BERT, "report @/p.jsonl", "report @/p.jsonl --by label", "by label"),
    SAYS("report", "summary", BERT, "report @/p.jsonl", "report @/p.jsonl --summary github",
         "GITHUB_STEP_SUMMARY"),
    ALTERS("report", "write", BERT, "report @/p.jsonl", "report @/p.jsonl --write gitlab=@/o"),
    ALTERS("report", "out", BERT, RUN_REPORT, "report @/p.jsonl"),
    ALTERS("report", "labels", BERT, "report @/sets.jsonl --json --out @/o",
           "report @/sets.jsonl --json --out @/o --labels a,b"),
    ALTERS("report", "threshold", BERT, RUN_REPORT "--format html",
           RUN_REPORT "--format html --threshold @/limit.json"),
    SAYS("report", "max", BERT, RUN_REPORT, RUN_REPORT "--max nll=0", "gate failed"),
    SAYS("report", "min", BERT, RUN_REPORT, RUN_REPORT "--min accuracy=2", "gate failed"),
    ALTERS("report", "baseline", BERT, RUN_REPORT "--max-regression nll=1",
           RUN_REPORT "--max-regression nll=1 --baseline @/report.json"),
    SAYS("report", "max-regression", BERT, RUN_REPORT "--baseline @/report.json",
         RUN_REPORT "--baseline @/report.json --max-regression nll=-9", "gate failed"),
    SAYS("report", "min-samples", BERT, RUN_REPORT, RUN_REPORT "--min-samples 1000", "gate failed"),
    SAYS("report", "quiet", BERT, RUN_REPORT "--max nll=0 --quiet", RUN_REPORT "--max nll=0",
         "gate failed"),
    ALTERS("threshold", "target-error", BERT, RUN_THRESHOLD,
           "threshold @/scored.jsonl --out @/o --target-error 0.3"),
    ALTERS("threshold", "delta", BERT, RUN_THRESHOLD, RUN_THRESHOLD "--delta 0.5"),
    ALTERS("threshold", "cost-error", BERT, RUN_COST,
           "threshold @/scored.jsonl --out @/o --cost-error 9 --cost-review 1"),
    ALTERS("threshold", "cost-review", BERT, RUN_COST,
           "threshold @/scored.jsonl --out @/o --cost-error 3 --cost-review 2"),
    ALTERS("threshold", "score", BERT, RUN_THRESHOLD, RUN_THRESHOLD "--score ood"),
    ALTERS("threshold", "ood-limit", BERT, RUN_THRESHOLD "--score confidence+ood",
           RUN_THRESHOLD "--score confidence+ood --ood-limit 0.5"),
    ALTERS("threshold", "by-class", BERT, RUN_THRESHOLD, RUN_THRESHOLD "--by-class"),
    SAYS("threshold", "min-coverage", BERT, RUN_THRESHOLD, RUN_THRESHOLD "--min-coverage 1",
         "is below --min-coverage"),
    ALTERS("threshold", "out", BERT, RUN_THRESHOLD, "threshold @/scored.jsonl --target-error 0.2"),
    ALTERS("threshold", "json", BERT, RUN_THRESHOLD, RUN_THRESHOLD "--json"),
    ALTERS("threshold", "quiet", BERT, RUN_THRESHOLD, RUN_THRESHOLD "--quiet"),
    ALTERS("drift", "reference", BERT, RUN_DRIFT,
           "drift --reference @/moved.jsonl --current @/moved.jsonl --out @/o"),
    ALTERS("drift", "current", BERT, RUN_DRIFT,
           "drift --reference @/scored.jsonl --current @/scored.jsonl --out @/o"),
    ALTERS("drift", "alpha", BERT, RUN_DRIFT, RUN_DRIFT "--alpha 0.5"),
    ALTERS("drift", "follow", BERT, RUN_STREAM, RUN_STREAM "--follow"),
    ALTERS("drift", "format", BERT, RUN_DRIFT, RUN_DRIFT "--format markdown"),
    ALTERS("drift", "json", BERT, RUN_DRIFT, RUN_DRIFT "--json"),
    ALTERS("drift", "out", BERT, RUN_DRIFT, RUN_STREAM),
    ALTERS("drift", "seed", BERT, RUN_STREAM "--follow", RUN_STREAM "--follow --seed 3"),
    SAYS("drift", "quiet", BERT, RUN_MODELS "--quiet", RUN_MODELS, "two models"),
    SAYS("info", "json", BERT, "info @/adapter", "info @/adapter --json", "{\"path\""),
    SAYS("info", "all", BERT, "info @/posterior", "info @/posterior --all", "output_eigenvalues"),
    SAYS("info", "quiet", BERT, "info @/still --quiet", "info @/still", "lora_alpha is 0"),
    ALTERS("tokenize", "base", WORDS, RUN_TOKENIZE,
           "tokenize --base @/nothing --data @/fields.jsonl --out @/o"),
    SAYS("tokenize", "quiet", WORDS, RUN_TOKENIZE QUIET "--adapter @/lower",
         RUN_TOKENIZE "--adapter @/lower", "gives other ids"),
    ALTERS("tokenize", "adapter", WORDS, RUN_TOKENIZE, RUN_TOKENIZE "--adapter @/lower"),
    ALTERS("tokenize", "adapter-name", WORDS, RUN_TOKENIZE "--adapter @/lower",
           RUN_TOKENIZE "--adapter @/lower --adapter-name other"),
    ALTERS("tokenize", "data", WORDS, RUN_TOKENIZE,
           "tokenize --base @/base --data @/nothing --out @/o"),
    ALTERS("tokenize", "out", WORDS, RUN_TOKENIZE, "tokenize --base @/base --data @/fields.jsonl"),
    ALTERS("tokenize", "text-field", WORDS, RUN_TOKENIZE, RUN_TOKENIZE "--text-field other"),
    ALTERS("tokenize", "pair-field", WORDS, RUN_TOKENIZE, RUN_TOKENIZE "--pair-field other"),
    ALTERS("tokenize", "max-length", WORDS, RUN_TOKENIZE, RUN_TOKENIZE "--max-length 3"),
    SAYS("bench", "posterior", BERT, RUN_BENCH QUIET,
         "bench --posterior @/guarded --data @/test.jsonl --json --repeats 1 --quiet", "guarded"),
    SAYS("bench", "data", BERT, RUN_BENCH QUIET,
         "bench --posterior @/posterior --data @/calib.jsonl --json --repeats 1 --quiet",
         "calib.jsonl"),
    SAYS("bench", "against", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--against @/bench.json",
         "\"against\""),
    SAYS("bench", "repeats", BERT, RUN_BENCH QUIET,
         "bench --posterior @/posterior --data @/test.jsonl --json --repeats 2 --quiet",
         "\"repeats\": 2,"),
    SAYS("bench", "rows", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--rows 3", "\"n_rows\": 3,"),
    SAYS("bench", "samples", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--samples 7",
         "\"samples\": 7,"),
    SAYS("bench", "base", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--base @/nothing", "nothing"),
    SAYS("bench", "adapter", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--adapter @/nothing",
         "nothing"),
    SAYS("bench", "out", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--out @/o", "in the file:"),
    SAYS("bench", "json", BERT, "bench --posterior @/posterior --data @/test.jsonl --quiet",
         RUN_BENCH QUIET, "laplora.bench/1"),
    SAYS("bench", "text-field", WORDS, RUN_BENCH QUIET, RUN_BENCH QUIET "--text-field none",
         "none"),
    SAYS("bench", "pair-field", WORDS, RUN_BENCH QUIET "--text-field text",
         RUN_BENCH QUIET "--text-field text --pair-field none", "none"),
    SAYS("bench", "max-length", WORDS, RUN_BENCH QUIET, RUN_BENCH QUIET "--max-length 3",
         "\"longest\": 3,"),
    SAYS("bench", "label-field", WORDS, RUN_BENCH QUIET, RUN_BENCH QUIET "--label-field second",
         "--label-field"),
    SAYS("bench", "labels", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--labels a", "--labels"),
    SAYS("bench", "adapter-name", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--adapter-name none",
         "none"),
    SAYS("bench", "base-quant", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--base-quant int8",
         "--base-quant none, not int8"),
    SAYS("bench", "device", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--device cuda",
         "--device cuda"),
    SAYS("bench", "precision", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--precision tf32", "tf32"),
    SAYS("bench", "threads", BERT, RUN_BENCH QUIET "--threads 1", RUN_BENCH QUIET "--threads 2",
         "\"threads\": 2,"),
    SAYS("bench", "batch-tokens", BERT, RUN_BENCH QUIET, RUN_BENCH QUIET "--batch-tokens 77",
         "\"batch_tokens\": 77,"),
    SAYS("bench", "verbose", BERT, RUN_BENCH, RUN_BENCH "--verbose", "note: plan for"),
    SAYS("bench", "quiet", BERT,
         "bench --posterior @/posterior --data @/test.jsonl --repeats 1 --out @/o --quiet",
         "bench --posterior @/posterior --data @/test.jsonl --repeats 1 --out @/o", "medians of"),
    ALTERS("compare", "base", BERT, RUN_COMPARE MAP,
           "compare --base @/nothing --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl "
           "--json " MAP),
    ALTERS("compare", "adapter", BERT, RUN_COMPARE "--quiet --methods ensemble",
           RUN_COMPARE "--quiet --methods ensemble --adapter @/still"),
    ALTERS("compare", "calib", BERT, RUN_COMPARE MAP,
           "compare --base @/base --adapter @/adapter --calib @/nothing --test @/test.jsonl "
           "--json " MAP),
    ALTERS("compare", "test", BERT, RUN_COMPARE MAP,
           "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/calib.jsonl "
           "--json " MAP),
    SAYS("compare", "val", BERT, RUN_COMPARE "--quiet --methods kron",
         RUN_COMPARE "--quiet --methods kron --val @/val.jsonl", "held-out"),
    ALTERS("compare", "ood", BERT, RUN_COMPARE MAP, RUN_COMPARE MAP "--ood @/val.jsonl"),
    ALTERS("compare", "methods", BERT, RUN_COMPARE MAP, RUN_COMPARE "--quiet --methods entropy"),
    SAYS("compare", "curvature", BERT, RUN_COMPARE "--quiet --methods guard --val @/val.jsonl",
         RUN_COMPARE "--quiet --methods guard --val @/val.jsonl --curvature diag", "diag"),
    ALTERS("compare", "kron", BERT, RUN_COMPARE "--quiet --methods kron",
           RUN_COMPARE "--quiet --methods kron --kron reduce"),
    ALTERS("compare", "samples", BERT,
           "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl "
           "--json "
           "--quiet --methods kron",
           RUN_COMPARE "--quiet --methods kron"),
    ALTERS("compare", "seed", BERT, RUN_COMPARE "--quiet --methods kron",
           RUN_COMPARE "--quiet --methods kron --seed 5"),
    SAYS("compare", "format", BERT,
         "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl " MAP,
         "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl "
         "--format markdown " MAP,
         "|---"),
    SAYS("compare", "json", BERT,
         "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl " MAP,
         RUN_COMPARE MAP, "{\"schema\""),
    SAYS("compare", "out", BERT, RUN_COMPARE MAP, RUN_COMPARE MAP "--out @/o", "in the file:"),
    ALTERS("compare", "choices", CAUSAL, RUN_COMPARE MAP "--choices good,bad,film",
           RUN_COMPARE MAP "--choices bad,good,film"),
    ALTERS("compare", "choice-ids", CAUSAL, RUN_COMPARE MAP "--choice-ids 4,5,6",
           RUN_COMPARE MAP "--choice-ids 5,4,6"),
    ALTERS("compare", "template", CAUSAL, RUN_COMPARE MAP "--choice-ids 4,5,6",
           RUN_COMPARE MAP "--choice-ids 4,5,6 --template @/t.txt"),
    ALTERS("compare", "text-field", WORDS, RUN_COMPARE MAP, RUN_COMPARE MAP "--text-field other"),
    ALTERS("compare", "pair-field", WORDS, RUN_COMPARE MAP, RUN_COMPARE MAP "--pair-field other"),
    ALTERS("compare", "max-length", WORDS, RUN_COMPARE MAP, RUN_COMPARE MAP "--max-length 3"),
    ALTERS("compare", "label-field", WORDS, RUN_COMPARE MAP,
           RUN_COMPARE MAP "--label-field second"),
    SAYS("compare", "labels", BERT, RUN_COMPARE MAP, RUN_COMPARE MAP "--labels a,b", "--labels"),
    ALTERS("compare", "adapter-name", BERT, RUN_COMPARE MAP, RUN_COMPARE MAP "--adapter-name none"),
    ALTERS("compare", "base-quant", BERT, RUN_COMPARE MAP, RUN_COMPARE MAP "--base-quant int8"),
    SAYS("compare", "device", BERT, RUN_COMPARE MAP, RUN_COMPARE MAP "--device cuda", "--device"),
    SAYS("compare", "precision", BERT, RUN_COMPARE MAP, RUN_COMPARE MAP "--precision tf32", "tf32"),
    SAYS("compare", "batch-tokens", BERT, RUN_COMPARE "--methods map --verbose",
         RUN_COMPARE "--methods map --verbose --batch-tokens 77", "batches of 77 tokens"),
    SAYS("compare", "verbose", BERT, RUN_COMPARE "--methods map",
         RUN_COMPARE "--methods map --verbose", "note: plan for"),
    ALTERS("export", "posterior", BERT, RUN_EXPORT "--to json",
           "export --to json --posterior @/posterior --out @/o"),
    SAYS("export", "to", BERT, RUN_EXPORT "--to json", RUN_EXPORT "--to vllm", "logit_sigma"),
    SAYS("export", "threshold", BERT, RUN_EXPORT "--to json",
         RUN_EXPORT "--to json --threshold @/threshold.json", "laplora.threshold/1"),
    SAYS("export", "out", BERT, "export --posterior @/guarded --to json", RUN_EXPORT "--to json",
         "in the file:"),
    SAYS("export", "quiet", BERT, RUN_EXPORT "--to vllm --quiet", RUN_EXPORT "--to vllm",
         "not expressed"),
    SAYS("compare", "quiet", BERT, RUN_STILL MAP, RUN_STILL "--methods map", "lora_alpha is 0"),
    ALTERS("diff", "predictions", BERT, RUN_DIFF, RUN_DIFF "--predictions @/p.jsonl @/p.jsonl"),
    SAYS("diff", "format", BERT, RUN_DIFF, RUN_DIFF "--format markdown", "|---"),
    SAYS("diff", "json", BERT, RUN_DIFF, RUN_DIFF "--json", "laplora.diff/1"),
    SAYS("diff", "exit-code", BERT, RUN_DIFF, RUN_DIFF "--exit-code", "exit code 1"),
    SAYS("diff", "out", BERT, "diff @/adapter @/still --quiet", RUN_DIFF, "in the file:"),
    SAYS("diff", "quiet", BERT, RUN_DIFF, "diff @/adapter @/still --out @/o", "lora_alpha is 0"),
    ALTERS("refine", "posterior", BERT, RUN_REFINE QUIET,
           "refine --posterior @/guarded --data @/test.jsonl --out @/o --out-adapter @/new "
           "--epochs 1 --batch-rows 8 --quiet"),
    ALTERS("refine", "data", BERT, RUN_REFINE QUIET,
           "refine --posterior @/posterior --data @/calib.jsonl --out @/o --out-adapter @/new "
           "--epochs 1 --batch-rows 8 --quiet"),
    ALTERS("refine", "val", BERT, RUN_REFINE QUIET, RUN_REFINE QUIET "--val @/val.jsonl"),
    ALTERS("refine", "out", BERT, RUN_REFINE QUIET,
           "refine --posterior @/posterior --data @/test.jsonl --out @/elsewhere --out-adapter "
           "@/new --epochs 1 --batch-rows 8 --quiet"),
    ALTERS("refine", "out-adapter", BERT, RUN_REFINE QUIET, RUN_REFINE_TO("other") QUIET),
    ALTERS("refine", "base", BERT, RUN_REFINE QUIET, RUN_REFINE QUIET "--base @/nothing"),
    ALTERS("refine", "adapter", BERT, RUN_REFINE QUIET, RUN_REFINE QUIET "--adapter @/nothing"),
    ALTERS("refine", "method", BERT, RUN_REFINE QUIET, RUN_REFINE QUIET "--method adam"),
    ALTERS("refine", "epochs", BERT, RUN_REFINE QUIET,
           "refine --posterior @/posterior --data @/test.jsonl --out @/o --out-adapter @/new "
           "--epochs 2 --batch-rows 8 --quiet"),
    ALTERS("refine", "batch-rows", BERT, RUN_REFINE QUIET,
           "refine --posterior @/posterior --data @/test.jsonl --out @/o --out-adapter @/new "
           "--epochs 1 --batch-rows 4 --quiet"),
    ALTERS("refine", "learning-rate", BERT, RUN_REFINE QUIET,
           RUN_REFINE QUIET "--learning-rate 0.002"),
    ALTERS("refine", "seed", BERT, RUN_REFINE QUIET, RUN_REFINE QUIET "--seed 5"),
    SAYS("refine", "json", BERT, RUN_REFINE QUIET, RUN_REFINE QUIET "--json", "laplora.refine/1"),
    ALTERS("refine", "text-field", WORDS, RUN_REFINE QUIET, RUN_REFINE QUIET "--text-field other"),
    ALTERS("refine", "pair-field", WORDS, RUN_REFINE QUIET, RUN_REFINE QUIET "--pair-field other"),
    SAYS("refine", "max-length", WORDS, RUN_REFINE QUIET, RUN_REFINE QUIET "--max-length 3",
         "was fitted with --max-length"),
    ALTERS("refine", "label-field", WORDS, RUN_REFINE QUIET,
           RUN_REFINE QUIET "--label-field second"),
    ALTERS("refine", "labels", BERT, RUN_REFINE QUIET, RUN_REFINE QUIET "--labels a,b,c"),
    ALTERS("refine", "adapter-name", BERT, RUN_REFINE QUIET,
           RUN_REFINE QUIET "--adapter-name none"),
    ALTERS("refine", "base-quant", BERT, RUN_REFINE QUIET, RUN_REFINE QUIET "--base-quant int8"),
    SAYS("refine", "device", BERT, RUN_REFINE QUIET, RUN_REFINE QUIET "--device cuda", "--device"),
    SAYS("refine", "precision", BERT, RUN_REFINE QUIET, RUN_REFINE QUIET "--precision tf32",
         "tf32"),
    SAYS("refine", "threads", BERT, RUN_REFINE QUIET "--json",
         RUN_REFINE QUIET "--json --threads 1", "\"threads\":1}"),
    SAYS("refine", "batch-tokens", BERT, RUN_REFINE "--verbose",
         RUN_REFINE "--verbose --batch-tokens 77", "batches of 77 tokens"),
    SAYS("refine", "verbose", BERT, RUN_REFINE, RUN_REFINE "--verbose", "note: plan for"),
    SAYS("refine", "quiet", BERT, RUN_REFINE QUIET, RUN_REFINE, "nats from the old"),
    ALTERS("update", "posterior", BERT, RUN_UPDATE QUIET,
           "update --posterior @/guarded --data @/test.jsonl --out @/o --quiet"),
    ALTERS("update", "data", BERT, RUN_UPDATE QUIET,
           "update --posterior @/posterior --data @/calib.jsonl --out @/o --quiet"),
    SAYS("update", "remove", BERT, RUN_UPDATE QUIET,
         "update --posterior @/posterior --remove @/test.jsonl --out @/o --quiet",
         "is not among the rows of"),
    ALTERS("update", "out", BERT, RUN_UPDATE QUIET,
           "update --posterior @/posterior --data @/test.jsonl --out @/elsewhere --quiet"),
    ALTERS("update", "base", BERT, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--base @/nothing"),
    ALTERS("update", "adapter", BERT, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--adapter @/nothing"),
    ALTERS("update", "forget", BERT, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--forget 0.5"),
    ALTERS("update", "val", BERT, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--val @/val.jsonl"),
    SAYS("update", "json", BERT, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--json", "laplora.update/1"),
    ALTERS("update", "text-field", WORDS, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--text-field other"),
    ALTERS("update", "pair-field", WORDS, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--pair-field other"),
    SAYS("update", "max-length", WORDS, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--max-length 3",
         "was fitted with --max-length"),
    ALTERS("update", "label-field", WORDS, RUN_UPDATE QUIET,
           RUN_UPDATE QUIET "--label-field second"),
    ALTERS("update", "labels", BERT, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--labels a,b,c"),
    ALTERS("update", "adapter-name", BERT, RUN_UPDATE QUIET,
           RUN_UPDATE QUIET "--adapter-name none"),
    ALTERS("update", "base-quant", BERT, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--base-quant int8"),
    SAYS("update", "device", BERT, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--device cuda", "--device"),
    SAYS("update", "precision", BERT, RUN_UPDATE QUIET, RUN_UPDATE QUIET "--precision tf32",
         "tf32"),
    SAYS("update", "threads", BERT, RUN_UPDATE QUIET "--json",
         RUN_UPDATE QUIET "--json --threads 1", "\"threads\":1}"),
    SAYS("update", "batch-tokens", BERT, RUN_UPDATE "--verbose",
         RUN_UPDATE "--verbose --batch-tokens 77", "batches of 77 tokens"),
    SAYS("update", "verbose", BERT, RUN_UPDATE, RUN_UPDATE "--verbose", "note: plan for"),
    SAYS("update", "quiet", BERT, RUN_UPDATE QUIET, RUN_UPDATE, "log marginal likelihood"),
};
enum { EFFECTS = sizeof effects / sizeof *effects };

/* Options without an effect that a test could see: speed alone, or notes that these files do not
 * give. */
static const char *const unseen[][2] = {{"predict", "threads"}, {"compare", "threads"}};

/* @/lower: the adapter with a tokenizer of its own, and in @/lower/other another. */
static void other_tokenizers(const char *folder) {
    copy_folder(in_case(folder, "adapter"), in_case(folder, "lower"));
    mkdir(in_case(folder, "lower/other"), 0700);
    for (int i = 0; i < 2; i++) {
        const char *file = i ? "lower/other/tokenizer.json" : "lower/tokenizer.json";
        size_t length;
        char *json = read_file(in_case(folder, "base/tokenizer.json"), &length);
        write_file(in_case(folder, file), json, length);
        free(json);
        replace_text(&(fault){.file = file, .a = i ? "\"very\"" : "\"good\"", .b = "\"best\""},
                     folder);
    }
}

static void prepare(void) {
    static const char *const fixtures[PLACES] = {"bert", "bert", "llama", "bert-regression"};
    static const char fields[] =
        "{\"text\":\"a very good film\",\"other\":\"bad films\",\"label\":0,\"second\":2}\n"
        "{\"text\":\"a very bad film\",\"other\":\"good\",\"label\":1,\"second\":1}\n"
        "{\"text\":\"films\",\"other\":\"film a\",\"label\":2,\"second\":0}\n"
        "{\"text\":\"good good bad\",\"other\":\"very\",\"label\":0,\"second\":1}\n";
    setenv("LAPLORA_CUDA", "none", 1);
    for (int i = 0; i < PLACES; i++) {
        snprintf(folders[i], sizeof folders[i], "%s", open_case(fixtures[i]));
        const char *folder = folders[i];
        if (i == WORDS || i == CAUSAL)
            use_tokenizer(NULL, folder);
        for (int k = 0; k < 3 && i == WORDS; k++) {
            static const char *const names[] = {"calib.jsonl", "test.jsonl", "fields.jsonl"};
            write_file(in_case(folder, names[k]), fields, strlen(fields));
        }
        write_file(in_case(folder, "t.txt"), "very {text} film", 16);
        if (i == WORDS)
            other_tokenizers(folder);
    }
    const char *bert = folders[BERT];
    size_t length;
    char *rows = read_file(in_case(bert, "test.jsonl"), &length);
    write_file(in_case(bert, "val.jsonl"), rows, length);
    free(rows);
    static const char bad[] = "{\"input_ids\":[5,6]}\n{\"input_ids\":[-5,6]}\n";
    write_file(in_case(bert, "bad.jsonl"), bad, strlen(bad));
    /* errors are more frequent the lower the confidence is; another model, less sure */
    for (int moved = 0; moved < 2; moved++) {
        FILE *scored = fopen(in_case(bert, moved ? "moved.jsonl" : "scored.jsonl"), "w");
        for (int i = 0; i < 600; i++)
            fprintf(scored, "{\"label\":%d,\"prediction\":%d,\"confidence\":%.4f,\"ood\":%.4f%s}\n",
                    (i % 2 + (i % 10 < i / 100)) % 2, i % 2, 1 - i / (moved ? 1300.0 : 1500.0),
                    i % 7 / 7.0, moved ? ",\"model\":\"moved\"" : "");
        fclose(scored);
    }
    static const char limit[] = "{\"schema\":\"laplora.threshold/1\",\"score\":\"confidence\","
                                "\"accept\":\">=\",\"threshold\":0.5,\"provenance\":{}}";
    write_file(in_case(bert, "limit.json"), limit, strlen(limit));
    static const char sets[] = "{\"label\":[1],\"prediction\":[0],\"probs\":[0.75,0.25]}\n";
    write_file(in_case(bert, "sets.jsonl"), sets, strlen(sets));
    copy_folder(in_case(bert, "adapter"), in_case(bert, "still"));
    set_key(&(fault){.file = "still/adapter_config.json", .a = "lora_alpha", .b = "0"}, bert);
    static const char *const lines[] = {
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/posterior --quiet",
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/part1 --shard 1/2 "
        "--quiet",
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/part2 --shard 2/2 "
        "--quiet",
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/guarded --quiet "
        "--val @/val.jsonl",
        "predict --posterior @/posterior --data @/test.jsonl --out @/p.jsonl --quiet",
        "bench --posterior @/posterior --data @/test.jsonl --out @/bench.json --quiet",
        "threshold @/p.jsonl --target-error 0.9 --out @/limit --quiet",
        "report @/p.jsonl --json --out @/report.json",
        "threshold @/scored.jsonl --target-error 0.2 --out @/threshold.json --quiet"};
    enum { LINES = sizeof lines / sizeof *lines };
    for (int i = 0; i < LINES + 3; i++) { /* posterior and parts of words, too */
        command done = run_line(i < LINES ? bert : folders[WORDS], lines[i % LINES], NULL);
        if (done.code)
            fail_msg("%s: %s", lines[i % LINES], done.err);
        command_free(&done);
    }
}

/* Removes times from an output: the text behind the word, up to the next comma or end. */
static void drop_seconds(char *text) {
    for (char *at = text; (at = strstr(at, "seconds"));) {
        at += strlen("seconds");
        size_t length = strcspn(at, strncmp(at, "\":{", 3) ? ",}\n" : "}\n");
        memmove(at, at + length, strlen(at + length) + 1);
    }
}

/* Exit code, both streams and the file @/o, which was not there before. The caller frees. */
static char *observe(const effect *e, const char *line, size_t *length) {
    const char *folder = folders[e->at];
    remove(in_case(folder, "o"));
    remove(in_case(folder, "elsewhere"));
    command cleared = run_shell(folder, "rm -rf $D/new $D/other");
    command_free(&cleared);
    command done = run_line(folder, line, e->input);
    FILE *file = fopen(in_case(folder, "o"), "rb");
    char *all = NULL;
    FILE *to = open_memstream(&all, length);
    drop_seconds(done.out);
    fprintf(to, "exit code %d\n%s\n%s\n", done.code, done.out, done.err);
    if (file)
        fprintf(to, "in the file:\n");
    for (int c; file && (c = getc(file)) != EOF;)
        putc(c, to);
    if (file)
        fclose(file);
    fclose(to);
    command_free(&done);
    return all;
}

static int n_failed;

/* Result of a first line: many options are compared with the same one. */
typedef struct memory {
    const effect *effect;
    char *seen;
    size_t length;
    bool checked; /* run twice: what differs by itself shows nothing */
} memory;

static memory kept[EFFECTS];

static bool is_same_text(const char *a, const char *b) {
    return a == b || (a && b && !strcmp(a, b));
}

static memory *recall(const effect *e) {
    memory *m = kept;
    while (m->effect && (m->effect->at != e->at || !is_same_text(m->effect->without, e->without) ||
                         !is_same_text(m->effect->input, e->input)))
        m++;
    if (!m->effect) {
        m->effect = e;
        m->seen = observe(e, e->without, &m->length);
    }
    return m;
}

static void check_steady(const effect *e, memory *m) {
    size_t length;
    if (m->checked)
        return;
    m->checked = true;
    char *again = observe(e, e->without, &length);
    if (length != m->length || memcmp(again, m->seen, length))
        n_failed +=
            printf("ERROR: %s: two runs differ:\n%.900s\n%.900s\n", e->without, m->seen, again) > 0;
    free(again);
}

static void check_effect(const effect *e) {
    size_t length;
    memory *before = recall(e);
    if (!e->piece)
        check_steady(e, before);
    char *seen = observe(e, e->with, &length);
    bool same = length == before->length && !memcmp(before->seen, seen, length);
    if (e->piece ? strstr(before->seen, e->piece) || !strstr(seen, e->piece) : same)
        n_failed += printf("ERROR: %s --%s changes nothing:\n%.900s\n%.900s\n", e->command,
                           e->option, before->seen, seen) > 0;
    free(seen);
}

static void forget(void) {
    for (int i = 0; i < EFFECTS; i++)
        free(kept[i].seen);
}

static void check_option(const char *name, const char *option) {
    int found = 0;
    for (int i = 0; i < EFFECTS; i++) {
        if (strcmp(effects[i].command, name) || strcmp(effects[i].option, option))
            continue;
        check_effect(&effects[i]);
        found++;
    }
    for (size_t i = 0; i < sizeof unseen / sizeof *unseen; i++)
        found += !strcmp(unseen[i][0], name) && !strcmp(unseen[i][1], option);
    if (!found && strcmp(option, "help"))
        n_failed += printf("ERROR: %s --%s has no entry here that shows what it changes\n", name,
                           option) > 0;
}

static void check_command(const char *name) {
    for (int i = 0; i < EFFECTS; i++)
        if (!strcmp(effects[i].command, name))
            return;
    n_failed += printf("ERROR: %s has no entry here for any option\n", name) > 0;
}

static void listed_options(void **state) {
#define LA_COMMAND(name) #name,
    static const char *const commands[] = {
#include "cli/commands.def"
    };
    int n = 0;
    (void)state;
    prepare();
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        check_command(commands[i]);
        command done = run_command((const char *const[]){NULL, commands[i], "--help", NULL}, NULL);
        assert_int_equal(done.code, 0);
        assert_string_equal(done.err, "");
        for (char *at = done.out; (at = strstr(at, "\n  --"));) {
            char option[64];
            at += strlen("\n  --");
            snprintf(option, sizeof option, "%.*s", (int)strcspn(at, " \n"), at);
            check_option(commands[i], option);
            n++;
        }
        command_free(&done);
    }
    forget();
    printf("    %d options, %d pairs of lines\n", n, EFFECTS);
    assert_int_equal(n_failed, 0);
    assert_in_range(n, EFFECTS, EFFECTS + 16);
}

static void table_is_fresh(void **state) {
    const char *program = getenv("LAPLORA");
    command done = run_command((const char *const[]){"tests/generate/option_table",
                                                     program ? program : "build/laplora",
                                                     "src/cli/README.md", "--check", NULL},
                               NULL);
    (void)state;
    if (done.code)
        fail_msg("%s", done.err);
    command_free(&done);
}

/* ---- how options are read ---- */

static const fault faults[] = {
    {"a value given twice", 2, {"--adapter", "given twice"}, .command = FIT " --adapter @/second"},
    {"a number given twice",
     2,
     {"--threads", "given twice"},
     .command = FIT " --threads 1 --threads=2"},
    {"a choice given twice",
     2,
     {"--kron", "given twice"},
     .command = FIT " --kron reduce --kron reduce"},
    {"two adapters to predict",
     2,
     {"--adapter"},
     .command = PREDICT " --adapter @/a --adapter @/b"},
    {"a flag twice", 0, {NULL}, .command = FIT " --quiet --quiet"},
    {"an abbreviation", 2, {"--thr", "did you mean --threads?"}, .command = FIT " --thr 1"},
    {"letters exchanged", 2, {"--josn", "did you mean --json?"}, .command = FIT " --josn"},
    {"an option of others",
     2,
     {"--seed", "predict, drift, compare and refine"},
     .command = FIT " --seed 1"},
    {"ids in fit", 2, {"--id-field", "predict"}, .command = FIT " --id-field id"},
    {"json of tokenize",
     2,
     {"--json"},
     .command = "tokenize --base @/base --data @/calib.jsonl --json"},
    {"an empty value", 2, {"--labels", "empty"}, .command = FIT " --labels ''"},
    {"an empty value behind =", 2, {"--labels", "empty"}, .command = FIT " --labels="},
    {"an option for a value", 2, {"--labels", "--json"}, .command = FIT " --labels --json"},
    {"a value behind =", 0, {NULL}, .command = FIT " --threads=1"},
    {"a number with a blank", 2, {"--prior"}, .command = FIT " --prior=0x3"},
    {"a prior too large", 2, {"--prior"}, .command = FIT " --prior 1e999"},
    {"a command nearly", 2, {"\"ft\"", "did you mean fit?"}, .command = "ft --base @/base"},
    {"an option before the command", 2, {"--quiet"}, .command = "--quiet fit"},
    {"operands behind --", 3, {"--json: cannot be read"}, .command = "info -- --json"},
    {"kron of a diagonal", 2, {"--kron", "diag"}, .command = FIT " --curvature diag --kron reduce"},
    {"rank of a diagonal", 2, {"--rank", "diag"}, .command = FIT " --curvature diag --rank 3"},
    {"params of the last layer",
     2,
     {"--params", "last-layer"},
     .command = FIT " --curvature last-layer --params head"},
    {"quiet and verbose", 2, {"--verbose"}, .command = FIT " --verbose"},
    {"two formats", 2, {"--json", "html"}, .command = "report @/p.jsonl --json --format html"},
    {"a list with a hole", 2, {"--labels", "element 2 is empty"}, .command = FIT " --labels a,,b"},
    {"a list with an end", 2, {"--emit", "element 2 is empty"}, .command = PREDICT " --emit cov,"},
};

int main(void) {
    unsetenv("GITHUB_STEP_SUMMARY"); /* a step that runs this has its own */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listed_options),
        cmocka_unit_test(table_is_fresh),
    };
    int failed = run_faults("options", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("options that change something", tests, NULL, NULL);
}
