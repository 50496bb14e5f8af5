/* Shared by the commands: their list, options of several of them, notes, progress, exit codes. */
#ifndef LA_CLI_CLI_H
#define LA_CLI_CLI_H

#include "cli/options.h"
#include "pipeline/ranks.h"

#define LA_COMMAND(name) extern const la_command la_command_##name;
#include "cli/commands.def"
enum {
#define LA_COMMAND(name) LA_COMMAND_##name,
#include "cli/commands.def"
    LA_COMMANDS
};
extern const la_command *const la_commands[LA_COMMANDS];
/* The command whose name is like the one typed; NULL: none is. */
const char *la_command_near(const char *typed);

/* ---- options of several commands: one name, one meaning ---- */

/* The text of a row. */
typedef struct la_text_given {
    const char *text_field, *pair_field;
    int64_t max_length;
} la_text_given;

/* Options of reading and running rows. */
typedef struct la_run_given {
    la_text_given text;
    const char *device, *adapter_name, *label_field, *labels;
    int base_quant, precision;
    int64_t threads, batch_tokens;
    bool verbose;
} la_run_given;

/* The classes of a causal LM, and its prompt. */
typedef struct la_prompt_given {
    const char *choices, *choice_ids, *template_path;
} la_prompt_given;

/* The choice of a prior, by fit and merge: choosing.c. */
typedef struct la_choosing_given {
    const char *val;
    int select;
    la_number prior, noise;
    bool heldout, keep_answers, adue, ood;
    int predict_cost; /* index of a name; below 0: not given */
} la_choosing_given;

enum { LA_CHOOSING_ROWS = 9 };
extern const la_option la_choosing_rows[LA_CHOOSING_ROWS];
void la_cli_choose(const la_choosing_given *given, la_fit_options *fit);
/* LA_USAGE when any of them is given. */
la_status la_cli_check_unchosen(const la_choosing_given *given, la_error *err);

enum { LA_TEXT_ROWS = 3, LA_RUN_ROWS = 9, LA_PROMPT_ROWS = 3, LA_COMMON_ROWS = 2 };
extern const la_option la_text_rows[LA_TEXT_ROWS], la_run_rows[LA_RUN_ROWS],
    la_prompt_rows[LA_PROMPT_ROWS], la_common_rows[LA_COMMON_ROWS];

/* The groups of a command that reads and runs rows. `type` is its struct. */
#define LA_RUN_GROUPS(type)                                                                        \
    LA_GROUP(la_text_rows, offsetof(type, run.text)), LA_GROUP(la_run_rows, offsetof(type, run)),  \
        LA_GROUP(la_common_rows, offsetof(type, common))

la_run_options la_cli_run_options(const la_common *common, const la_run_given *given);
/* LA_USAGE for options that contradict each other. */
la_status la_cli_check_run(const la_common *common, const la_run_given *given, la_error *err);
/* LA_USAGE when value is NULL. */
la_status la_cli_require(const char *command, const char *option, const char *value, la_error *err);
/* Number of the format to write, of those named: --format, that named json with --json, else the
 * first one. given: of --format, below 0 without it. LA_USAGE when the two contradict each other.
 */
la_status la_cli_format(const char *const *names, int given, bool json, int *format, la_error *err);
la_status la_cli_no_operands(const la_command *command, const la_common *common, la_error *err);

/* ---- what fit and merge tell: cmd_fit.c ---- */

/* Every number finite or null. NULL: out of memory. */
struct json_t;
struct json_t *la_fit_summary_json(const la_fit_summary *summary, const char *schema);
/* A JSON object as a line on standard output; NULL: out of memory. Its reference is taken. */
la_status la_cli_print_object(struct json_t *root, la_error *err);
/* For people, on standard error. out: the file written. merged: of sums that were read. */
void la_fit_summary_print(const la_fit_summary *summary, const char *out, bool merged);

/* ---- what is said on standard error ---- */

/* The log that prints notes and, on a terminal, a progress bar on stderr; silent with --quiet. */
la_log la_cli_log(const la_common *common);
/* Ends the progress bar's line. */
void la_cli_progress_end(void);
/* Prints an error, if there is one, and returns the exit code. */
int la_cli_exit(const la_error *err);

/* ---- several processes: pipeline/ranks.h ---- */

/* Joins those that a launcher has started beside this one; all but the first keep silent. */
la_status la_cli_join(la_run_options *run, la_ranks *ranks, la_error *err);
/* la_cli_exit, for all of them. */
int la_cli_leave(const la_error *err);

#endif
