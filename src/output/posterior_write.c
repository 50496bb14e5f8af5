#include "output/hdf5_write.h"
#include "output/posterior_fields.h"
#include "output/posterior_layout.h"

static la_status put_all(void *user, la_h5_writer *w) {
    const la_posterior *p = user;
    const la_posterior_head head = {.format = LA_POSTERIOR_FORMAT,
                                    .schema_major = LA_SCHEMA_MAJOR,
                                    .schema_minor = la_schema_minor(),
                                    .tool_version = LAPLORA_VERSION,
                                    .task = p->likelihood->task,
                                    .complete = 1};
    LA_TRY(la_h5_put_fields(w, p, &la_head_fields, &head));
    LA_TRY(la_h5_put_fields(w, p, &la_posterior_fields, p));
    return la_h5_put_fields(w, p, &la_end_fields, &head);
}

la_status la_posterior_save(const la_posterior *posterior, const char *path, la_error *err) {
    const la_h5_content content = {
        .seal = &la_posterior_seal, .put = put_all, .user = (void *)(uintptr_t)posterior};
    return la_h5_save(path, &content, err);
}
