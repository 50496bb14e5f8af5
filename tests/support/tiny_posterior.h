/* Small posteriors of every structure with made-up numbers, for tests of their files. */
#ifndef LA_TESTS_TINY_POSTERIOR_H
#define LA_TESTS_TINY_POSTERIOR_H

#include "bayes/posterior.h"

enum {
    TINY_KRON,
    TINY_LOW_RANK,
    TINY_EKFAC,
    TINY_DIAG,
    TINY_EXACT,
    TINY_LAST_LAYER,
    TINY_REGRESSION,
    TINY_GUARDED, /* with all that is optional: settings, error head, labels, template, answer
                     tokens */
    TINY_MANY,    /* blocks: groups of more than one node */
    TINY_KINDS
};
extern const char *const tiny_names[TINY_KINDS];

/* Free with la_posterior_free; stops the program when there is no memory. */
la_posterior tiny_posterior(int kind);

/* Reads every value that a posterior says it holds: a checker of memory finds those that it does
 * not. */
double posterior_touch(const la_posterior *p);

#endif
