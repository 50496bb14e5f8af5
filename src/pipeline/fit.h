/* Fits whose sums travel: to checkpoints, parts, other processes. */
#ifndef LA_PIPELINE_FIT_H
#define LA_PIPELINE_FIT_H

#include "laplora.h"
#include "pipeline/passes.h"

/* la_fit with carriers of its sums (NULL: none). They know the fit by its structure's posterior,
 * which has its provenance from the first moment on. Where one ends the fit, no file is written and
 * *summary is NULL. Where they bring all rows, options->data may be NULL: it is read for what looks
 * at rows again (cross-fitting, signs of trouble, error head, distances), must be the same rows,
 * and is not summed; the model, its base, adapter and tokenizer must be those of the rows. */
la_status la_fit_carried(const la_fit_options *options, la_carriers *carriers,
                         la_fit_summary **summary, la_error *err);

#endif
