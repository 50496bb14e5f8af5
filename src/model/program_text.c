/* A layer program as text. */
#include "model/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_BYTES = 8192, LINE_BYTES = 256 };

static const char *const activation_names[] = {
    [LA_ACT_NONE] = "none", [LA_ACT_GELU] = "gelu", [LA_ACT_GELU_TANH] = "gelu_tanh",
    [LA_ACT_SILU] = "silu", [LA_ACT_RELU] = "relu", [LA_ACT_TANH] = "tanh",
};

/* Text that grows behind what is there. */
typedef struct text {
    char *at;
    size_t left;
} text;

__attribute__((format(printf, 2, 3))) static void put(text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->at, t->left, format, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n < t->left ? (size_t)n : t->left - 1;
    t->at += used;
    t->left -= used;
}

static void put_name(text *t, const la_program *p, int buffer) {
    const la_buffer *root = &p->buffers[la_buffer_root(p, buffer)];
    bool kept = root->kept && root->residence != LA_GIVEN;
    put(t, "%s%s", p->buffers[buffer].name, kept ? "*" : "");
}

static void put_inputs(text *t, const la_program *p, const la_op *op) {
    bool sum = op->kind == LA_OP_LINEAR || op->kind == LA_OP_ADD || op->kind == LA_OP_BOTTLENECK;
    for (int j = 0; j < LA_OP_INPUTS; j++) {
        if (op->in[j] < 0)
            continue;
        put(t, "%s", !j ? "" : sum ? " + " : ", ");
        put_name(t, p, op->in[j]);
    }
}

static void put_module(text *t, const la_op *op) {
    const char *number = op->module ? strstr(op->module, "%lld.") : NULL;
    if (number)
        put(t, "%s", number + strlen("%lld."));
}

static void put_sites(text *t, const la_site *site) {
    for (; site; site = site->inner) {
        const char *name = site->kind->name ? site->kind->name : site->kind->title;
        put(t, ", %s %lld", name, (long long)site->own_cols);
    }
}

static void put_attention(text *t, const la_config *config, int64_t layer) {
    const la_layer_plan *plan = &config->plan[layer];
    put(t, "%lld heads of %lld", (long long)config->heads, (long long)config->head_dim);
    if (config->kv_heads != config->heads)
        put(t, " (%lld of keys and values)", (long long)config->kv_heads);
    if (plan->before < LA_ATTENTION_ALL)
        put(t, ", %lld tokens before", (long long)plan->before);
    if (!plan->after)
        put(t, ", causal");
    else if (plan->after < LA_ATTENTION_ALL)
        put(t, ", %lld tokens after", (long long)plan->after);
    if (config->score_cap > 0)
        put(t, ", softcap %g", config->score_cap);
}

static void put_parameters(text *t, const la_model *model, const la_program *p, const la_op *op) {
    const la_config *config = &model->config;
    const la_buffer *out = &p->buffers[op->out];
    put_module(t, op);
    switch (op->kind) {
    case LA_OP_NORM:
        if (op->width < out->cols)
            put(t, ", by %lld columns", (long long)op->width);
        break;
    case LA_OP_LINEAR:
    case LA_OP_DISTANCES:
        put_sites(t, op->linear->site);
        break;
    case LA_OP_LINEAR_ACT:
        put(t, ", %s", activation_names[op->activation]);
        break;
    case LA_OP_ACT:
        put(t, "%s", activation_names[op->activation]);
        break;
    case LA_OP_COLUMNS:
        put(t, "from column %lld", (long long)out->from);
        break;
    case LA_OP_ROTATE:
        put(t, "%lld columns of a head", (long long)config->rope[config->plan[p->layer].rope].dim);
        break;
    case LA_OP_EXTEND:
        put(t, "%lld virtual tokens", (long long)model->prompt.n);
        break;
    case LA_OP_ATTEND:
        put_attention(t, config, p->layer);
        break;
    case LA_OP_BOTTLENECK:
        put(t, "%s, %lld wide", activation_names[op->activation],
            (long long)op->bottleneck->down.rows);
        break;
    case LA_OP_ADD:
    case LA_OP_BRANCH:
    case LA_OP_GATHER:
    case LA_OP_KINDS:
        break;
    }
}

