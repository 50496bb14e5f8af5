/* Drift between two sets of simulated rows. */
#ifndef LA_TESTS_MONITOR_DRIFT_SETS_H
#define LA_TESTS_MONITOR_DRIFT_SETS_H

#include "monitor/drift.h"
#include "support/support.h"

#include <stdlib.h>

/* Frees both lists. */
static inline la_drift drift_of_sets(const la_drift_rows *reference, const la_drift_rows *current,
                                     double alpha) {
    la_error err = {0};
    la_drift drift;
    assert_int_equal(la_drift_of((la_team){1}, reference, current, alpha, &drift, &err), LA_OK);
    free(reference->list);
    free(current->list);
    return drift;
}

#endif
