#include "input/safetensors.h"
#include "base/digest.h"
#include "base/memory.h"
#include "input/json.h"
#include "input/wrappers.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAX 100000000u

typedef struct mapping {
    void *address;
    size_t length;
} mapping;

struct la_checkpoint {
    la_pool pool;
    mapping *files;
    size_t n_files, files_capacity;
    la_tensor *tensors;
    size_t n_tensors, tensors_capacity;
    bool let_go;
};

static const struct {
    const char *name;
    la_dtype dtype;
    size_t bits;
} dtypes[] = {
    {"F32", LA_F32, 32},
    {"F16", LA_F16, 16},
    {"BF16", LA_BF16, 16},
    {"F64", LA_F64, 64},
    {"I64", LA_DTYPE_OTHER, 64},
    {"I32", LA_DTYPE_OTHER, 32},
    {"I16", LA_DTYPE_OTHER, 16},
    {"I8", LA_DTYPE_OTHER, 8},
    {"U64", LA_DTYPE_OTHER, 64},
    {"U32", LA_DTYPE_OTHER, 32},
    {"U16", LA_DTYPE_OTHER, 16},
    {"U8", LA_DTYPE_OTHER, 8},
    {"BOOL", LA_DTYPE_OTHER, 8},
    {"C64", LA_DTYPE_OTHER, 64},
    {"F8_E4M3", LA_DTYPE_OTHER, 8},
    {"F8_E5M2", LA_DTYPE_OTHER, 8},
    {"F8_E8M0", LA_DTYPE_OTHER, 8},
    {"F4", LA_DTYPE_OTHER, 4},
    {"F6_E2M3", LA_DTYPE_OTHER, 6},
    {"F6_E3M2", LA_DTYPE_OTHER, 6},
};

static la_status read_shape(const char *path, const char *name, const json_t *shape, size_t bits,
                            la_tensor *tensor, la_error *err) {
    if (!json_is_array(shape) || json_array_size(shape) > LA_TENSOR_DIMS)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: tensor \"%s\": \"shape\" is %s, expected an array of at most %d sizes",
                       path, name, la_json_kind(shape), LA_TENSOR_DIMS);
    int64_t count = 1;
    tensor->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < tensor->n_dims; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return la_fail(err, LA_BAD_INPUT,
                           "%s: tensor \"%s\": shape[%d] is no size, expected an integer >= 0",
                           path, name, i);
        tensor->shape[i] = json_integer_value(size);
        if (__builtin_mul_overflow(count, tensor->shape[i], &count) ||
            count > INT64_MAX / (int64_t)bits)
            return la_fail(err, LA_BAD_INPUT,
                           "%s: tensor \"%s\": the product of its shape overflows", path, name);
    }
    tensor->count = count;
    return LA_OK;
}

/* Reads one header entry; data_length bytes follow the header at data. *begin, *end: its byte
 * range. */
static la_status read_entry(la_checkpoint *checkpoint, const char *path, const char *key,
                            const json_t *entry, const char *data, size_t data_length,
                            la_tensor *tensor, size_t *begin, size_t *end, la_error *err) {
    if (!json_is_object(entry))
        return la_fail(err, LA_BAD_INPUT, "%s: tensor \"%s\" is %s, expected an object", path, key,
                       la_json_kind(entry));
    const json_t *type = json_object_get(entry, "dtype");
    if (!json_is_string(type))
        return la_fail(err, LA_BAD_INPUT, "%s: tensor \"%s\": \"dtype\" is %s, expected a string",
                       path, key, la_json_kind(type));
    const char *dtype = json_string_value(type);
    size_t row = 0;
    while (row < sizeof dtypes / sizeof *dtypes && strcmp(dtypes[row].name, dtype))
        row++;
    if (row == sizeof dtypes / sizeof *dtypes)
        return la_fail(err, LA_UNSUPPORTED, "%s: tensor \"%s\": unknown dtype \"%s\"", path, key,
                       dtype);
    *tensor = (la_tensor){.dtype = dtypes[row].dtype, .dtype_name = dtypes[row].name, .file = path};
    LA_TRY(read_shape(path, key, json_object_get(entry, "shape"), dtypes[row].bits, tensor, err));
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(from) ||
        !json_is_integer(to))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: tensor \"%s\": \"data_offsets\" is not a pair of integers", path, key);
    int64_t first = json_integer_value(from), last = json_integer_value(to);
    if (first < 0 || last < first || (uint64_t)last > data_length)
        return la_fail(
            err, LA_BAD_INPUT,
            "%s: tensor \"%s\": data_offsets [%lld, %lld] reach outside the %zu bytes of "
            "data; the file is truncated or damaged",
            path, key, (long long)first, (long long)last, data_length);
    size_t expected = ((size_t)tensor->count * dtypes[row].bits + 7) / 8;
    if ((size_t)(last - first) != expected)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: tensor \"%s\": %lld bytes of data, expected %zu from its shape and "
                       "dtype %s",
                       path, key, (long long)(last - first), expected, dtype);
    tensor->name = la_pool_text(&checkpoint->pool, key, strlen(key), err);
    if (!tensor->name)
        return err->status;
    tensor->data = data + first;
    tensor->bytes = expected;
    *begin = (size_t)first;
    *end = (size_t)last;
    return LA_OK;
}

