#include "support/tensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t header_length(const unsigned char *file) {
    size_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | file[i];
    return length;
}

static void put_length(unsigned char *file, size_t length) {
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)(length >> 8 * i);
}

json_t *tensors_header(const char *path) {
    size_t length;
    char *file = read_file(path, &length);
    json_t *header = json_loadb(file + 8, header_length((unsigned char *)file), 0, NULL);
    free(file);
    assert_non_null(header);
    return header;
}

void tensors_set_header(const char *path, const char *header, size_t length) {
    size_t old_length;
    char *old = read_file(path, &old_length);
    size_t skip = 8 + header_length((unsigned char *)old);
    size_t total = 8 + length + old_length - skip;
    unsigned char *file = malloc(total);
    put_length(file, length);
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, old + skip, old_length - skip);
    write_file(path, file, total);
    free(file);
    free(old);
}

void tensors_add(tensor_file *file, const char *name, const char *dtype, const char *shape,
                 const void *data, size_t length) {
    file->tensors = realloc(file->tensors, (file->n + 1) * sizeof *file->tensors);
    tensor_bytes *tensor = &file->tensors[file->n++];
    *tensor = (tensor_bytes){.name = strdup(name),
                             .dtype = strdup(dtype),
                             .shape = json_loads(shape, 0, NULL),
                             .data = malloc(length + 1),
                             .length = length};
    assert_non_null(tensor->shape);
    if (length)
        memcpy(tensor->data, data, length);
}

tensor_file tensors_read(const char *path) {
    tensor_file out = {0};
    size_t length;
    char *file = read_file(path, &length);
    const char *data = file + 8 + header_length((unsigned char *)file), *name;
    json_t *header = tensors_header(path), *entry;
    json_object_foreach(header, name, entry) {
        const json_t *offsets = json_object_get(entry, "data_offsets");
        size_t from = (size_t)json_integer_value(json_array_get(offsets, 0));
        size_t to = (size_t)json_integer_value(json_array_get(offsets, 1));
        if (!offsets)
            continue;
        char *shape = json_dumps(json_object_get(entry, "shape"), 0);
        tensors_add(&out, name, json_string_value(json_object_get(entry, "dtype")), shape,
                    data + from, to - from);
        free(shape);
    }
    json_decref(header);
    free(file);
    return out;
}

void tensors_write(const tensor_file *file, const char *path) {
    json_t *header = json_object();
    size_t total = 0;
    for (size_t i = 0; i < file->n; i++) {
        const tensor_bytes *t = &file->tensors[i];
        json_object_set_new(header, t->name,
                            json_pack("{s:s,s:O,s:[II]}", "dtype", t->dtype, "shape", t->shape,
                                      "data_offsets", (json_int_t)total,
                                      (json_int_t)(total + t->length)));
        total += t->length;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    size_t length = strlen(text), at = 8 + length;
    unsigned char *bytes = malloc(8 + length + total);
    put_length(bytes, length);
    memcpy(bytes + 8, text, length);
    for (size_t i = 0; i < file->n; i++) {
        memcpy(bytes + at, file->tensors[i].data, file->tensors[i].length);
        at += file->tensors[i].length;
    }
    write_file(path, bytes, at);
    free(bytes);
    free(text);
    json_decref(header);
}

static void free_tensor(tensor_bytes *tensor) {
    free(tensor->name);
    free(tensor->dtype);
    free(tensor->data);
    json_decref(tensor->shape);
}

void tensors_free(tensor_file *file) {
    for (size_t i = 0; i < file->n; i++)
        free_tensor(&file->tensors[i]);
    free(file->tensors);
    *file = (tensor_file){0};
}

tensor_bytes *tensors_find(const tensor_file *file, const char *ending) {
    size_t tail = strlen(ending);
    for (size_t i = 0; i < file->n; i++) {
        size_t length = strlen(file->tensors[i].name);
        if (length >= tail && !strcmp(file->tensors[i].name + length - tail, ending))
            return &file->tensors[i];
    }
    fail_msg("no tensor ends with %s", ending);
    return NULL;
}

void tensors_drop(tensor_file *file, const char *ending) {
    tensor_bytes *tensor = tensors_find(file, ending);
    free_tensor(tensor);
    *tensor = file->tensors[--file->n];
}
