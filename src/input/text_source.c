#include "input/text_source.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "base/stop.h"
#include "input/file_kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* TEXT_BYTES: what a half UTF-16 unit kept over and all of PLAIN_BYTES become */
enum { PLAIN_BYTES = 1 << 16, TEXT_BYTES = 2 * PLAIN_BYTES, ROW_BYTES_MAX = 256 << 20 };

struct la_text_source {
    int file;
    char *name;
    const char *expected;
    la_digest *digest;
    double size, consumed;
    int64_t line;
    bool started, ended; /* ended: no more bytes in the file */
    bool regular, standard, messages;
    /* gzip: stored bytes and where their unpacking is */
    bool packed, unpacking;
    z_stream unpack;
    char stored[PLAIN_BYTES];
    /* bytes of the text in its own encoding */
    char plain[PLAIN_BYTES];
    size_t plain_at, plain_n;
    /* the text: plain itself, or what it becomes */
    la_encoding_kind encoding;
    bool cr_ends;  /* lines end with CR */
    uint32_t high; /* half of a surrogate pair */
    char odd;      /* half of a UTF-16 unit */
    bool has_odd;
    char *text;
    size_t text_at, text_n;
    char converted[TEXT_BYTES];
};

static la_status spoilt(const la_text_source *source, const char *what, la_error *err) {
    return la_fail(err, LA_BAD_INPUT, "%s:%lld: %s", source->name, (long long)source->line + 1,
                   what);
}

/* Whatever is there, at least a byte unless the file has ended. */
static la_status read_stored(la_text_source *source, char *to, size_t room, size_t *got,
                             la_error *err) {
    ssize_t n = -1;
    *got = 0;
    while (!source->ended && (n = read(source->file, to, room)) < 0 && errno == EINTR)
        LA_TRY(la_check_interrupt(err));
    if (!source->ended && n < 0)
        return la_fail(err, LA_RESOURCE, "%s: cannot read: %s", source->name, la_errno_text(errno));
    source->ended |= n <= 0;
    *got = n > 0 ? (size_t)n : 0;
    source->consumed += (double)*got;
    if (source->digest && *got)
        la_digest_add(source->digest, to, *got);
    return LA_OK;
}

/* ---- gzip ---- */

static la_status begin_unpacking(la_text_source *source, la_error *err) {
    enum { WINDOW = 15, GZIP = 16 };
    memcpy(source->stored, source->plain, source->plain_n);
    source->unpack.next_in = (Bytef *)source->stored;
    source->unpack.avail_in = (uInt)source->plain_n;
    source->plain_n = 0;
    if (inflateInit2(&source->unpack, WINDOW + GZIP) != Z_OK)
        return la_fail(err, LA_RESOURCE, "%s: out of memory to unpack it", source->name);
    source->packed = source->unpacking = true;
    return LA_OK;
}

static la_status more_stored(la_text_source *source, la_error *err) {
    size_t got;
    LA_TRY(read_stored(source, source->stored, sizeof source->stored, &got, err));
    source->unpack.next_in = (Bytef *)source->stored;
    source->unpack.avail_in = (uInt)got;
    return LA_OK;
}

/* Between members: another one begins, or zeros fill the file up. */
static la_status next_member(la_text_source *source, la_error *err) {
    z_stream *z = &source->unpack;
    for (;;) {
        while (z->avail_in && !*z->next_in) {
            z->next_in++;
            z->avail_in--;
        }
        if (z->avail_in)
            break;
        LA_TRY(more_stored(source, err));
        if (!z->avail_in)
            return LA_OK;
    }
    inflateReset(z);
    source->unpacking = true;
    return LA_OK;
}

static la_status unpack(la_text_source *source, char *to, size_t room, size_t *got, la_error *err) {
    z_stream *z = &source->unpack;
    *got = 0;
    while (!*got) {
        if (!source->unpacking)
            LA_TRY(next_member(source, err));
        if (!source->unpacking)
            return LA_OK;
        if (!z->avail_in)
            LA_TRY(more_stored(source, err));
        z->next_out = (Bytef *)to;
        z->avail_out = (uInt)room;
        int code = inflate(z, Z_NO_FLUSH);
        *got = room - z->avail_out;
        if (code == Z_MEM_ERROR)
            return la_fail(err, LA_RESOURCE, "%s: out of memory to unpack it", source->name);
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return spoilt(source, "the gzip data is damaged; test it with gunzip -t", err);
        if (code == Z_STREAM_END)
            source->unpacking = false;
        else if (source->ended && !z->avail_in && !*got)
            return spoilt(source, "the gzip data ends early; test it with gunzip -t", err);
    }
    return LA_OK;
}

