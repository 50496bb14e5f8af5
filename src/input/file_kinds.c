#include "input/file_kinds.h"
#include "input/folders.h"

#include <stdio.h>
#include <string.h>

#define PANDAS(call)                                                                               \
    "python3 -c \"import pandas; pandas." call ".to_json('rows.jsonl', orient='records', "         \
    "lines=True)\""
#define KIND(name, magic, at, sort, step)                                                          \
    { name, magic, sizeof magic - 1, at, LA_MAGIC_##sort, step }

static const char convert[] = "give JSONL, CSV or TSV";

static const la_file_kind kinds[] = {
    KIND("a Parquet file", "PAR1", 0, LETTERS, "convert it: " PANDAS("read_parquet('%s')")),
    KIND("an encrypted Parquet file", "PARE", 0, LETTERS, convert),
    KIND("an Arrow or Feather file", "ARROW1\0", 0, BYTES,
         "convert it: " PANDAS("read_feather('%s')")),
    KIND("a Feather file", "FEA1", 0, LETTERS, "convert it: " PANDAS("read_feather('%s')")),
    KIND("an Arrow stream", "\xff\xff\xff\xff", 0, BYTES,
         "convert it: python3 -c \"import datasets; "
         "datasets.Dataset.from_file('%s').to_json('rows.jsonl')\""),
    KIND("an ORC file", "ORC", 0, LETTERS, "convert it: " PANDAS("read_orc('%s')")),
    KIND("an Avro file", "Obj\x01", 0, BYTES, convert),
    KIND("a zip archive or an Excel workbook", "PK\x03\x04", 0, BYTES,
         "unzip it, or convert the workbook: " PANDAS("read_excel('%s')")),
    KIND("an empty zip archive", "PK\x05\x06", 0, BYTES, convert),
    KIND("an old Excel workbook", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0, BYTES,
         "convert it: " PANDAS("read_excel('%s')")),
    KIND("compressed by zstd", "\x28\xb5\x2f\xfd", 0, BYTES, "unpack it: unzstd '%s'"),
    KIND("compressed by bzip2", "1AY&SY", 4, BYTES, "unpack it: bunzip2 --keep '%s'"),
    KIND("compressed by xz", "\xfd\x37zXZ\0", 0, BYTES, "unpack it: unxz --keep '%s'"),
    KIND("compressed by lz4", "\x04\x22\x4d\x18", 0, BYTES, "unpack it: unlz4 '%s'"),
    KIND("compressed by compress", "\x1f\x9d", 0, BYTES, "unpack it: uncompress '%s'"),
    KIND("a 7-Zip archive", "7z\xbc\xaf\x27\x1c", 0, BYTES, "unpack it"),
    KIND("a RAR archive", "Rar!\x1a\x07", 0, BYTES, "unpack it"),
    KIND("a tar archive", "ustar", 257, LETTERS, "unpack it: tar -xf '%s'"),
    KIND("an SQLite database", "SQLite format 3\0", 0, BYTES,
         "export the table: sqlite3 -header -csv '%s' 'select * from TABLE' > rows.csv"),
    KIND("an HDF5 file", "\x89HDF\r\n\x1a\n", 0, BYTES, convert),
    KIND("a laplora posterior", "laplora posterior", 0, LETTERS,
         "it goes to --posterior of laplora predict"),
    KIND("a part of a laplora posterior", "laplora part", 0, LETTERS,
         "laplora merge makes a posterior of all its parts"),
    KIND("a checkpoint of laplora fit", "laplora sums", 0, LETTERS,
         "the fit goes on with --resume added to its command line"),
    KIND("a NumPy array", "\x93NUMPY", 0, BYTES, convert),
    KIND("a Python pickle", "\x80\x02", 0, BYTES, "convert it: " PANDAS("read_pickle('%s')")),
    KIND("a Python pickle", "\x80\x03", 0, BYTES, "convert it: " PANDAS("read_pickle('%s')")),
    KIND("a Python pickle", "\x80\x04\x95", 0, BYTES, "convert it: " PANDAS("read_pickle('%s')")),
    KIND("a Python pickle", "\x80\x05\x95", 0, BYTES, "convert it: " PANDAS("read_pickle('%s')")),
    KIND("a safetensors file", "\0\0\0{\"", 5, BYTES,
         "bases and adapters are given by the folder that they lie in"),
    KIND("a GGUF file", "GGUF", 0, LETTERS, "take the model's safetensors"),
    KIND("a PDF", "%PDF-", 0, MARKUP, convert),
    KIND("a program", "\x7f\x45LF", 0, BYTES, convert),
    KIND("a picture", "\x89PNG\r\n\x1a\n", 0, BYTES, convert),
    KIND("a picture", "\xff\xd8\xff", 0, BYTES, convert),
    KIND("a Git LFS pointer, not the file itself", "version https://git-lfs", 0, MARKUP,
         "run `git lfs pull`"),
    KIND("a web page", "<!DOCTYPE html", 0, MARKUP, "download the file itself"),
    KIND("a web page", "<!doctype html", 0, MARKUP, "download the file itself"),
    KIND("a web page", "<html", 0, MARKUP, "download the file itself"),
    KIND("XML", "<?xml", 0, MARKUP, convert),
};

static bool has_control_bytes(const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (byte < '\t' || (byte > '\r' && byte < 0x1b))
            return true;
    }
    return false;
}