typedef struct byte_range {
    size_t begin, end;
    const char *name;
} byte_range;

static int by_begin(const void *a, const void *b) {
    const byte_range *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The data must be covered without holes or overlaps. */
static la_status check_cover(const char *path, byte_range *ranges, size_t n, size_t data_length,
                             la_error *err) {
    qsort(ranges, n, sizeof *ranges, by_begin);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].begin != at)
            return la_fail(err, LA_BAD_INPUT,
                           "%s: tensor \"%s\" begins at byte %zu of the data, expected %zu (%s)",
                           path, ranges[i].name, ranges[i].begin, at,
                           ranges[i].begin < at ? "tensors overlap" : "a hole in the file");
        at = ranges[i].end;
    }
    if (at != data_length)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: %zu bytes of data, expected %zu: the file is truncated or has extra "
                       "bytes",
                       path, data_length, at);
    return LA_OK;
}

static la_status read_header(la_checkpoint *checkpoint, const char *path, const char *file,
                             size_t length, la_error *err) {
    if (length < 8)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: truncated: %zu bytes, a safetensors file has at least 8", path, length);
    if (length >= 23 && !memcmp(file, "version https://git-lfs", 23))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: is a Git LFS pointer, not the weights; run `git lfs pull`", path);
    uint64_t header_length = 0;
    for (int i = 7; i >= 0; i--)
        header_length = header_length << 8 | (unsigned char)file[i];
    if (header_length > HEADER_MAX)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: header of %llu bytes, expected at most %u: not a safetensors file",
                       path, (unsigned long long)header_length, HEADER_MAX);
    if (header_length > length - 8)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: truncated: header of %llu bytes in a file of %zu bytes", path,
                       (unsigned long long)header_length, length);
    json_error_t where;
    json_t *header = la_json_loadb(file + 8, (size_t)header_length, JSON_REJECT_DUPLICATES, &where);
    if (!header && json_error_code(&where) == json_error_out_of_memory)
        return la_fail(err, LA_RESOURCE, "%s: out of memory to read its header", path);
    if (!header) {
        /* jansson reports the place just behind a key that comes twice */
        int to = where.position > 0 ? where.position : 0, from = to > 80 ? to - 80 : 0;
        return la_fail(err, LA_BAD_INPUT, "%s: header is not valid JSON: %s, after ...%.*s", path,
                       where.text, to - from, file + 8 + from);
    }
    la_status status = LA_OK;
    byte_range *ranges = NULL;
    const char *data = file + 8 + header_length;
    size_t data_length = length - 8 - (size_t)header_length, n = 0;
    if (!json_is_object(header))
        LA_TRY_DONE(la_fail(err, LA_BAD_INPUT, "%s: header is %s, expected an object", path,
                            la_json_kind(header)));
    ranges = la_alloc(json_object_size(header), sizeof *ranges, err);
    LA_TRY_DONE(err->status);
    const char *key;
    json_t *entry;
    json_object_foreach(header, key, entry) {
        if (!strcmp(key, "__metadata__")) {
            const char *meta;
            json_t *value;
            if (!json_is_object(entry))
                LA_TRY_DONE(la_fail(err, LA_BAD_INPUT, "%s: __metadata__ is %s, expected an object",
                                    path, la_json_kind(entry)));
            json_object_foreach(entry, meta, value) {
                if (!json_is_string(value))
                    LA_TRY_DONE(la_fail(err, LA_BAD_INPUT,
                                        "%s: __metadata__ \"%s\" is not a string", path, meta));
            }
            continue;
        }
        LA_TRY_DONE(la_grow(&checkpoint->tensors, &checkpoint->tensors_capacity,
                            checkpoint->n_tensors + 1, sizeof(la_tensor), err));
        la_tensor *tensor = &checkpoint->tensors[checkpoint->n_tensors];
        LA_TRY_DONE(read_entry(checkpoint, path, key, entry, data, data_length, tensor,
                               &ranges[n].begin, &ranges[n].end, err));
        ranges[n++].name = tensor->name;
        checkpoint->n_tensors++;
    }
    status = check_cover(path, ranges, n, data_length, err);
