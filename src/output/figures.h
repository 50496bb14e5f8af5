/* JSON about a posterior for fit, info and export. Every number is finite or null. */
#ifndef LA_OUTPUT_FIGURES_H
#define LA_OUTPUT_FIGURES_H

#include "likelihood/selection.h"

#include <jansson.h>

/* Choice of the guard and the figures of every method it chose from; null without held-out rows.
 * json_decref it, like the next. */
json_t *la_choice_json(const la_choice *choice);
/* null where no error head was asked for */
json_t *la_adue_json(const la_adue_summary *adue);

#endif
