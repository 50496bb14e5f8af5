#include "output/adapter_write.h"
#include "base/output_file.h"
#include "input/json.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- tensors of blocks ---- */

/* A tensor's values, and where blocks are in them. */
typedef struct taken {
    const la_adapter_change *change;
    float *values; /* [count] as they will be written */
    bool *found;   /* [width] numbers of blocks that a tensor holds; NULL: not asked */
    bool changed;
} taken;

/* True when the parts of `name` between dots are parts of `key`, in the same order. */
static bool parts_in(const char *name, const char *key) {
    while (*name) {
        size_t length = strcspn(name, ".");
        for (;;) {
            size_t has = strcspn(key, ".");
            bool same = has == length && !strncmp(name, key, length);
            if (!has && !*key)
                return false;
            key += has + (key[has] == '.');
            if (same)
                break;
        }
        name += length + (name[length] == '.');
    }
    return true;
}

/* Virtual tokens of a layer are called by the adapter's name first: TOKENS.LAYER.key. */
static bool names_agree(const la_block *block, const char *key) {
    char tokens[128];
    if (parts_in(block->name, key) || parts_in(key, block->name))
        return true;
    snprintf(tokens, sizeof tokens, "%.*s", (int)strcspn(block->name, "."), block->name);
    return block->n_virtual && parts_in(tokens, key);
}

/* ---- virtual tokens behind a network ---- */

/* The `adapters` library computes a prefix by a network until it is told to eject it: what is left
 * is a flat prefix, which trained tokens are written as. Its tensor takes the place of the first of
 * the network's, the others go. */
typedef enum network_part { NO_PART, FIRST_PART, OTHER_PART } network_part;
#define FIRST_NAME "self_prefix.wte.weight"
#define FLAT_NAME "self_prefix.control_trans"

static network_part part_of(const la_blocks *blocks, const char *name) {
    size_t length = strlen(name), first = strlen(FIRST_NAME);
    for (int64_t b = 0; b < blocks->n; b++)
        if (blocks->list[b].n_virtual) {
            if (strstr(name, FLAT_NAME "."))
                return OTHER_PART;
            return length >= first && !strcmp(name + length - first, FIRST_NAME) ? FIRST_PART
                                                                                 : NO_PART;
        }
    return NO_PART;
}

static int64_t flat_count(const la_blocks *blocks) {
    int64_t count = 0;
    for (int64_t b = 0; b < blocks->n; b++)
        if (blocks->list[b].n_virtual)
            count += blocks->list[b].out * blocks->list[b].in;
    return count;
}

/* [tokens, all blocks' out] of the blocks, which are the transposes of its columns. */
static la_status take_flat(taken *t, la_error *err) {
    const la_blocks *blocks = t->change->blocks;
    int64_t count = flat_count(blocks), offset = 0, column = 0;
    t->values = la_alloc((size_t)count, sizeof *t->values, err);
    if (!t->values)
        return err->status;
    t->changed = true;
    for (int64_t b = 0; b < blocks->n; b++) {
        const la_block *block = &blocks->list[b];
        int64_t out = block->out, in = block->in;
        for (int64_t i = 0; block->n_virtual && i < out * in; i++) {
            t->values[i % in * (count / in) + column + i / in] = t->change->after[offset + i];
            if (t->found)
                t->found[offset + i] = true;
        }
        column += block->n_virtual ? out : 0;
        offset += out * in;
    }
    return LA_OK;
}

/* ---- tensors as they are stored ---- */

/* Numbers of a block that lie in a tensor: [rows, cols] of them, of which (i, j) is number from +
 * i down + j across of the tensor and base + i row + j col of the block. */
typedef struct overlap {
    int64_t rows, cols, from, down, across, base, row, col;
} overlap;

static bool same_numbers(const overlap *o, const float *tensor, const float *block) {
    for (int64_t i = 0; i < o->rows; i++)
        for (int64_t j = 0; j < o->cols; j++)
            if (tensor[o->from + i * o->down + j * o->across] !=
                block[o->base + i * o->row + j * o->col])
                return false;
    return true;
}

static void take(taken *t, const overlap *o, int64_t offset) {
    t->changed = true;
    for (int64_t i = 0; i < o->rows; i++)
        for (int64_t j = 0; j < o->cols; j++) {
            int64_t at = offset + o->base + i * o->row + j * o->col;
            t->values[o->from + i * o->down + j * o->across] = t->change->after[at];
            if (t->found)
                t->found[at] = true;
        }
}

