#include "input/wrappers.h"

#include <string.h>

/* True when the part of a key that begins at `at` is name. */
static bool is_part(const char *at, const char *name) {
    size_t n = strlen(name);
    return !strncmp(at, name, n) && at[n] == '.';
}

static void drop(char *at, size_t n) {
    memmove(at, at + n, strlen(at + n) + 1);
}

static const char *const anywhere[] = {"_orig_mod", "_fsdp_wrapped_module",
                                       "_checkpoint_wrapped_module"};

bool la_wrappers_strip(char *key, bool base) {
    static const char peft[] = "base_model.model.";
    const size_t n_peft = sizeof peft - 1, before = strlen(key);
    for (char *at = key; at; at = strchr(at, '.')) {
        at += *at == '.';
        for (size_t i = 0; i < sizeof anywhere / sizeof *anywhere; i++)
            while (is_part(at, anywhere[i]))
                drop(at, strlen(anywhere[i]) + 1);
        while (base && at != key && is_part(at, "base_layer"))
            drop(at, 11);
    }
    /* the beginning is taken off before the next is looked for */
    for (bool found = true; found;) {
        char *behind = strncmp(key, peft, n_peft) ? key : key + n_peft;
        found = true;
        if (is_part(key, "module"))
            drop(key, 7);
        else if (behind != key && is_part(behind, "module"))
            drop(behind, 7);
        else if (behind != key && (base || !strncmp(behind, peft, n_peft)))
            drop(key, n_peft);
        else
            found = false;
    }
    return strlen(key) != before;
}
