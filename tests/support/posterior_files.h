/* Posteriors in the folder of a case (faults.h), and damage to their attributes. An error fails the
 * test. */
#ifndef LA_TESTS_POSTERIOR_FILES_H
#define LA_TESTS_POSTERIOR_FILES_H

#include "bayes/posterior.h"
#include "support/support.h"

#include <hdf5.h>

/* la_posterior_free it. */
la_posterior case_load(const char *folder, const char *name);
void case_save(la_posterior *posterior, const char *folder, const char *name);

/* Attributes that are there. */
void set_number(hid_t group, const char *name, double value);
void set_count(hid_t group, const char *name, int64_t value);
void set_text(hid_t group, const char *name, const char *text);

#endif
