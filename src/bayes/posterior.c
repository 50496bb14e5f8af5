#include "bayes/posterior.h"

void la_posterior_free(la_posterior *posterior) {
    la_labels_free(&posterior->labels);
    la_pool_free(&posterior->pool);
    *posterior = (la_posterior){0};
}
