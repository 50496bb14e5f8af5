#include "text/pretokenizer.h"

static void remove_matches(la_cuts *cuts) {
    size_t n = 0;
    for (size_t i = 0; i < cuts->n; i++)
        if (!cuts->data[i].match)
            cuts->data[n++] = cuts->data[i];
    cuts->n = n;
}

/* Neighbours of one kind become one; before the first cut there is no match. */
static void join_alike(la_cuts *cuts) {
    bool previous = false;
    size_t n = 0;
    for (size_t i = 0; i < cuts->n; i++) {
        la_cut cut = cuts->data[i];
        if (cut.match == previous && n)
            cuts->data[n - 1].to = cut.to;
        else
            cuts->data[n++] = cut;
        previous = cut.match;
    }
    cuts->n = n;
}

/* The first match of a run ends the piece before it. */
static void join_previous(la_cuts *cuts) {
    bool previous = false;
    size_t n = 0;
    for (size_t i = 0; i < cuts->n; i++) {
        la_cut cut = cuts->data[i];
        if (cut.match && !previous && n)
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
    for (size_t i = n; i < cuts->n; i++)
        cuts->data[i - n] = cuts->data[i];
    cuts->n -= n;
}

void la_behavior_apply(la_behavior behavior, la_cuts *cuts) {
    switch (behavior) {
    case LA_REMOVED:
        remove_matches(cuts);
        break;
    case LA_ISOLATED:
        break;
    case LA_MERGED_WITH_PREVIOUS:
        join_previous(cuts);
        break;
    case LA_MERGED_WITH_NEXT:
        join_next(cuts);
        break;
    case LA_CONTIGUOUS:
        join_alike(cuts);
        break;
    }
}
