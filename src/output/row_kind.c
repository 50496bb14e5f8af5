#include "output/row_kind.h"

#define AT(member) .offset = offsetof(la_row_values, member)
static const la_row_field before[] = {
    {"index", LA_FIELD_INDEX, AT(row.index), .of_line = true},
    {"row", LA_FIELD_INDEX, AT(line_row), .missing = LA_MISSING_OMITTED, .of_line = true},
    {"error", LA_FIELD_TEXT, AT(row.error), .missing = LA_MISSING_OMITTED, .of_line = true},
    {"word", LA_FIELD_INDEX, AT(word), .missing = LA_MISSING_OMITTED},
    {"token", LA_FIELD_INDEX, AT(token), .missing = LA_MISSING_OMITTED},
    {"id", LA_FIELD_JSON, AT(row.id_json), .missing = LA_MISSING_OMITTED, .of_line = true},
    {"label", LA_FIELD_LABEL, AT(row.label), .missing = LA_MISSING_OMITTED},
};
static const la_row_field behind[] = {
    {"confidence_kind", LA_FIELD_TEXT, AT(row.confidence_kind)},
    {"logits", LA_FIELD_VECTOR, AT(p.logits), .missing = LA_MISSING_OMITTED},
    {"logit_cov", LA_FIELD_MATRIX, AT(p.logit_cov), .missing = LA_MISSING_OMITTED},
};

const la_row_kind *const la_row_kinds[LA_ROW_KINDS] = {&la_gaussian_rows, &la_softmax_rows};

const la_row_kind *la_row_kind_of(const la_likelihood *likelihood) {
    for (int k = 0; k < LA_ROW_KINDS; k++)
        if (la_row_kinds[k]->likelihood == likelihood)
            return la_row_kinds[k];
    return NULL;
}

void la_row_kind_fields(const la_row_kind *kind, la_field_list lists[LA_FIELD_LISTS]) {
    lists[0] = (la_field_list){before, sizeof before / sizeof *before};
    lists[1] = (la_field_list){kind->fields, kind->n_fields};
    lists[2] = (la_field_list){behind, sizeof behind / sizeof *behind};
}
