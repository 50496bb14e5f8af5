/* Quantised bases: weights that a checkpoint holds packed, in one of the formats of a table, and
 * weights packed here, as bitsandbytes would have done, while the base is opened. A new format
 * is one file and one row of the table in quantised.c. */
#ifndef LA_MODEL_QUANTISED_H
#define LA_MODEL_QUANTISED_H

#include "backend/quant.h"
#include "base/memory.h"
#include "model/tensor.h"

#include <jansson.h>

/* Packing of linear layers: that of a stored base, or that of --base-quant. "double": the scales
 * of the blocks are quantised too. */
typedef enum la_base_quant {
    LA_BASE_PLAIN,
    LA_BASE_NF4,
    LA_BASE_NF4_DOUBLE,
    LA_BASE_FP4,
    LA_BASE_FP4_DOUBLE,
    LA_BASE_INT8,
    LA_BASE_QUANTS
} la_base_quant;

extern const char *const la_base_quant_names[LA_BASE_QUANTS];
/* Codes of its weights; twice: with quantised scales. */
typedef struct la_base_quant_codes {
    la_quant_kind kind;
    bool twice;
} la_base_quant_codes;
extern const la_base_quant_codes la_base_quant_all[LA_BASE_QUANTS];
/* LA_USAGE unless the text is one of these names; NULL is LA_BASE_PLAIN. */
la_status la_base_quant_parse(const char *text, la_base_quant *quant, la_error *err);

/* *name of how the weights of linear layers are stored, from quantization_config of config.json
 * (path: for messages); NULL: plainly. LA_UNSUPPORTED, naming the method, unless a format has
 * it. */
la_status la_quantised_config(const json_t *config, const char *path, const char **name,
                              la_error *err);

/* A packed weight matrix, on the host: codes, or a tensor of floats that they were unpacked to. */
typedef struct la_packed la_packed;
struct la_packed {
    la_packed *next; /* for lists */
    la_quant quant;
    int64_t rows, cols;
    int64_t bytes, n_scales;
    la_tensor dense; /* data NULL: codes */
};

static inline la_mat la_packed_mat(la_packed *packed) {
    return la_mat_of(LA_CODES, &packed->quant, packed->rows, packed->cols);
}

/* A packed weight of a checkpoint and where its parts are. */
typedef struct la_packed_source {
    const la_checkpoint *base;
    const la_tensor *weight;
    la_error *err;
} la_packed_source;

/* A format that packed weights are stored in. */
typedef struct la_packed_format {
    const char *method; /* quant_method of quantization_config */
    /* Name of how the weights are stored, from quantization_config, which is of this method; NULL:
     * plainly. */
    la_status (*read_config)(const json_t *config, const char *path, const char **name,
                             la_error *err);
    /* True when a config without a quant_method is of this format; NULL: never. */
    bool (*implied)(const json_t *config);
    const char *leaf; /* name of the codes' tensor in its module; NULL: "weight" */
    /* True when the weight is of this format. */
    bool (*holds)(const la_packed_source *from);
    /* Parameters that the tensor stands for as a weight; as a part of one, 0; -1: it is neither. */
    int64_t (*parameters)(const la_packed_source *from);
    la_status (*read)(const la_packed_source *from, la_pool *pool, la_packed *packed);
    const char *const *parts; /* in names of tensors beside weights; ends with NULL */
} la_packed_format;

extern const la_packed_format *const la_packed_formats[]; /* ends with NULL */

/* The tensor MODULE.LEAF, or what stands for a weight in one of the formats; NULL: none. */
const la_tensor *la_packed_find(const la_checkpoint *base, const char *module, const char *leaf);
/* True when a weight of the checkpoint is packed. */
bool la_packed_is(const la_checkpoint *base, const la_tensor *weight);
/* True when a name is that of a part beside packed weights. */
bool la_packed_is_part(const char *name);
/* Number of parameters in a tensor of the checkpoint: those that a packed weight stands for,
 * none for its other parts. */
int64_t la_packed_parameters(const la_checkpoint *base, const la_tensor *tensor);
/* Reads it: codes stay in the checkpoint, scales (the pool's) are computed. Every part is checked;
 * LA_BAD_INPUT names the tensor. */
la_status la_packed_read(const la_checkpoint *base, const la_tensor *weight, la_pool *pool,
                         la_packed **packed, la_error *err);
/* Packs a matrix of floating type; all is the pool's. */
la_status la_packed_make(la_team team, const la_tensor *weight, la_base_quant quant, la_pool *pool,
                         la_packed **packed, la_error *err);

/* The 256 levels of bitsandbytes' 8-bit "dynamic" type, rising: scales of double quantisation
 * are of it. */
void la_dynamic_levels(float levels[256]);

#endif
