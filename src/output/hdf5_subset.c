#include "output/hdf5_subset.h"
#include "base/stop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Format: "HDF5 File Format Specification Version 3.0". Addresses and lengths have 8 bytes. */
#define NOWHERE UINT64_MAX
enum {
    SUPERBLOCK_BYTES = 96,
    HEADER_PREFIX = 16,
    MESSAGE_PREFIX = 8,
    NODE_PREFIX = 24,
    TABLE_PREFIX = 8,
    TABLE_ENTRY = 40,
    HEAP_BYTES = 32,
    DEPTH_MOST = 8, /* of an index, whose nodes have 16 others below them at least */
    CHECKSUM_BYTES = 4,
    FILTER_FLETCHER32 = 3,
    SLACK = 1 << 16 /* of the budget: a small file's share of what is read twice */
};

/* Kinds of messages in an object's header. */
enum {
    MESSAGE_SPACE = 0x01,
    MESSAGE_TYPE = 0x03,
    MESSAGE_EXTERNAL = 0x07,
    MESSAGE_LAYOUT = 0x08,
    MESSAGE_FILTERS = 0x0b,
    MESSAGE_ATTRIBUTE = 0x0c,
    MESSAGE_CONTINUED = 0x10,
    MESSAGE_TABLE = 0x11
};

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "arrays are read as they are stored, little-endian"
#endif

static uint64_t number_at(const unsigned char *p, int bytes) {
    uint64_t value = 0;
    memcpy(&value, p, (size_t)bytes);
    return value;
}
static uint64_t u64(const unsigned char *p) {
    return number_at(p, 8);
}
static uint32_t u32(const unsigned char *p) {
    return (uint32_t)number_at(p, 4);
}
static uint16_t u16(const unsigned char *p) {
    return (uint16_t)number_at(p, 2);
}

/* ---- bytes ---- */

void la_h5_begin(la_h5_file *file, const char *path, int fd, const void *bytes, uint64_t size,
                 uint64_t start, la_error *err) {
    uint64_t part = size > start ? size - start : 0;
    *file = (la_h5_file){.path = path,
                         .title = "posterior",
                         .fd = fd,
                         .bytes = bytes,
                         .size = size,
                         .start = start,
                         .budget = (part > UINT64_MAX / 4 ? UINT64_MAX / 2 : 2 * part) + SLACK,
                         .err = err};
}

void la_h5_end(la_h5_file *file) {
    la_pool_free(&file->pool);
}

/* Error: bytes that laplora does not write, or damage. */
static la_status foreign(const la_h5_file *file, uint64_t address, const char *what) {
    if (address > UINT64_MAX - file->start)
        address = file->size - file->start;
    return la_fail(file->err, LA_BAD_INPUT,
                   "%s: byte %llu: %s; the %s file is damaged, or was written anew by another "
                   "tool: use it as laplora wrote it",
                   file->path, (unsigned long long)(file->start + address), what, file->title);
}

