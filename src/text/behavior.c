#include "text/pretokenizer.h"

static void remove_matches(la_cuts *cuts) {
    size_t n = 0;
    for (size_t i = 0; i < cuts->n; i++)
        if (!cuts->data[i].match)
            cuts->data[n++] = cuts->data[i];
    cuts->n = n;
}

/* Joins a cut to the one before it: alike, neighbours of one kind (before the first there is no
 * match); else the first match of a run, which ends the piece before it. */
static void join_back(la_cuts *cuts, bool alike) {
    bool previous = false;
    size_t n = 0;
    for (size_t i = 0; i < cuts->n; i++) {
        la_cut cut = cuts->data[i];
        if (n && (alike ? cut.match == previous : cut.match && !previous))
            cuts->data[n - 1].to = cut.to;
        else
            cuts->data[n++] = cut;
        previous = cut.match;
    }
    cuts->n = n;
}

/* The last match of a run begins the piece after it. */
static void join_next(la_cuts *cuts) {
    bool previous = false;
    size_t n = cuts->n;
    for (size_t i = cuts->n; i-- > 0;) {
        la_cut cut = cuts->data[i];
        if (cut.match && !previous && n < cuts->n)
            cuts->data[n].from = cut.from;
        else
            cuts->data[--n] = cut;
        previous = cut.match;
    }
    cuts->n -= n;
    for (size_t i = 0; i < cuts->n; i++)
        cuts->data[i] = cuts->data[n + i];
}

void la_behavior_apply(la_behavior behavior, la_cuts *cuts) {
    switch (behavior) {
    case LA_REMOVED:
        remove_matches(cuts);
        break;
    case LA_ISOLATED:
        break;
    case LA_MERGED_WITH_PREVIOUS:
        join_back(cuts, false);
        break;
    case LA_MERGED_WITH_NEXT:
        join_next(cuts);
        break;
    case LA_CONTIGUOUS:
        join_back(cuts, true);
        break;
    }
}