done:
    free(ranges);
    json_decref(header);
    return status;
}

static la_status map_file(la_checkpoint *checkpoint, const char *path, la_error *err) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return la_fail(err, la_errno_status(errno), "%s: cannot read: %s", path,
                       la_errno_text(errno));
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) {
        close(fd);
        return la_fail(err, LA_BAD_INPUT, "%s: is not a regular file", path);
    }
    size_t length = (size_t)info.st_size;
    if (!length) {
        close(fd);
        return la_fail(err, LA_BAD_INPUT, "%s: truncated: the file is empty", path);
    }
    void *address = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);
    int code = errno;
    close(fd);
    if (address == MAP_FAILED)
        return la_fail(err, LA_RESOURCE, "%s: cannot map: %s", path, la_errno_text(code));
    la_status status = la_grow(&checkpoint->files, &checkpoint->files_capacity,
                               checkpoint->n_files + 1, sizeof(mapping), err);
    if (status != LA_OK) {
        munmap(address, length);
        return status;
    }
    checkpoint->files[checkpoint->n_files++] = (mapping){address, length};
    char *name = la_pool_text(&checkpoint->pool, path, strlen(path), err);
    if (!name)
        return err->status;
    return read_header(checkpoint, name, address, length, err);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const la_tensor *)a)->name, ((const la_tensor *)b)->name);
}

/* Sorts the tensors; returns the second of two with one name, NULL: none. */
static const la_tensor *sort(la_checkpoint *checkpoint) {
    la_tensor *tensors = checkpoint->tensors;
    if (checkpoint->n_tensors)
        qsort(tensors, checkpoint->n_tensors, sizeof *tensors, by_name);
    for (size_t i = 1; i < checkpoint->n_tensors; i++)
        if (!by_name(&tensors[i - 1], &tensors[i]))
            return &tensors[i];
    return NULL;
}

static la_status sort_names(la_checkpoint *checkpoint, la_error *err) {
    const la_tensor *again = sort(checkpoint);
    return again ? la_fail(err, LA_BAD_INPUT, "tensor \"%s\" is in %s and again in %s", again->name,
                           again[-1].file, again->file)
                 : LA_OK;
}

/* Names without what wrappers put into them, for a base without what PEFT does. */
static la_status unwrap_names(la_checkpoint *checkpoint, bool base, la_error *err) {
    bool any = false;
    for (size_t i = 0; i < checkpoint->n_tensors; i++) {
        char *name = (char *)(uintptr_t)checkpoint->tensors[i].name; /* the pool's */
        any |= la_wrappers_strip(name, base);
    }
    const la_tensor *again = any ? sort(checkpoint) : NULL;
    return again ? la_fail(err, LA_BAD_INPUT,
                           "%s: two tensors are \"%s\" once the names of wrappers are taken off "
                           "(_orig_mod, module, base_model.model, ...); keep one of them",
                           again->file, again->name)
                 : LA_OK;
}