enum { OUT, INPUTS, SHAPE, PARAMETERS, PARTS };

static void describe(const la_model *model, const la_program *p, const la_op *op,
                     char parts[PARTS][LINE_BYTES]) {
    static const char extents[LA_EXTENTS] = "TQKL";
    const la_buffer *out = &p->buffers[op->out];
    text t[PARTS];
    for (int i = 0; i < PARTS; i++) {
        t[i] = (text){parts[i], LINE_BYTES};
        *parts[i] = 0;
    }
    put_name(&t[OUT], p, op->out);
    put_inputs(&t[INPUTS], p, op);
    put(&t[SHAPE], "[%c, %lld]", extents[out->extent], (long long)out->cols);
    put_parameters(&t[PARAMETERS], model, p, op);
}

void la_program_text(const la_model *model, const la_program *p, char *to, size_t size) {
    char parts[PARTS][LINE_BYTES];
    int width[PARTS] = {0};
    text t = {to, size};
    *to = 0;
    for (int i = 0; i < p->n_ops; i++) {
        describe(model, p, &p->ops[i], parts);
        for (int j = 0; j < PARTS; j++)
            width[j] = (int)strlen(parts[j]) > width[j] ? (int)strlen(parts[j]) : width[j];
    }
    for (int i = 0; i < p->n_ops; i++) {
        const la_op *op = &p->ops[i];
        describe(model, p, op, parts);
        put(&t, "  %-10s  %-*s <- %-*s  ", la_operations[op->kind].name, width[OUT], parts[OUT],
            width[INPUTS], parts[INPUTS]);
        if (*parts[PARAMETERS])
            put(&t, "%-*s  %s\n", width[SHAPE], parts[SHAPE], parts[PARAMETERS]);
        else
            put(&t, "%s\n", parts[SHAPE]);
    }
}

static bool same_text(const la_model *model, const la_layer_run *layer, const char *as) {
    char other[TEXT_BYTES];
    la_program_text(model, &layer->program, other, sizeof other);
    return !strcmp(other, as);
}

/* "0-3, 5": the layers from the first on that have this text */
static void put_numbers(text *t, const la_model *model, const la_layer_run *layers, int64_t first,
                        const char *of) {
    int64_t n = model->config.layers;
    for (int64_t i = first, end; i < n; i = end + 1) {
        for (end = i; end < n && same_text(model, &layers[end], of); end++)
            ;
        if (end == i)
            continue;
        put(t, i == first ? "%lld" : ", %lld", (long long)i);
        if (end > i + 1)
            put(t, "-%lld", (long long)end - 1);
    }
}

void la_program_print(const la_model *model, const la_layer_run *layers, la_line_sink sink,
                      void *user) {
    char text_of[TEXT_BYTES], numbers[LINE_BYTES], line[2 * LINE_BYTES];
    for (int64_t i = 0; i < model->config.layers; i++) {
        const la_program *p = &layers[i].program;
        int64_t before = 0;
        la_program_text(model, p, text_of, sizeof text_of);
        while (before < i && !same_text(model, &layers[before], text_of))
            before++;
        if (before < i)
            continue;
        text t = {numbers, sizeof numbers};
        put_numbers(&t, model, layers, i, text_of);
        snprintf(line, sizeof line, "layer%s %s of %lld: %s%s", strpbrk(numbers, "-,") ? "s" : "",
                 numbers, (long long)model->config.layers,
                 p->active ? "forward and backward (*: kept for it)" : "forward only",
                 p->pruned ? "; the pooled tokens (Q) go on" : "");
        sink(user, line);
        for (char *at = text_of, *end; (end = strchr(at, '\n')); at = end + 1) {
            *end = 0;
            sink(user, at);
        }
    }
}
