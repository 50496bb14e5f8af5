/* usage: seeds FOLDER: a small posterior of every structure, as laplora writes it. */
#include "output/posterior_file.h"
#include "support/tiny_posterior.h"

#include <stdio.h>

int main(int argc, char **argv) {
    char path[4096];
    for (int kind = 0; argc == 2 && kind < TINY_KINDS; kind++) {
        la_posterior p = tiny_posterior(kind);
        la_error err = {0};
        snprintf(path, sizeof path, "%s/%s.h5", argv[1], tiny_names[kind]);
        if (la_posterior_save(&p, path, &err) != LA_OK) {
            fprintf(stderr, "seeds: %s\n", err.message);
            return 1;
        }
        la_posterior_free(&p);
    }
    return argc != 2;
}