const la_file_kind *la_file_kind_of(const char *bytes, size_t length, bool messages,
                                    bool *undecided) {
    *undecided = false;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        const la_file_kind *kind = &kinds[k];
        size_t there = length > kind->at ? length - kind->at : 0;
        size_t compared = there < kind->length ? there : kind->length;
        if ((messages && kind->magic_kind == LA_MAGIC_MARKUP) ||
            memcmp(bytes + (there ? kind->at : 0), kind->magic, compared))
            continue;
        if (compared == kind->length &&
            (kind->magic_kind != LA_MAGIC_LETTERS || has_control_bytes(bytes, length)))
            return kind;
        /* marks far inside the file are not waited for */
        *undecided |= kind->at == 0 && compared < kind->length;
    }
    return NULL;
}

la_status la_file_kind_refuse(const la_file_kind *kind, const char *path, const char *expected,
                              la_error *err) {
    char step[2048];
    const char *mark = strstr(kind->step, "%s");
    if (mark)
        snprintf(step, sizeof step, "%.*s%s%s", (int)(mark - kind->step), kind->step, path,
                 mark + 2);
    else
        snprintf(step, sizeof step, "%s", kind->step);
    return la_fail(err, LA_UNSUPPORTED, "%s: is %s, expected %s; %s", path, kind->name, expected,
                   step);
}

const char *la_folder_step(const char *path) {
    static const char *const files[] = {"dataset_dict.json", "dataset_info.json", "state.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (la_folder_has(path, files[i]))
            return i ? "; it is a data set as datasets saves it: write its rows with "
                       "datasets.load_from_disk(FOLDER).to_json(\"rows.jsonl\")"
                     : "; it holds data sets as datasets saves them: write one's rows with "
                       "datasets.load_from_disk(FOLDER)[SPLIT].to_json(\"rows.jsonl\")";
    return "";
}

la_encoding_kind la_encoding_of(const char *bytes, size_t length, size_t *mark) {
    const unsigned char *b = (const unsigned char *)bytes;
    *mark = 0;
    if (length >= 4 && (!memcmp(b, "\xff\xfe\0", 4) || !memcmp(b, "\0\0\xfe\xff", 4)))
        return LA_ENCODING_UTF32;
    if (length >= 2 && (!memcmp(b, "\xff\xfe", 2) || !memcmp(b, "\xfe\xff", 2))) {
        *mark = 2;
        return b[0] == 0xff ? LA_ENCODING_UTF16_LE : LA_ENCODING_UTF16_BE;
    }
    if (length >= 3 && !memcmp(b, "\xef\xbb\xbf", 3))
        *mark = 3;
    /* without a mark: two letters with their zeros, and no text in UTF-8 has zeros */
    if (length >= 4 && b[0] && !b[1] && b[2] && !b[3])
        return LA_ENCODING_UTF16_LE;
    if (length >= 4 && !b[0] && b[1] && !b[2] && b[3])
        return LA_ENCODING_UTF16_BE;
    return LA_ENCODING_UTF8;
}
