/* The summary of a GitHub step: Markdown behind what earlier commands of the step put there. */
#ifndef LA_PIPELINE_STEP_SUMMARY_H
#define LA_PIPELINE_STEP_SUMMARY_H

#include "base/error.h"

#include <stddef.h>

/* Bytes of a step's summary, beyond which GitHub takes none of it. */
enum { LA_STEP_SUMMARY_MOST = 1024 * 1024 };

/* Path that GITHUB_STEP_SUMMARY holds; LA_USAGE when it holds none. */
la_status la_step_summary_path(const char **path, la_error *err);
/* Appends text in one piece, or as many of its lines as the limit leaves space for, and a note. On
 * failure the file is as long as before. */
la_status la_step_summary_append(const char *path, const char *text, size_t length, la_error *err);

#endif