la_status la_checkpoint_open_file(const char *path, la_checkpoint **checkpoint, la_error *err) {
    *checkpoint = la_alloc(1, sizeof **checkpoint, err);
    if (!*checkpoint)
        return err->status;
    la_status status = map_file(*checkpoint, path, err);
    if (status == LA_OK)
        status = sort_names(*checkpoint, err);
    if (status == LA_OK)
        status = unwrap_names(*checkpoint, false, err);
    if (status != LA_OK) {
        la_checkpoint_close(*checkpoint);
        *checkpoint = NULL;
    }
    return status;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Checks the index's map, and opens each shard once. */
static la_status open_shards(la_checkpoint *checkpoint, const char *dir, const char *index_path,
                             const json_t *map, la_error *err) {
    la_status status = LA_OK;
    size_t n = json_object_size(map), shards = 0;
    const char **names = la_alloc(n, sizeof *names, err);
    char *path = NULL;
    if (!names)
        return err->status;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        const char *shard = json_string_value(value);
        if (!shard || !*shard || strchr(shard, '/') || strchr(shard, '\\') || shard[0] == '.')
            LA_TRY_DONE(
                la_fail(err, LA_BAD_INPUT,
                        "%s: tensor \"%s\" is in \"%s\", expected the name of a file beside "
                        "the index",
                        index_path, key, shard ? shard : la_json_kind(value)));
        names[shards++] = shard;
    }
    qsort(names, shards, sizeof *names, by_text);
    size_t size = strlen(dir) + 2;
    for (size_t i = 0; i < shards; i++) {
        if (i && !strcmp(names[i], names[i - 1]))
            continue;
        free(path);
        path = la_alloc(size + strlen(names[i]), 1, err);
        LA_TRY_DONE(err->status);
        sprintf(path, "%s/%s", dir, names[i]);
        if (access(path, R_OK))
            LA_TRY_DONE(la_fail(err, la_errno_status(errno),
                                "%s: names the shard %s, which is missing: %s", index_path, path,
                                la_errno_text(errno)));
        LA_TRY_DONE(map_file(checkpoint, path, err));
    }
    LA_TRY_DONE(sort_names(checkpoint, err));
    json_object_foreach((json_t *)(uintptr_t)map, key, value) {
        const la_tensor *tensor = la_checkpoint_find(checkpoint, key);
        if (!tensor || strcmp(strrchr(tensor->file, '/') + 1, json_string_value(value)))
            LA_TRY_DONE(la_fail(err, LA_BAD_INPUT,
                                "%s: says that tensor \"%s\" is in %s, which does not hold it",
                                index_path, key, json_string_value(value)));
    }
    status = unwrap_names(checkpoint, false, err);
done:
    free(path);
    free(names);
    return status;
}

la_status la_checkpoint_open(const char *dir, const char *stem, la_checkpoint **checkpoint,
                             la_error *err) {
    *checkpoint = NULL;
    size_t size = strlen(dir) + strlen(stem) + 64;
    char *path = la_alloc(size, 1, err);
    if (!path)
        return err->status;
    la_status status = LA_OK;
    json_t *index = NULL;
    struct stat info;
    if (stat(dir, &info) || !S_ISDIR(info.st_mode))
        LA_TRY_DONE(
            la_fail(err, LA_BAD_INPUT, "%s: no such folder, expected a checkpoint folder", dir));
    snprintf(path, size, "%s/%s.safetensors", dir, stem);
    if (!access(path, F_OK)) {
        LA_TRY_DONE(la_checkpoint_open_file(path, checkpoint, err));
        goto done;
    }
    snprintf(path, size, "%s/%s.safetensors.index.json", dir, stem);
    if (access(path, F_OK)) {
        static const char *const pickles[] = {"pytorch_model.bin", "adapter_model.bin",
                                              "pytorch_adapter.bin",
                                              "pytorch_model.bin.index.json"};
        for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
            snprintf(path, size, "%s/%s", dir, pickles[i]);
            if (!access(path, F_OK))
                LA_TRY_DONE(la_fail(
                    err, LA_UNSUPPORTED,
                    "%s: pickled weights are never read; convert them in Python: `from "
                    "safetensors.torch import save_file; import torch; save_file({k: "
                    "v.contiguous() for k, v in torch.load('%s', weights_only=True).items()}, "
                    "'%s.safetensors')`",
                    path, pickles[i], stem));
        }
        status = la_fail(err, LA_BAD_INPUT,
                         "%s: holds no %s.safetensors and no %s.safetensors.index.json", dir, stem,
                         stem);
        goto done;
    }
    LA_TRY_DONE(la_json_load(path, HEADER_MAX, &index, err));
    const json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map))
        LA_TRY_DONE(la_fail(err, LA_BAD_INPUT, "%s: key \"weight_map\" is %s, expected an object",
                            path, la_json_kind(map)));
    *checkpoint = la_alloc(1, sizeof **checkpoint, err);
    LA_TRY_DONE(err->status);
    status = open_shards(*checkpoint, dir, path, map, err);
done:
    if (status == LA_OK && !strcmp(stem, "model"))
        status = unwrap_names(*checkpoint, true, err);
    if (status != LA_OK) {
        la_checkpoint_close(*checkpoint);
        *checkpoint = NULL;
    }
    json_decref(index);
    free(path);
    return status;
}

