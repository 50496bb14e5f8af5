#include "base/model_files.h"

#include <string.h>

static const struct {
    const char *text;
    enum { NAME, BEGIN, END } at;
    la_model_file kind;
} files[] = {
    {"config.json", NAME, LA_MODEL_FILE_MAIN},    {"adapter_config.json", NAME, LA_MODEL_FILE_MAIN},
    {".safetensors", END, LA_MODEL_FILE_MAIN},    {".bin", END, LA_MODEL_FILE_READ},
    {"config", BEGIN, LA_MODEL_FILE_READ},        {"adapter_", BEGIN, LA_MODEL_FILE_READ},
    {"model", BEGIN, LA_MODEL_FILE_READ},         {"pytorch_model", BEGIN, LA_MODEL_FILE_READ},
    {"tokenizer", BEGIN, LA_MODEL_FILE_READ},     {"special_tokens_map", BEGIN, LA_MODEL_FILE_READ},
    {"added_tokens", BEGIN, LA_MODEL_FILE_READ},  {"vocab", BEGIN, LA_MODEL_FILE_READ},
    {"merges", BEGIN, LA_MODEL_FILE_READ},        {"generation_", BEGIN, LA_MODEL_FILE_READ},
    {"chat_template", BEGIN, LA_MODEL_FILE_READ},
};

la_model_file la_model_file_of(const char *name) {
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *text = files[i].text;
        if (files[i].at == NAME    ? !strcmp(name, text)
            : files[i].at == BEGIN ? !strncmp(name, text, strlen(text))
                                   : dot && !strcmp(dot, text))
            return files[i].kind;
    }
    return LA_MODEL_FILE_NONE;
}
