/* Facts about files of an unfinished fit: parts, checkpoints. */
#include "cli/file_facts.h"
#include "output/part_file.h"
#include "pipeline/sums_image.h"

static const la_seal checkpoint = {.magic = "laplora sums"};

bool la_sums_looks_like(const char *path) {
    return la_seal_is_at(&la_part_kind.seal, path) || la_seal_is_at(&checkpoint, path);
}

static void add_part(const la_part *part, json_t *out) {
    const la_provenance *from = &part->of.provenance;
    json_object_update_new(
        out, json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:s}", "kind", "part", "part",
                       (json_int_t)part->number, "n_parts", (json_int_t)part->n_parts, "n_rows",
                       (json_int_t)part->n_rows, "n_rows_of_all", (json_int_t)part->n_all,
                       "curvature", la_curvature_names[part->of.curvature], "params",
                       la_params_names[part->of.params]));
    if (part->task)
        json_object_set_new(out, "task", json_string(part->task));
    json_object_set_new(out, "n_classes", json_integer(part->of.n_classes));
    la_facts_text(out, "base", from->base_path);
    json_object_set_new(out, "base_quant", json_string(la_base_quant_names[from->base_quant]));
    json_object_set_new(out, "base_digest", json_string(from->base_digest));
    la_facts_text(out, "adapter", from->adapter_path);
    json_object_set_new(out, "adapter_digest", json_string(from->adapter_digest));
    json_object_set_new(out, "tokenizer_digest", json_string(from->tokenizer_digest));
    json_object_set_new(out, "data_digest", json_string(from->data_digest));
    json_object_set_new(
        out, "next",
        json_sprintf("laplora merge makes a posterior of all %lld parts, and answers need that",
                     (long long)part->n_parts));
}

la_status la_sums_facts(const char *path, json_t *out, la_error *err) {
    la_part part;
    la_sums_file *file;
    if (la_seal_is_at(&checkpoint, path)) {
        json_object_set_new(out, "kind", json_string("checkpoint"));
        json_object_set_new(out, "next",
                            json_string("the fit that wrote it goes on with --resume added to its "
                                        "command line, and answers need its posterior"));
        return LA_OK;
    }
    la_status status = la_part_open(path, &part, &file, err);
    if (status == LA_OK)
        add_part(&part, out);
    la_part_close(&part, file);
    return status;
}