/* ---- encodings ---- */

/* Appends more bytes to plain. *got: how many. */
static la_status fill_plain(la_text_source *source, size_t *got, la_error *err) {
    char *to = source->plain + source->plain_n;
    size_t room = sizeof source->plain - source->plain_n;
    *got = 0;
    if (!room)
        return LA_OK;
    LA_TRY(source->packed ? unpack(source, to, room, got, err)
                          : read_stored(source, to, room, got, err));
    source->plain_n += *got;
    return LA_OK;
}

static la_status put_unit(la_text_source *source, uint32_t unit, la_error *err) {
    bool high = unit >= 0xd800 && unit < 0xdc00, low = unit >= 0xdc00 && unit < 0xe000;
    if (low != (source->high != 0))
        return spoilt(source, "not valid UTF-16: half of a surrogate pair", err);
    if (low)
        unit = 0x10000 + ((source->high - 0xd800) << 10) + (unit - 0xdc00);
    if (!high)
        source->text_n += la_utf8_put((int32_t)unit, source->text + source->text_n);
    source->high = high ? unit : 0;
    return LA_OK;
}

static la_status convert_utf16(la_text_source *source, la_error *err) {
    bool big = source->encoding == LA_ENCODING_UTF16_BE;
    source->text = source->converted;
    for (; source->plain_at < source->plain_n; source->plain_at++) {
        unsigned char byte = (unsigned char)source->plain[source->plain_at];
        unsigned char first = (unsigned char)source->odd;
        if (source->has_odd)
            LA_TRY(put_unit(source, big ? (uint32_t)first << 8 | byte : (uint32_t)byte << 8 | first,
                            err));
        else
            source->odd = (char)byte;
        source->has_odd = !source->has_odd;
    }
    return LA_OK;
}

/* More text behind what was used up. *got: whether there is. */
static la_status fill_text(la_text_source *source, bool *got, la_error *err) {
    size_t n = source->plain_n - source->plain_at;
    *got = false;
    source->text_at = source->text_n = 0;
    if (!n) {
        source->plain_at = source->plain_n = 0;
        LA_TRY(fill_plain(source, &n, err));
    }
    if (!n && (source->has_odd || source->high))
        return spoilt(source, "not valid UTF-16: the file ends within a letter", err);
    if (source->encoding == LA_ENCODING_UTF8) {
        source->text = source->plain + source->plain_at;
        source->text_n = n;
        source->plain_at = source->plain_n;
    } else {
        LA_TRY(convert_utf16(source, err));
    }
    *got = n > 0;
    return LA_OK;
}

/* ---- the beginning ---- */

/* Reads until the first bytes say what the file is. A line that somebody types is not waited
 * for. */
static la_status look(la_text_source *source, la_error *err) {
    bool undecided = true;
    while (undecided) {
        size_t got;
        LA_TRY(fill_plain(source, &got, err));
        const la_file_kind *kind =
            la_file_kind_of(source->plain, source->plain_n, source->messages, &undecided);
        if (kind)
            return la_file_kind_refuse(kind, source->name, source->expected, err);
        undecided |= source->plain_n < 4 && !memchr(source->plain, '\n', source->plain_n);
        undecided &= got > 0;
    }
    return LA_OK;
}

/* A file whose lines end with CR alone, as old spreadsheets write them. */
static bool is_cr_file(const la_text_source *source) {
    const char *cr = memchr(source->plain, '\r', source->plain_n);
    return source->regular && cr && cr + 1 < source->plain + source->plain_n &&
           !memchr(source->plain, '\n', source->plain_n);
}

static la_status start(la_text_source *source, la_error *err) {
    if (source->started)
        return LA_OK;
    source->started = true;
    LA_TRY(look(source, err));
    if (source->plain_n >= 2 && !memcmp(source->plain, "\x1f\x8b", 2)) {
        LA_TRY(begin_unpacking(source, err));
        LA_TRY(look(source, err));
    }
    source->encoding = la_encoding_of(source->plain, source->plain_n, &source->plain_at);
    if (source->encoding == LA_ENCODING_UTF32)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: is in UTF-32, expected UTF-8; convert it: iconv -f UTF-32 -t UTF-8",
                       source->name);
    source->cr_ends = source->encoding == LA_ENCODING_UTF8 && is_cr_file(source);
    return LA_OK;
}