void la_checkpoint_close(la_checkpoint *checkpoint) {
    if (!checkpoint)
        return;
    for (size_t i = 0; i < checkpoint->n_files; i++)
        munmap(checkpoint->files[i].address, checkpoint->files[i].length);
    free(checkpoint->files);
    free(checkpoint->tensors);
    la_pool_free(&checkpoint->pool);
    free(checkpoint);
}

int64_t la_checkpoint_count(const la_checkpoint *checkpoint) {
    return (int64_t)checkpoint->n_tensors;
}

const la_tensor *la_checkpoint_at(const la_checkpoint *checkpoint, int64_t index) {
    return &checkpoint->tensors[index];
}

const la_tensor *la_checkpoint_find(const la_checkpoint *checkpoint, const char *name) {
    if (!checkpoint->n_tensors)
        return NULL;
    la_tensor key = {.name = name};
    return bsearch(&key, checkpoint->tensors, checkpoint->n_tensors, sizeof key, by_name);
}

void la_checkpoint_let_go(la_checkpoint *checkpoint) {
    checkpoint->let_go = true;
}

void la_tensor_let_go(const la_tensor *tensor) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)tensor->data;
    uintptr_t end = (from + tensor->bytes) & ~(page - 1);
    from = (from + page - 1) & ~(page - 1);
    if (from < end)
        madvise((void *)from, end - from, MADV_DONTNEED);
}

size_t la_checkpoint_bytes(const la_checkpoint *checkpoint) {
    size_t bytes = 0;
    for (size_t i = 0; i < checkpoint->n_tensors; i++)
        bytes += checkpoint->tensors[i].bytes;
    return bytes;
}

la_status la_checkpoint_digest(const la_checkpoint *checkpoint, char out[33], la_error *err) {
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    for (size_t i = 0; i < checkpoint->n_tensors; i++) {
        const la_tensor *tensor = &checkpoint->tensors[i];
        la_digest_add_text(digest, tensor->name);
        la_digest_add_text(digest, tensor->dtype_name);
        la_digest_add(digest, tensor->shape, (size_t)tensor->n_dims * sizeof *tensor->shape);
        la_digest_add(digest, tensor->data, tensor->bytes);
        if (checkpoint->let_go)
            la_tensor_let_go(tensor);
    }
    la_digest_finish(digest, out);
    return LA_OK;
}

la_status la_tensor_check_float(const la_tensor *tensor, la_error *err) {
    if (tensor->dtype != LA_DTYPE_OTHER)
        return LA_OK;
    return la_fail(err, LA_UNSUPPORTED,
                   "%s: tensor \"%s\" has dtype %s, expected F32, F16, BF16 or F64", tensor->file,
                   tensor->name, tensor->dtype_name);
}

la_status la_tensor_check_finite(const la_tensor *tensor, la_error *err) {
    enum { PIECE = 1024 };
    float values[PIECE];
    size_t size = la_dtype_size(tensor->dtype);
    for (int64_t at = 0; at < tensor->count; at += PIECE) {
        int64_t n = tensor->count - at < PIECE ? tensor->count - at : PIECE;
        la_dtype_to_f32(tensor->dtype, (const char *)tensor->data + (size_t)at * size, n, values);
        /* exponent bits all set: one pass that vectorises, the slow search only on a hit */
        uint32_t bits[PIECE], hit = 0;
        memcpy(bits, values, (size_t)n * sizeof *bits);
        for (int64_t i = 0; i < n; i++)
            hit |= (bits[i] & 0x7f800000u) == 0x7f800000u;
        if (!hit)
            continue;
        for (int64_t i = 0; i < n; i++)
            if (!isfinite(values[i]))
                return la_fail(err, LA_NUMERICAL,
                               "%s: tensor \"%s\": element %lld is %s, expected finite weights",
                               tensor->file, tensor->name, (long long)(at + i),
                               isnan(values[i]) ? "NaN" : "infinite");
    }
    return LA_OK;
}

bool la_tensor_equal(const la_tensor *a, const la_tensor *b) {
    return a->dtype == b->dtype && a->count == b->count &&
           !memcmp(a->data, b->data, (size_t)a->count * la_dtype_size(a->dtype));
}

const char *la_tensor_shape_text(const la_tensor *tensor, char *buffer, size_t size) {
    size_t used = (size_t)snprintf(buffer, size, "[");
    for (int i = 0; i < tensor->n_dims && used < size; i++)
        used += (size_t)snprintf(buffer + used, size - used, "%s%lld", i ? ", " : "",
                                 (long long)tensor->shape[i]);
    if (used < size)
        snprintf(buffer + used, size - used, "]");
    return buffer;
}
