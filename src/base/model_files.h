/* Files of a base or an adapter, by their names. */
#ifndef LA_BASE_MODEL_FILES_H
#define LA_BASE_MODEL_FILES_H

typedef enum la_model_file {
    LA_MODEL_FILE_NONE,
    LA_MODEL_FILE_READ, /* opening a base or an adapter may read it */
    LA_MODEL_FILE_MAIN  /* the same; it stands for the whole directory */
} la_model_file;

/* name: without its directory */
la_model_file la_model_file_of(const char *name);

#endif