la_status la_h5_bytes(la_h5_file *file, uint64_t offset, void *to, size_t length) {
    if (file->bytes) {
        memcpy(to, file->bytes + offset, length);
        return LA_OK;
    }
    for (char *at = to; length;) {
        ssize_t got = pread(file->fd, at, length, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return la_fail(file->err, LA_RESOURCE, "%s: cannot read: %s", file->path,
                           la_errno_text(errno));
        if (!got)
            return la_fail(file->err, LA_BAD_INPUT, "%s: was cut while it was read", file->path);
        at += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return LA_OK;
}

/* Charges [address, address + length) to the budget, unless it lies outside the file or the
 * budget. */
static la_status charge(la_h5_file *file, uint64_t address, uint64_t length, const char *what) {
    uint64_t part = file->size > file->start ? file->size - file->start : 0;
    if (address > part || length > part - address)
        return foreign(file, address, what);
    if (length > file->budget)
        return foreign(file, address,
                       "is referred to more often than a file of this length allows");
    file->budget -= length;
    return LA_OK;
}

static la_status fetch(la_h5_file *file, uint64_t address, void *to, size_t length,
                       const char *what) {
    LA_TRY(charge(file, address, length, what));
    return la_h5_bytes(file, file->start + address, to, length);
}

/* Memory of the pool with these bytes. */
static la_status fetch_new(la_h5_file *file, uint64_t address, uint64_t length, const char *what,
                           unsigned char **to) {
    LA_TRY(charge(file, address, length, what));
    *to = la_pool_take(&file->pool, (size_t)length, 1, file->err);
    return *to ? la_h5_bytes(file, file->start + address, *to, (size_t)length) : file->err->status;
}

/* ---- types, extents, attributes ---- */

/* A message's bytes; what is taken from the front is gone. */
typedef struct span {
    const unsigned char *at;
    size_t length;
} span;

static bool take(span *from, size_t length, span *piece) {
    if (length > from->length)
        return false;
    *piece = (span){from->at, length};
    from->at += length;
    from->length -= length;
    return true;
}

static bool matches(span s, size_t at, const void *bytes, size_t length) {
    return s.length >= at + length && !memcmp(s.at + at, bytes, length);
}

/* Another type is no error: an attribute of it may never be asked for. */
static la_h5_type parse_type(span s, size_t *size) {
    /* bit fields after class and version, and properties */
    static const unsigned char f32[] = {0x20, 0x1f, 0, 4, 0,  0,   0, 0, 0, 32,
                                        0,    23,   8, 0, 23, 127, 0, 0, 0},
                               f64[] = {0x20, 0x3f, 0,  8, 0,  0,    0, 0, 0, 64,
                                        0,    52,   11, 0, 52, 0xff, 3, 0, 0};
    *size = 0;
    if (s.length < 8 || s.at[0] >> 4 < 1 || s.at[0] >> 4 > 3)
        return LA_H5_OTHER;
    *size = u32(s.at + 4);
    switch (s.at[0] & 15) {
    case 0: {
        bool whole = s.length >= 12 && *size <= 8 && u16(s.at + 8) == 0 &&
                     u16(s.at + 10) == 8 * *size && s.at[1] == 8; /* signed */
        return whole && (*size == 1 || *size == 2 || *size == 4 || *size == 8) ? LA_H5_INT
                                                                               : LA_H5_OTHER;
    }
    case 1:
        return matches(s, 1, f32, sizeof f32) || matches(s, 1, f64, sizeof f64) ? LA_H5_FLOAT
                                                                                : LA_H5_OTHER;
    case 3:
        return *size ? LA_H5_TEXT : LA_H5_OTHER;
    default:
        return LA_H5_OTHER;
    }
}

/* false: it is none that is known. A single value has rank 0. */
static bool parse_space(span s, int *rank, uint64_t shape[2]) {
    span head, dims;
    if (s.length < 4 || (s.at[0] != 1 && s.at[0] != 2))
        return false;
    size_t prefix = s.at[0] == 1 ? 8 : 4;
    *rank = s.at[1];
    shape[0] = shape[1] = 1;
    if (s.at[0] == 2 && s.at[3] > 1)
        return false; /* holds nothing */
    if (*rank > 2 || !take(&s, prefix, &head) || !take(&s, 8 * (size_t)*rank, &dims))
        return false;
    for (int i = 0; i < *rank; i++)
        shape[i] = u64(dims.at + 8 * i);
    return true;
}

static size_t padded(size_t length, int version) {
    return version == 1 ? (length + 7) & ~(size_t)7 : length;
}

/* false: it is damaged. One of several values, or of a type that is not known, has LA_H5_OTHER. */
static bool parse_attribute(span s, la_h5_attribute *attribute) {
    span head, name, type, space, value;
    if (s.length < 8)
        return false;
    int version = s.at[0], rank = 0;
    uint64_t shape[2];
    if (version < 1 || version > 3 || !take(&s, version == 3 ? 9 : 8, &head))
        return false;
    size_t lengths[] = {u16(head.at + 2), u16(head.at + 4), u16(head.at + 6)};
    if (!take(&s, padded(lengths[0], version), &name) ||
        !take(&s, padded(lengths[1], version), &type) ||
        !take(&s, padded(lengths[2], version), &space))
        return false;
    if (!memchr(name.at, 0, name.length))
        return false;
    bool shared = version > 1 && head.at[1];
    *attribute = (la_h5_attribute){.name = (const char *)name.at};
    la_h5_type found = shared ? LA_H5_OTHER : parse_type(type, &attribute->size);
    bool single = !shared && parse_space(space, &rank, shape) && shape[0] == 1 && shape[1] == 1;
    if (!single || !take(&s, attribute->size, &value))
        return true;
    attribute->type = found;
    attribute->value = value.at;
    return true;
}

bool la_h5_int(const la_h5_attribute *attribute, int64_t *value) {
    if (attribute->type != LA_H5_INT)
        return false;
    int bits = (int)(8 * attribute->size);
    uint64_t raw = number_at(attribute->value, (int)attribute->size), sign = 1ull << (bits - 1);
    *value = (int64_t)((raw ^ sign) - sign);
    return true;
}

bool la_h5_number(const la_h5_attribute *attribute, double *value) {
    float narrow;
    if (attribute->type != LA_H5_FLOAT)
        return false;
    if (attribute->size == sizeof *value) {
        memcpy(value, attribute->value, sizeof *value);
    } else {
        memcpy(&narrow, attribute->value, sizeof narrow);
        *value = (double)narrow;
    }
    return true;
}

/* ---- groups ---- */

typedef struct members {
    la_h5_file *file;
    const char *names; /* [n_names] */
    uint64_t n_names;
    la_h5_link *links;
    size_t count, capacity;
} members;

/* A leaf: some members and where their names are. */
static la_status read_table(members *m, uint64_t address) {
    static const char what[] = "a table of a group lies outside the file";
    unsigned char head[TABLE_PREFIX], *entries;
    LA_TRY(fetch(m->file, address, head, sizeof head, what));
    if (memcmp(head, "SNOD\1", 5))
        return foreign(m->file, address, "expected a table of a group");
    size_t count = u16(head + 6);
    LA_TRY(fetch_new(m->file, address + sizeof head, count * TABLE_ENTRY, what, &entries));
    LA_TRY(la_grow(&m->links, &m->capacity, m->count + count, sizeof *m->links, m->file->err));
    for (size_t i = 0; i < count; i++) {
        uint64_t name = u64(entries + i * TABLE_ENTRY);
        if (name >= m->n_names || !memchr(m->names + name, 0, m->n_names - name))
            return foreign(m->file, address, "a name of a group's member lies outside its heap");
        m->links[m->count++] = (la_h5_link){m->names + name, u64(entries + i * TABLE_ENTRY + 8)};
    }
    return LA_OK;
}

/* The prefix of a node of an index, and its *entries, which begin with a key each and end with one
 * more. Levels fall by one from a node to those below, so that there are no cycles. */
static la_status read_node(la_h5_file *file, uint64_t address, int kind, size_t key, int *level,
                           size_t *count, unsigned char **entries) {
    static const char what[] = "an index lies outside the file";
    unsigned char head[NODE_PREFIX];
    LA_TRY(fetch(file, address, head, sizeof head, what));
    if (memcmp(head, "TREE", 4) || head[4] != kind)
        return foreign(file, address, "expected an index");
    if (*level >= 0 && head[5] != *level)
        return foreign(file, address, "an index is not of the level it should be");
    *level = head[5];
    if (*level > DEPTH_MOST)
        return foreign(file, address, "an index is deeper than any that laplora writes");
    *count = u16(head + 6);
    return fetch_new(file, address + sizeof head, *count * (key + 8), what, entries);
}

static la_status read_members(members *m, uint64_t address, int level) {
    enum { KEY = 8 };
    size_t count;
    unsigned char *entries;
    LA_TRY(read_node(m->file, address, 0, KEY, &level, &count, &entries));
    for (size_t i = 0; i < count; i++) {
        uint64_t below = u64(entries + i * (KEY + 8) + KEY);
        LA_TRY(level ? read_members(m, below, level - 1) : read_table(m, below));
    }
    return LA_OK;
}

static int by_link_name(const void *a, const void *b) {
    return strcmp(((const la_h5_link *)a)->name, ((const la_h5_link *)b)->name);
}

/* Reads the message that makes an object a group: addresses of an index and of a heap with the
 * names. */
static la_status read_group(la_h5_object *group, span message) {
    la_h5_file *file = group->file;
    unsigned char heap[HEAP_BYTES], *names;
    if (message.length < 16)
        return foreign(file, group->address, "a group without an index");
    uint64_t at = u64(message.at + 8);
    LA_TRY(fetch(file, at, heap, sizeof heap, "a heap lies outside the file"));
    if (memcmp(heap, "HEAP", 5))
        return foreign(file, at, "expected a heap");
    members m = {.file = file, .n_names = u64(heap + 8)};
    LA_TRY(fetch_new(file, u64(heap + 24), m.n_names, "a heap lies outside the file", &names));
    m.names = (const char *)names;
    la_status status = read_members(&m, u64(message.at), -1);
    if (status == LA_OK) {
        group->links = la_pool_take(&file->pool, m.count, sizeof *m.links, file->err);
        status = group->links ? LA_OK : file->err->status;
    }
    if (status == LA_OK && m.count) {
        memcpy(group->links, m.links, m.count * sizeof *m.links);
        qsort(group->links, m.count, sizeof *m.links, by_link_name);
        group->n_links = (int64_t)m.count;
    }
    free(m.links);
    return status;
}

const la_h5_link *la_h5_link_of(const la_h5_object *group, const char *name) {
    la_h5_link key = {.name = name};
    return group->n_links
               ? bsearch(&key, group->links, (size_t)group->n_links, sizeof key, by_link_name)
               : NULL;
}

/* ---- objects ---- */

/* A header is a list of pieces. */
typedef struct piece {
    struct piece *next;
    span bytes;
} piece;

static la_status next_piece(la_h5_file *file, uint64_t address, uint64_t length, piece **tail) {
    unsigned char *bytes;
    piece *p = la_pool_take(&file->pool, 1, sizeof *p, file->err);
    if (!p)
        return file->err->status;
    /* the piece itself, too, so that many empty ones cost what they are */
    LA_TRY(charge(file, 0, sizeof *p, "a file without an object"));
    LA_TRY(fetch_new(file, address, length, "an object's header lies outside the file", &bytes));
    p->bytes = (span){bytes, (size_t)length};
    (*tail)->next = p;
    *tail = p;
    return LA_OK;
}

typedef struct message {
    int kind;
    bool shared; /* it is elsewhere: not what laplora writes */
    span body;
} message;

/* false: the piece has none left. */
static bool next_message(span *from, message *m) {
    span head;
    if (!take(from, MESSAGE_PREFIX, &head))
        return false;
    m->kind = u16(head.at);
    m->shared = head.at[4] & 2;
    return take(from, u16(head.at + 2), &m->body);
}

/* A header's messages about an array. */
typedef struct described {
    message space, type, layout, filters, table;
    bool external;
} described;

static la_status first_piece(la_h5_object *object, piece *list) {
    unsigned char head[HEADER_PREFIX];
    la_h5_file *file = object->file;
    piece *tail = list;
    LA_TRY(fetch(file, object->address, head, sizeof head,
                 "an object's header lies outside the file"));
    if (head[0] != 1)
        return foreign(file, object->address, "expected an object's header of version 1");
    LA_TRY(next_piece(file, object->address + sizeof head, u32(head + 8), &tail));
    /* pieces that the list of pieces goes on with */
    for (piece *p = list->next; p; p = p->next) {
        message m;
        for (span rest = p->bytes; next_message(&rest, &m);)
            if (m.kind == MESSAGE_CONTINUED && m.body.length >= 16)
                LA_TRY(next_piece(file, u64(m.body.at), u64(m.body.at + 8), &tail));
    }
    return LA_OK;
}

static int by_attribute_name(const void *a, const void *b) {
    return strcmp(((const la_h5_attribute *)a)->name, ((const la_h5_attribute *)b)->name);
}

static la_status read_messages(la_h5_object *object, const piece *list, described *d) {
    size_t count = 0;
    message m;
    for (const piece *p = list; p; p = p->next)
        for (span rest = p->bytes; next_message(&rest, &m);)
            count += m.kind == MESSAGE_ATTRIBUTE;
    object->attributes =
        la_pool_take(&object->file->pool, count, sizeof *object->attributes, object->file->err);
    if (!object->attributes)
        return object->file->err->status;
    for (const piece *p = list; p; p = p->next) {
        for (span rest = p->bytes; next_message(&rest, &m);) {
            message *known = m.kind == MESSAGE_SPACE     ? &d->space
                             : m.kind == MESSAGE_TYPE    ? &d->type
                             : m.kind == MESSAGE_LAYOUT  ? &d->layout
                             : m.kind == MESSAGE_FILTERS ? &d->filters
                             : m.kind == MESSAGE_TABLE   ? &d->table
                                                         : NULL;
            d->external |= m.kind == MESSAGE_EXTERNAL;
            if (known)
                *known = m;
            if (m.kind != MESSAGE_ATTRIBUTE || m.shared)
                continue;
            if (!parse_attribute(m.body, &object->attributes[object->n_attributes++]))
                return foreign(object->file, object->address, "an attribute that cannot be read");
        }
    }
    if (object->n_attributes)
        qsort(object->attributes, (size_t)object->n_attributes, sizeof *object->attributes,
              by_attribute_name);
    return LA_OK;
}

const la_h5_attribute *la_h5_attribute_of(const la_h5_object *object, const char *name) {
    la_h5_attribute key = {.name = name};
    return object->n_attributes ? bsearch(&key, object->attributes, (size_t)object->n_attributes,
                                          sizeof key, by_attribute_name)
                                : NULL;
}

/* The only filter that is known: a checksum behind each chunk. */
static bool is_checksum(const message *filters) {
    span s = filters->body;
    if (filters->shared || s.length < 4 || s.at[1] != 1)
        return false;
    size_t prefix = s.at[0] == 1 ? 8 : 2;
    return (s.at[0] == 1 || s.at[0] == 2) && s.length >= prefix + 2 &&
           u16(s.at + prefix) == FILTER_FLETCHER32;
}

/* Shape, type and place of an array's elements. All of them are in the file: what it takes to hold
 * them is checked here, before memory is asked for. */
static la_status read_array(la_h5_object *array, const described *d) {
    la_h5_file *file = array->file;
    uint64_t shape[2], bytes;
    int rank;
    if (d->space.shared || !parse_space(d->space.body, &rank, shape) || rank < 1)
        return foreign(file, array->address, "an array whose extent is not known");
    array->type = d->type.shared ? LA_H5_OTHER : parse_type(d->type.body, &array->size);
    if (array->type == LA_H5_OTHER || array->type == LA_H5_TEXT)
        return foreign(file, array->address, "an array of a type that laplora does not write");
    if (__builtin_mul_overflow(shape[0], shape[1], &bytes) ||
        __builtin_mul_overflow(bytes, array->size, &bytes) || bytes > file->budget || !bytes)
        return foreign(file, array->address, "an array that is larger than the file, or empty");
    span s = d->layout.body, dims;
    if (d->external || d->layout.shared || s.length < 3 || s.at[0] != 3)
        return foreign(file, array->address, "an array of a layout that laplora does not write");
    int kind = s.at[1];
    if (kind == 1 && s.length >= 18 && !d->filters.body.length) {
        array->data = u64(s.at + 2);
        if (u64(s.at + 10) < bytes)
            return foreign(file, array->address, "an array with fewer bytes than its extent has");
    } else if (kind == 2 && s.length >= 11 && s.at[2] == rank + 1 &&
               matches(s, 11 + 4 * (size_t)rank, &(uint32_t){(uint32_t)array->size}, 4) &&
               is_checksum(&d->filters)) {
        array->data = u64(s.at + 3);
        dims = (span){s.at + 11, 4 * (size_t)rank};
        array->chunk_rows = u32(dims.at);
        array->chunked = true;
        if (!array->chunk_rows || (rank == 2 && u32(dims.at + 4) != shape[1]))
            return foreign(file, array->address, "an array whose chunks are not of whole rows");
    } else {
        return foreign(file, array->address, "an array of a layout that laplora does not write");
    }
    array->rank = rank;
    array->shape[0] = (int64_t)shape[0];
    array->shape[1] = (int64_t)shape[1];
    return LA_OK;
}

la_status la_h5_open(la_h5_file *file, uint64_t address, la_h5_object *object) {
    piece list = {0};
    described d = {0};
    *object = (la_h5_object){.file = file, .address = address};
    LA_TRY(first_piece(object, &list));
    LA_TRY(read_messages(object, list.next, &d));
    if (d.table.kind && !d.table.shared)
        return read_group(object, d.table.body);
    return d.layout.kind ? read_array(object, &d) : LA_OK;
}

la_status la_h5_root(la_h5_file *file, la_h5_object *root) {
    unsigned char block[SUPERBLOCK_BYTES];
    LA_TRY(fetch(file, 0, block, sizeof block, "expected the start of an HDF5 file"));
    if (memcmp(block, "\x89HDF\r\n\x1a\n", 8))
        return foreign(file, 0, "expected the start of an HDF5 file");
    if (block[8] || block[13] != 8 || block[14] != 8)
        return foreign(file, 0, "expected version 0 of the HDF5 format, with addresses of 8 bytes");
    if (u64(block + 24) != file->start)
        return foreign(file, 0, "the HDF5 part begins elsewhere than it says");
    return la_h5_open(file, u64(block + 64), root);
}

/* ---- elements ---- */

/* HDF5's sums of 16-bit big-endian words, each by the rule of ones' complement: modulo 65535, and 0
 * for zeros only. As swapping the bytes of all words swaps those of the sums, words are added as
 * they lie. */
static uint32_t fold(uint64_t sum) {
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint32_t)sum;
}

static uint32_t swapped(uint32_t sum) {
    return (sum & 0xff) << 8 | sum >> 8;
}

static uint32_t fletcher32(const unsigned char *bytes, size_t length) {
    enum { WORDS = 256 }; /* as many as the inner sums hold in 32 bits */
    uint64_t sum = 0, sums = 0;
    for (size_t words = length / 2; words;) {
        uint16_t w[WORDS];
        uint32_t count = words < WORDS ? (uint32_t)words : WORDS, plain = 0, weighted = 0;
        memcpy(w, bytes, sizeof *w * count);
        for (uint32_t i = 0; i < count; i++) {
            plain += w[i];
            weighted += (count - i) * w[i];
        }
        sums = fold(sums + count * sum + weighted);
        sum = fold(sum + plain);
        bytes += sizeof *w * count;
        words -= count;
    }
    if (length % 2) {
        sum = fold(sum + *bytes); /* the upper half of a last word */
        sums = fold(sums + sum);
    }
    return swapped((uint32_t)sums) << 16 | swapped((uint32_t)sum);
}

/* False where any exponent is all ones. */
static bool finite_floats(const unsigned char *at, size_t size, size_t count) {
    uint64_t bad = 0;
    if (size == 4) {
        uint32_t any = 0;
        for (size_t i = 0; i < count; i++) {
            uint32_t bits;
            memcpy(&bits, at + 4 * i, sizeof bits);
            any |= (bits & 0x7f800000u) == 0x7f800000u;
        }
        return !any;
    }
    for (size_t i = 0; i < count; i++)
        bad |= (u64(at + 8 * i) & 0x7ff0000000000000u) == 0x7ff0000000000000u;
    return !bad;
}

typedef struct copy {
    const la_h5_object *array;
    unsigned char *to;
    int64_t row;          /* of the next chunk */
    unsigned char *spare; /* of a chunk that is cut at the end */
    bool finite;
} copy;

/* Rows from c->row on; key: size and place of the chunk. */
static la_status read_chunk(copy *c, const unsigned char *key, uint64_t address) {
    const la_h5_object *a = c->array;
    la_h5_file *file = a->file;
    size_t row_bytes = (size_t)a->shape[1] * a->size;
    uint64_t bytes = (uint64_t)a->chunk_rows * row_bytes;
    int64_t rows = a->shape[0] - c->row;
    if (rows > a->chunk_rows)
        rows = a->chunk_rows;
    if (bytes / row_bytes != (uint64_t)a->chunk_rows || u32(key) != bytes + CHECKSUM_BYTES ||
        u32(key + 4))
        return foreign(file, address, "a chunk of another size than it should be");
    if (rows < 1 || u64(key + 8) != (uint64_t)c->row || (a->rank == 2 && u64(key + 16)))
        return foreign(file, address, "a chunk of another place than it should be");
    LA_TRY(la_check_interrupt(file->err));
    LA_TRY(charge(file, address, bytes + CHECKSUM_BYTES, "a chunk lies outside the file"));
    unsigned char *to = c->to + (size_t)c->row * row_bytes, sum[CHECKSUM_BYTES];
    unsigned char *whole = rows == a->chunk_rows ? to : (c->spare = malloc(bytes));
    if (!whole)
        return la_fail(file->err, LA_RESOURCE, "%s: out of memory: %llu bytes", file->path,
                       (unsigned long long)bytes);
    uint64_t at = file->start + address;
    LA_TRY(la_h5_bytes(file, at, whole, bytes));
    LA_TRY(la_h5_bytes(file, at + bytes, sum, sizeof sum));
    if (u32(sum) != fletcher32(whole, bytes))
        return foreign(file, address, "a chunk whose checksum is wrong");
    if (whole != to)
        memcpy(to, whole, (size_t)rows * row_bytes);
    if (a->type == LA_H5_FLOAT)
        c->finite &= finite_floats(to, a->size, (size_t)rows * (size_t)a->shape[1]);
    c->row += rows;
    return LA_OK;
}

/* Chunks in the order of rows, none left out. */
static la_status read_chunks(copy *c, uint64_t address, int level) {
    size_t key = 8 + 8 * (size_t)(c->array->rank + 1), count;
    unsigned char *entries;
    LA_TRY(read_node(c->array->file, address, 1, key, &level, &count, &entries));
    for (size_t i = 0; i < count; i++) {
        const unsigned char *entry = entries + i * (key + 8);
        uint64_t below = u64(entry + key);
        LA_TRY(level ? read_chunks(c, below, level - 1) : read_chunk(c, entry, below));
    }
    return LA_OK;
}

la_status la_h5_read(const la_h5_object *array, void *to, bool *finite) {
    la_h5_file *file = array->file;
    size_t count = (size_t)array->shape[0] * (size_t)array->shape[1], bytes = count * array->size;
    *finite = true;
    if (!array->chunked && array->data == NOWHERE) { /* nothing was written: zeros */
        LA_TRY(charge(file, 0, bytes, "an array that is larger than the file"));
        memset(to, 0, bytes);
        return LA_OK;
    }
    if (!array->chunked) {
        LA_TRY(fetch(file, array->data, to, bytes, "an array lies outside the file"));
        *finite = array->type != LA_H5_FLOAT || finite_floats(to, array->size, count);
        return LA_OK;
    }
    copy c = {.array = array, .to = to, .finite = true};
    la_status status = read_chunks(&c, array->data, -1);
    if (status == LA_OK && c.row < array->shape[0])
        status = foreign(file, array->address, "an array whose last rows are missing");
    free(c.spare);
    *finite = c.finite;
    return status;
}
