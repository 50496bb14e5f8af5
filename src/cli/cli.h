/* What the commands share: notes, progress, exit codes. */
#ifndef LA_CLI_CLI_H
#define LA_CLI_CLI_H

#include "cli/options.h"

/* The log that prints notes and, on a terminal, a progress bar on stderr; silent with --quiet. */
la_log la_cli_log(const la_cli *cli);
/* Ends the progress bar's line. */
void la_cli_progress_end(void);
/* Prints an error, if there is one, and returns the exit code. */
int la_cli_exit(const la_error *err);
/* Options that rows and runs share. */
la_run_options la_cli_run_options(const la_cli *cli);
/* LA_USAGE when value is NULL. */
la_status la_cli_require(const char *command, const char *option, const char *value, la_error *err);
la_status la_cli_no_operands(const la_command *command, const la_cli *cli, la_error *err);

extern const la_command la_command_fit, la_command_predict, la_command_report, la_command_info,
    la_command_tokenize, la_command_compare;

#endif
