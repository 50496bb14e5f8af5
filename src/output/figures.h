/* JSON about a posterior for fit, info and export. Every number is finite or null. */
#ifndef LA_OUTPUT_FIGURES_H
#define LA_OUTPUT_FIGURES_H

#include "likelihood/selection.h"

#include <jansson.h>
#include <stdbool.h>

/* Choice of the guard and the figures of every method it chose from; null without held-out rows.
 * json_decref it, like the next. */
json_t *la_choice_json(const la_choice *choice, int64_t n_classes);
/* The classes that the chosen average corrects by a quarter of their odds or more, in words; the
 * names may be NULL. false: there are none, and text is empty. */
enum { LA_CORRECTED_TEXT = 512 };
bool la_choice_corrected(const la_choice *choice, int64_t n_classes, const char *const *names,
                         char text[LA_CORRECTED_TEXT]);
/* null where no error head was asked for */
json_t *la_adue_json(const la_adue_summary *adue);

#endif
