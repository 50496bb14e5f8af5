#include "likelihood/likelihood.h"

#include <stdio.h>
#include <string.h>

static const la_likelihood *const likelihoods[] = {
#define LA_LIKELIHOOD(name) &la_##name##_likelihood,
#include "likelihood/likelihoods.def"
#undef LA_LIKELIHOOD
};
enum { LIKELIHOODS = sizeof likelihoods / sizeof *likelihoods };

const la_likelihood *la_likelihood_of_outputs(int64_t n_outputs) {
    for (int i = 0; i < LIKELIHOODS; i++)
        if (!likelihoods[i]->is_named && n_outputs >= likelihoods[i]->n_least &&
            n_outputs <= likelihoods[i]->n_most)
            return likelihoods[i];
    return NULL;
}

const la_likelihood *la_likelihood_of_problem(const char *problem) {
    for (int i = 0; i < LIKELIHOODS; i++)
        if (!strcmp(problem, likelihoods[i]->problem))
            return likelihoods[i];
    return NULL;
}

const la_likelihood *la_likelihood_of_task(const char *task) {
    for (int i = 0; i < LIKELIHOODS; i++) {
        const char *own = likelihoods[i]->task;
        if (own == task || (own && task && !strcmp(task, own)))
            return likelihoods[i];
    }
    return NULL;
}

const char *la_likelihood_problems(char *text, size_t size) {
    size_t at = 0;
    *text = '\0';
    for (int i = 0; i < LIKELIHOODS && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%s",
                               !i                     ? ""
                               : i == LIKELIHOODS - 1 ? " or "
                                                      : ", ",
                               likelihoods[i]->problem);
    return text;
}
