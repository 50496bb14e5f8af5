/* Checkpoints of a fit: `fit --checkpoint FILE [--checkpoint-every SECONDS] [--resume]`.
 *
 * A copy of the sums (sums_image.h) is kept beside them, made between batches, so seldom that it
 * takes at most a fiftieth of the time. It is written to FILE every so many seconds, when a pass
 * ends, and when a signal ends the process, by the handler where the work does not end by itself.
 * The file there before becomes FILE.1: each is whole or not there, and a crash of the machine
 * leaves one of them. The identity of the fit is part of it: all that its sums and its result
 * follow from, but paths, threads and held-out rows. */
#ifndef LA_PIPELINE_CHECKPOINT_H
#define LA_PIPELINE_CHECKPOINT_H

#include "pipeline/passes.h"

#define LA_CHECKPOINT_SECONDS 60.0

typedef struct la_fit_checkpoint la_fit_checkpoint;

typedef struct la_fit_checkpoint_options {
    const char *path;
    double seconds; /* between two; 0: LA_CHECKPOINT_SECONDS, or 50 times what one takes */
    bool resume;    /* go on with what is there, if there is anything */
    const la_fit_options *fit;
} la_fit_checkpoint_options;

/* The one checkpoint of the process; the options must stay. Nothing is written yet. LA_USAGE where
 * the path is a file of another kind; LA_BAD_INPUT where no generation is whole. */
la_status la_fit_checkpoint_open(const la_fit_checkpoint_options *options,
                                 la_fit_checkpoint **checkpoint, la_error *err);
/* LA_MISMATCH, when the first pass begins, for the checkpoint of another fit. */
la_carrier la_fit_checkpoint_carrier(la_fit_checkpoint *checkpoint);
/* After a fit: removes the files where it ended well; writes what is done where it was stopped or
 * lacked resources. NULL: nothing. */
void la_fit_checkpoint_close(la_fit_checkpoint *checkpoint, la_status fit);

#endif
