/* Sums of a fit's passes in one piece of memory, laid out as in a checkpoint's file: so that they
 * can be written at any moment, by a signal handler too.
 *
 *   header     la_image_header, then the identity of the fit: lines "NAME\tVALUE\n", padded with
 *              zeros to a multiple of 8
 *   section    of each pass so far, in order: la_image_section, then its arrays: la_image_array and
 *              f64 [rows, cols]. All passes but the last are complete
 *   digest     8 bytes: XXH3 of all before (la_hash64), in the file alone
 *
 * Numbers are those of the machine that writes. */
#ifndef LA_PIPELINE_SUMS_IMAGE_H
#define LA_PIPELINE_SUMS_IMAGE_H

#include "pipeline/passes.h"

enum { LA_IMAGE_SECTIONS = 8, LA_IMAGE_MAGIC = 16 };
extern const char la_image_magic[LA_IMAGE_MAGIC];

typedef struct la_image_header {
    char magic[LA_IMAGE_MAGIC];
    uint64_t bytes; /* of the file, without the digest */
    uint64_t identity, sections;
} la_image_header;

typedef struct la_image_section {
    int64_t pass, at, to; /* sums of the rows before `at` of a pass that ends before row `to` */
    uint64_t bytes;       /* with this */
} la_image_section;

typedef struct la_image_array {
    char name[96];
    int64_t rows, cols;
} la_image_array;

typedef struct la_sums_image {
    char *bytes; /* [used], owned */
    size_t used, capacity;
    int n;                             /* sections */
    size_t section[LA_IMAGE_SECTIONS]; /* where each begins */
} la_sums_image;

/* Without sections. */
la_status la_image_begin(la_sums_image *image, const char *identity, la_error *err);
void la_image_free(la_sums_image *image);
/* The identity, not ended by a zero. */
const char *la_image_identity(const la_sums_image *image, size_t *length);
la_image_section la_image_section_of(const la_sums_image *image, int pass);
/* A section for the pass that begins. LA_RESOURCE where there is no memory for it. */
la_status la_image_add(la_sums_image *image, la_fit_state *fit, la_error *err);
/* The sums as they are now, into the pass's section. */
la_status la_image_put(la_sums_image *image, la_fit_state *fit, la_error *err);
/* The sums of the section become those of the fit, and its rows are done. LA_MISMATCH, LA_BAD_INPUT
 * where they are not such. */
la_status la_image_take(const la_sums_image *image, la_fit_state *fit, la_error *err);
/* Looks over `used` bytes that were read, the digest not among them; NULL, or what is wrong with
 * them. */
const char *la_image_check(la_sums_image *image);

#endif