/* How a tensor may hold a block [out, in]: all of it, its weights without the column of the bias,
 * that column, or virtual tokens [in, ..] as columns of which the block is the transpose. */
static void take_block(taken *t, const la_tensor *tensor, const float *stored,
                       const la_block *block, int64_t offset) {
    int64_t out = block->out, in = block->in, count = tensor->count;
    const float *before = t->change->before + offset;
    overlap ways[] = {{out, in, 0, in, 1, 0, in, 1},
                      {out, in - 1, 0, in - 1, 1, 0, in, 1},
                      {out, 1, 0, 1, 1, in - 1, in, 1}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (ways[i].rows * ways[i].cols == count && same_numbers(&ways[i], stored, before)) {
            take(t, &ways[i], offset);
            return;
        }
    bool rows = tensor->n_dims == 1 ? count % in == 0 : tensor->shape[0] == in;
    int64_t all = block->n_virtual && tensor->n_dims <= 2 && rows ? count / in : 0;
    for (int64_t from = 0; from + out <= all; from += out) {
        overlap turned = {in, out, from, all, 1, 0, 1, in};
        if (same_numbers(&turned, stored, before)) {
            take(t, &turned, offset);
            return;
        }
    }
}

/* Fills t->values of an entry; NULL: it is not written. */
static la_status take_entry(taken *t, const la_adapter_entry *entry, la_error *err) {
    t->changed = false;
    t->values = NULL;
    const la_tensor *tensor = entry->tensor;
    const la_blocks *blocks = t->change->blocks;
    network_part part = part_of(blocks, tensor->name);
    if (part == OTHER_PART)
        return LA_OK;
    if (part == FIRST_PART)
        return take_flat(t, err);
    float *stored = la_alloc((size_t)tensor->count, sizeof *stored, err);
    t->values = la_alloc((size_t)tensor->count, sizeof *t->values, err);
    if (err->status == LA_OK) {
        la_dtype_to_f32(tensor->dtype, tensor->data, tensor->count, stored);
        memcpy(t->values, stored, (size_t)tensor->count * sizeof *stored);
        int64_t offset = 0;
        for (int64_t b = 0; b < blocks->n; b++) {
            const la_block *block = &blocks->list[b];
            if (names_agree(block, entry->key))
                take_block(t, tensor, stored, block, offset);
            offset += block->out * block->in;
        }
    }
    free(stored);
    return err->status;
}

static const la_adapter_entry *entry_of(const la_adapter *adapter, const la_tensor *tensor) {
    for (int64_t i = 0; i < adapter->n_entries; i++)
        if (adapter->entries[i].tensor == tensor)
            return &adapter->entries[i];
    return NULL;
}

/* ---- the folder ---- */

static la_status check_folder(const char *dir, la_error *err) {
    DIR *folder = opendir(dir);
    if (!folder && errno == ENOENT)
        return LA_OK;
    if (!folder)
        return la_fail(err, errno == ENOTDIR ? LA_USAGE : LA_RESOURCE,
                       "%s: cannot be a folder for the adapter: %s", dir, la_errno_text(errno));
    int entries = 0;
    while (readdir(folder))
        entries++;
    closedir(folder);
    return entries > 2 ? la_fail(err, LA_USAGE,
                                 "%s: is not empty; expected a new folder for the adapter, nothing "
                                 "is written over",
                                 dir)
                       : LA_OK;
}

la_status la_adapter_write_check(const la_adapter_change *change, const char *dir, la_error *err) {
    const la_adapter *adapter = &change->model->adapter;
    const la_blocks *blocks = change->blocks;
    LA_TRY(check_folder(dir, err));
    for (const la_adapter *other = adapter->next; other; other = other->next)
        if (!other->shares)
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: several adapters at once are not written; expected one, or a union",
                           adapter->config_path);
    taken t = {.change = change};
    t.found = la_alloc((size_t)la_blocks_width(blocks), sizeof *t.found, err);
    for (int64_t i = 0; i < adapter->n_entries && err->status == LA_OK; i++) {
        (void)take_entry(&t, &adapter->entries[i], err);
        free(t.values);
    }
    int64_t at = 0;
    for (int64_t b = 0; b < blocks->n && err->status == LA_OK; b++)
        for (int64_t i = 0; i < blocks->list[b].out * blocks->list[b].in; i++)
            if (!t.found[at++] && err->status == LA_OK)
                (void)la_fail(err, LA_UNSUPPORTED,
                              "%s: no tensor holds block %s as it is used, so that its new values "
                              "cannot be written",
                              adapter->config_path, blocks->list[b].name);
    free(t.found);
    return err->status;
}

