/* A posterior's confidence for what serves models without laplora: of each format what it can
 * express, the rest named on the log. */
#ifndef LA_OUTPUT_EXPORT_H
#define LA_OUTPUT_EXPORT_H

#include "bayes/posterior.h"

#include <jansson.h>

#include <stdio.h>

typedef struct la_export {
    const char *path; /* of the posterior */
    const la_posterior *posterior;
    char digest[LA_DIGEST_TEXT]; /* of its file */
    const json_t *threshold;     /* a threshold file's object; NULL: none was given */
    const la_log *log;
    /* filled by la_export_resolve: what predict executes by default, with scales that are factors
     * of the precisions stored, and the confidence_kind of its rows */
    la_recipe recipes[LA_SETTINGS_MOST];
    int64_t n_recipes;
    const char *kind;
} la_export;

/* LA_BAD_INPUT where the guard chose what the likelihood has not. */
la_status la_export_resolve(la_export *export, la_error *err);

/* LA_UNSUPPORTED where the format can express nothing of the posterior. Write errors are left to
 * the stream's error flag. */
typedef struct la_export_format {
    const char *name;
    la_status (*write)(const la_export *export, FILE *stream, la_error *err);
} la_export_format;

enum { LA_EXPORT_FORMATS = 2 };
extern const la_export_format la_export_formats[LA_EXPORT_FORMATS];

/* Temperature of softmax(f / T), or of sigmoid, that held-out rows chose: 1 where they chose the
 * MAP model. False: none did. */
bool la_export_temperature(const la_posterior *posterior, double *temperature);

la_status la_export_json(const la_export *export, FILE *stream, la_error *err);
la_status la_export_vllm(const la_export *export, FILE *stream, la_error *err);

#endif
