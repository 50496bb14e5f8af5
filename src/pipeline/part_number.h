/* The part of the rows that a process has to sum: --shard. */
#ifndef LA_PIPELINE_PART_NUMBER_H
#define LA_PIPELINE_PART_NUMBER_H

#include "base/error.h"

#include <stdint.h>

/* Part `number` of n, from 1. */
typedef struct la_part_number {
    int64_t number, n;
} la_part_number;

/* "I/N"; "auto": from the variables that Slurm, OpenMPI, PMI, torchrun or Kubernetes set for each
 * process; "auto/N": likewise where they do not say how many there are, or are held to it. Tasks of
 * a step within an array, or workers within an indexed job, are counted through. */
la_status la_part_number_parse(const char *text, la_part_number *part, la_error *err);

#endif