/* ---- safetensors ---- */

static la_status write_header(FILE *out, const la_blocks *blocks, const la_checkpoint *file,
                              const bool *changed, la_error *err) {
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    json_int_t at = 0;
    for (int64_t i = 0; i < la_checkpoint_count(file); i++) {
        const la_tensor *t = la_checkpoint_at(file, i);
        network_part part = part_of(blocks, t->name);
        int64_t count = part == FIRST_PART ? flat_count(blocks) : t->count;
        json_int_t bytes = (json_int_t)(changed[i] ? (size_t)count * sizeof(float) : t->bytes);
        json_t *shape = json_array();
        char name[4096];
        size_t stem = strlen(t->name);
        if (part == FIRST_PART)
            json_array_append_new(shape, json_integer((json_int_t)count));
        for (int d = 0; part == NO_PART && d < t->n_dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
        if (part == FIRST_PART)
            stem -= strlen(FIRST_NAME);
        snprintf(name, sizeof name, "%.*s%s", (int)stem, t->name,
                 part == FIRST_PART ? FLAT_NAME : "");
        if (part == OTHER_PART) {
            json_decref(shape);
            continue;
        }
        json_object_set_new(root, name,
                            json_pack("{s:s,s:o,s:[I,I]}", "dtype",
                                      changed[i] ? "F32" : t->dtype_name, "shape", shape,
                                      "data_offsets", at, at + bytes));
        at += bytes;
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (!text)
        return la_fail(err, LA_RESOURCE, "out of memory for a header");
    /* numbers behind it are aligned */
    uint64_t length = strlen(text), padded = (length + 7) & ~(uint64_t)7;
    unsigned char size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (unsigned char)(padded >> (8 * i));
    fwrite(size, 1, sizeof size, out);
    fwrite(text, 1, length, out);
    for (; length < padded; length++)
        fputc(' ', out);
    free(text);
    return LA_OK;
}

/* Tensors of a checkpoint, in its order: largest memory is that of one of them. */
static la_status write_tensors(FILE *out, const la_adapter_change *change,
                               const la_checkpoint *file, bool *changed, la_error *err) {
    const la_adapter *adapter = &change->model->adapter;
    taken t = {.change = change};
    /* which of them change decides on their types in the header */
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < la_checkpoint_count(file); i++) {
            const la_tensor *tensor = la_checkpoint_at(file, i);
            const la_adapter_entry *entry = entry_of(adapter, tensor);
            t.changed = false;
            t.values = NULL;
            if (entry && (!pass || changed[i]))
                (void)take_entry(&t, entry, err);
            changed[i] = t.changed;
            network_part part = part_of(change->blocks, tensor->name);
            int64_t count = part == FIRST_PART ? flat_count(change->blocks) : tensor->count;
            if (pass && err->status == LA_OK && t.changed)
                fwrite(t.values, sizeof *t.values, (size_t)count, out);
            else if (pass && err->status == LA_OK && part == NO_PART)
                fwrite(tensor->data, 1, tensor->bytes, out);
            free(t.values);
            LA_TRY(err->status);
        }
        if (!pass)
            LA_TRY(write_header(out, change->blocks, file, changed, err));
    }
    return LA_OK;
}

static la_status write_checkpoint(const la_adapter_change *change, const la_checkpoint *file,
                                  const char *dir, la_error *err) {
    char path[4096];
    const char *name = strrchr(la_checkpoint_at(file, 0)->file, '/');
    name = name ? name + 1 : la_checkpoint_at(file, 0)->file;
    const char *stem = change->model->adapter.kind->library->weights;
    bool sharded = strstr(name, "-of-") != NULL;
    snprintf(path, sizeof path, "%s/%s%s", dir, sharded ? stem : name,
             sharded ? ".safetensors" : "");
    la_output_file out;
    bool *changed = la_alloc((size_t)la_checkpoint_count(file), sizeof *changed, err);
    if (!changed)
        return err->status;
    la_status status = la_output_open(&out, path, LA_OUTPUT_STREAM, err);
    if (status == LA_OK)
        status = la_output_finish(&out, write_tensors(out.stream, change, file, changed, err), err);
    free(changed);
    return status;
}