/* ---- the interface ---- */

la_status la_text_source_open(const char *path, const char *expected, bool messages,
                              la_digest *digest, la_text_source **out, la_error *err) {
    bool standard = !strcmp(path, "-");
    const char *name = standard ? "standard input" : path;
    struct stat info;
    *out = NULL;
    la_text_source *source = la_alloc(1, sizeof *source, err);
    if (!source)
        return err->status;
    source->expected = expected;
    source->digest = digest;
    source->messages = messages;
    source->standard = standard;
    source->file = -1;
    source->name = la_alloc(strlen(name) + 1, 1, err);
    if (!source->name) {
        la_text_source_close(source);
        return err->status;
    }
    strcpy(source->name, name);
    do {
        source->file = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    } while (source->file < 0 && errno == EINTR && la_check_interrupt(err) == LA_OK);
    if (err->status == LA_OK && (source->file < 0 || fstat(source->file, &info)))
        (void)la_fail(err, la_errno_status(errno), "%s: cannot read: %s", name,
                      la_errno_text(errno));
    else if (err->status == LA_OK && S_ISDIR(info.st_mode))
        (void)la_fail(err, LA_BAD_INPUT, "%s: is a directory, expected %s%s", name, expected,
                      la_folder_step(path));
    if (err->status != LA_OK) {
        la_text_source_close(source);
        return err->status;
    }
    source->regular = S_ISREG(info.st_mode);
    source->size = source->regular ? (double)info.st_size : 0;
    *out = source;
    return LA_OK;
}

void la_text_source_close(la_text_source *source) {
    if (!source)
        return;
    if (source->file >= 0 && !source->standard)
        close(source->file);
    if (source->packed)
        inflateEnd(&source->unpack);
    free(source->name);
    free(source);
}

la_status la_text_source_peek(la_text_source *source, const char **text, size_t *length,
                              la_error *err) {
    bool more = true;
    LA_TRY(start(source, err));
    if (source->text_at == source->text_n)
        LA_TRY(fill_text(source, &more, err));
    /* text that lies in plain grows there; converted text is long enough as it is */
    while (source->encoding == LA_ENCODING_UTF8 && more &&
           !memchr(source->text + source->text_at, source->cr_ends ? '\r' : '\n',
                   source->text_n - source->text_at)) {
        size_t got;
        LA_TRY(fill_plain(source, &got, err));
        source->text_n += got;
        source->plain_at = source->plain_n;
        more = got > 0;
    }
    *text = source->text + source->text_at;
    *length = source->text_n - source->text_at;
    return LA_OK;
}

la_status la_text_source_line(la_text_source *source, char **record, size_t *length,
                              size_t *capacity, bool *more, la_error *err) {
    size_t before = *length;
    bool ended = false;
    *more = false;
    LA_TRY(start(source, err));
    while (!ended) {
        bool got = true;
        if (source->text_at == source->text_n)
            LA_TRY(fill_text(source, &got, err));
        if (!got)
            break;
        char *from = source->text + source->text_at;
        size_t n = source->text_n - source->text_at;
        char *end = memchr(from, source->cr_ends ? '\r' : '\n', n);
        if (end) {
            *end = '\n';
            n = (size_t)(end - from) + 1;
            ended = true;
        }
        if (*length - before + n > ROW_BYTES_MAX)
            return la_fail(err, LA_BAD_INPUT, "%s:%lld: a row of more than %d bytes", source->name,
                           (long long)source->line + 1, (int)ROW_BYTES_MAX);
        LA_TRY(la_grow(record, capacity, *length + n + 1, 1, err));
        memcpy(*record + *length, from, n);
        *length += n;
        source->text_at += n;
    }
    LA_TRY(la_grow(record, capacity, *length + 1, 1, err));
    (*record)[*length] = 0;
    *more = *length > before;
    source->line += *more;
    return LA_OK;
}

int64_t la_text_source_at(const la_text_source *source) {
    return source->line;
}

double la_text_source_fraction(const la_text_source *source) {
    return source->size > 0 ? source->consumed / source->size : 0;
}