/* ---- what else is in the folder ---- */

static bool is_copied(const char *name) {
    static const char *const endings[] = {".json", ".txt", ".model", ".jinja", ".md"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t tail = strlen(endings[i]);
        if (*name != '.' && length > tail && !strcmp(name + length - tail, endings[i]))
            return !strstr(name, ".safetensors.index.");
    }
    return false;
}

static la_status copy_file(const char *from, const char *to, la_error *err) {
    char buffer[1 << 16];
    size_t n;
    la_output_file out;
    FILE *in = fopen(from, "rb");
    if (!in)
        return la_fail(err, la_errno_status(errno), "%s: %s", from, la_errno_text(errno));
    la_status status = la_output_open(&out, to, LA_OUTPUT_STREAM, err);
    if (status == LA_OK) {
        while ((n = fread(buffer, 1, sizeof buffer, in)) > 0)
            fwrite(buffer, 1, n, out.stream);
        if (ferror(in))
            status = la_fail(err, LA_RESOURCE, "%s: cannot be read", from);
        status = la_output_finish(&out, status, err);
    }
    fclose(in);
    return status;
}

/* The configuration, where prefixes of a network become flat ones. */
static la_status write_config(const la_adapter_change *change, const char *from, const char *to,
                              la_error *err) {
    const la_adapter *adapter = &change->model->adapter;
    json_t *root = adapter->config ? json_deep_copy(adapter->config) : NULL;
    json_t *config = json_object_get(root, "config");
    json_t *parts = json_object_get(config, "configs");
    bool flat = false;
    for (size_t i = 0; config && i < (parts ? json_array_size(parts) : 1); i++) {
        json_t *part = parts ? json_array_get(parts, i) : config;
        const char *kind = json_string_value(json_object_get(part, "architecture"));
        if (kind && !strcmp(kind, "prefix_tuning") && flat_count(change->blocks) &&
            !json_is_true(json_object_get(part, "flat"))) {
            json_object_set_new(part, "flat", json_true());
            flat = true;
        }
    }
    la_status status = LA_OK;
    char *text = flat ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!flat)
        return copy_file(from, to, err);
    if (!text)
        return la_fail(err, LA_RESOURCE, "%s: out of memory", to);
    la_output_file out;
    status = la_output_open(&out, to, LA_OUTPUT_STREAM, err);
    if (status == LA_OK) {
        fputs(text, out.stream);
        status = la_output_finish(&out, LA_OK, err);
    }
    free(text);
    return status;
}

/* Small files beside the tensors: tokenizer, model card; not the configuration. */
static la_status copy_files(const char *from, const char *to, const char *config, la_error *err) {
    char source[4096], target[4096];
    struct stat about;
    DIR *folder = opendir(from);
    if (!folder)
        return la_fail(err, la_errno_status(errno), "%s: %s", from, la_errno_text(errno));
    for (struct dirent *entry; err->status == LA_OK && (entry = readdir(folder));) {
        snprintf(source, sizeof source, "%s/%s", from, entry->d_name);
        snprintf(target, sizeof target, "%s/%s", to, entry->d_name);
        if (is_copied(entry->d_name) && strcmp(entry->d_name, config) && !stat(source, &about) &&
            S_ISREG(about.st_mode))
            (void)copy_file(source, target, err);
    }
    closedir(folder);
    return err->status;
}

la_status la_adapter_write(const la_adapter_change *change, const char *dir, la_error *err) {
    const la_adapter *adapter = &change->model->adapter;
    char from[4096];
    LA_TRY(check_folder(dir, err));
    if (mkdir(dir, 0777) && errno != EEXIST)
        return la_fail(err, LA_RESOURCE, "%s: %s", dir, la_errno_text(errno));
    LA_TRY(write_checkpoint(change, adapter->file, dir, err));
    if (adapter->head && la_checkpoint_count(adapter->head))
        LA_TRY(write_checkpoint(change, adapter->head, dir, err));
    snprintf(from, sizeof from, "%s", adapter->config_path);
    char *slash = strrchr(from, '/');
    const char *config = slash ? slash + 1 : adapter->config_path;
    if (slash)
        *slash = 0;
    LA_TRY(copy_files(slash ? from : ".", dir, config, err));
    char to[4096];
    snprintf(to, sizeof to, "%s/%s", dir, config);
    return write_config(change, adapter->config_path, to, err);
}
