/* laplora: Laplace approximation over the adapters of fine-tuned language models.
 *
 * The public interface: what a host program may call. Everything is blocking. No function exits,
 * aborts or prints.
 *
 * Threads. A handle may be used by one thread at a time, any thread, also another than the one that
 * opened it, and within parallel regions of the host. Different handles, and calls of la_fit, are
 * independent: they may run at the same time in different threads, each with its own number of
 * threads (la_run_options.threads), which changes neither the others' nor the host's
 * (omp_get_max_threads, omp_set_dynamic, OpenBLAS). Within a parallel region of the host a handle
 * gets the threads that OpenMP's levels allow. On the CPU answers and posteriors are the same to
 * the last bit whatever the threads (given the same batches: batch_tokens not -1). The HDF5 library
 * is not for several threads: la_fit calls it, one call at a time; a host that uses it too must not
 * do so while la_fit runs. Options are read before the call returns: nothing given is kept but the
 * log and the stop.
 *
 * Errors. Every function that can fail returns a la_status and fills the la_error given last,
 * whatever it held before: the same one may serve for many calls. It may be NULL: then the message
 * is lost. A pointer that is needed and NULL, a value that is none of its enum, a number that is
 * out of its range: LA_USAGE, naming the field, before anything is done. After any failure every
 * handle is as usable as before; what was to be returned through a pointer to a pointer is NULL.
 *
 * Method: Laplace-LoRA, arXiv 2308.13111 (curvature: section 3, prior: equation 7, linearised
 * predictive: equation 13). */
#ifndef LAPLORA_H
#define LAPLORA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LAPLORA_VERSION "0.1.0"

/* Status that is dropped: a warning, where the compiler can give one; (void) in front of a call
 * says that it is meant. */
#if defined(__clang__)
#define LA_CHECKED __attribute__((warn_unused_result))
#elif defined(__cplusplus) ? __cplusplus >= 201703L : defined(__GNUC__) && __GNUC__ >= 11
#define LA_CHECKED [[nodiscard]]
#else
#define LA_CHECKED
#endif
#ifndef __GNUC__
#define __extension__
#endif

/* Outcomes. The values up to 7 are the exit codes of the command line. */
__extension__ typedef enum LA_CHECKED la_status {
    LA_OK = 0,
    LA_GATE = 1,        /* a gate failed, or its metric is undefined */
    LA_USAGE = 2,       /* options that make no sense */
    LA_BAD_INPUT = 3,   /* a file or a data row is malformed */
    LA_UNSUPPORTED = 4, /* recognised, not supported */
    LA_RESOURCE = 5,    /* disk, memory, device */
    LA_NUMERICAL = 6,   /* NaN, not positive definite, no convergence */
    LA_MISMATCH = 7,    /* the posterior belongs to another base, adapter or tokenizer */
    LA_INTERRUPTED = 8  /* the host's stop, or SIGHUP, SIGINT, SIGTERM: exit code 129, 130, 143 */
} la_status;

/* The first error of a call chain: one line that names file, field or row, what was found and what
 * was expected. */
typedef struct la_error {
    la_status status;
    char message[1024];
} la_error;

/* Lines for people, and progress. Both may be NULL. */
typedef struct la_log {
    void (*warn)(void *user, const char *message);
    /* fraction: of the input read, 0..1 */
    void (*progress)(void *user, const char *stage, int64_t rows, double fraction);
    void *user;
} la_log;

/* Stop request of the host. asked is called between pieces of work, by any thread that works for
 * the call, and must be quick; not 0 ends the call with LA_INTERRUPTED. The thread that wants the
 * stop sets what asked reads (an atomic flag). A piece of work may take seconds: a decomposition,
 * or all blocks of one. NULL: nothing is asked. */
typedef struct la_stop {
    int (*asked)(void *user);
    void *user;
} la_stop;

/* Products of the CPU are OpenBLAS's, which falls back to the slowest kernels on a processor whose
 * model number it does not know. la_kernels_choose makes it take the fastest that the processor's
 * instructions allow, where it took slower ones; a set OPENBLAS_CORETYPE is followed. That is for
 * the whole process and everything in it that computes with OpenBLAS, so nothing else here does it:
 * a program that wants it calls it first thing in main, while no other thread is in a product or
 * reads the environment. Calling it again does no harm. Both return the name of the kernels in use,
 * as OpenBLAS says it ("SkylakeX"). */
const char *la_kernels_choose(void);
const char *la_kernels_name(void);

typedef enum la_kron { LA_KRON_EXPAND, LA_KRON_REDUCE } la_kron;
/* Blocks that share a prior precision: all of them, each alone, those of a layer, those of a
 * kind of matrix. */
typedef enum la_prior_kind {
    LA_PRIOR_GLOBAL,
    LA_PRIOR_MODULE,
    LA_PRIOR_FIXED,
    LA_PRIOR_LAYER,
    LA_PRIOR_KIND
} la_prior_kind;
typedef enum la_params {
    LA_PARAMS_LORA,
    LA_PARAMS_LORA_HEAD,
    LA_PARAMS_HEAD,
    LA_PARAMS_LORA_MAGNITUDE, /* DoRA's magnitudes too */
    LA_PARAMS_LORA_MAGNITUDE_HEAD,
    LA_PARAMS_LAST /* the head's last layer */
} la_params;
/* Choice of the prior, and of a guard over the result. */
typedef enum la_select_kind {
    LA_SELECT_AUTO,    /* val or cross where the rows for it are given, else marglik */
    LA_SELECT_NONE,    /* exactly the prior asked for; nothing is checked */
    LA_SELECT_MARGLIK, /* the marginal likelihood alone; signs of trouble are reported */
    LA_SELECT_VAL,     /* held-out rows of a file */
    LA_SELECT_CROSS    /* the calibration rows, which were not trained on, cross-fitted */
} la_select_kind;

/* Options of reading and running rows; shared by fitting and predicting. Zero or NULL means the
 * default. */
typedef struct la_run_options {
    const char *device;    /* "auto", "cpu", "cuda", "cuda:0,1" */
    const char *precision; /* "f32"; "bf16" where processor or device has it; on CUDA also "tf32" */
    int threads;           /* of this handle or fit, at most 4096; 0: a thread a processor */
    int64_t max_length;    /* tokens a row is truncated to; at least 0 */
    int64_t batch_tokens;  /* tokens that are run together; -1: as many as the free memory holds */
    const char *text_field, *pair_field, *label_field, *id_field;
    const char *labels; /* "NAME,NAME,..." in class order */
    /* "none", "nf4", "nf4-double", "fp4", "fp4-double", "int8": packs the linear layers of a base
     * that is stored plainly, as bitsandbytes does. NULL: none; of a predictor, as the posterior
     * was fitted */
    const char *base_quant;
    /* Which adapter of a folder or file that holds several, or "NAME,NAME": those at once, in the
     * order in which they were added. NULL: the only one, or "default"; of a predictor, as the
     * posterior was fitted */
    const char *adapter_name;
    int profile; /* log where the time went */
    la_log log;
    la_stop stop; /* of la_fit, la_predictor_open and every la_predictor_run of the handle */
} la_run_options;

typedef struct la_fit_options {
    la_run_options run;
    const char *base, *adapter, *data, *out;
    /* Structure of the curvature, by its name of `laplora fit --curvature`; NULL: "kron" */
    const char *curvature;
    la_kron kron;
    la_prior_kind prior;
    double prior_value; /* LA_PRIOR_FIXED: the prior precision */
    int prior_given;    /* the prior is meant exactly: no selection, no guard */
    la_select_kind select;
    const char *val; /* file of held-out labelled rows, or NULL */
    int heldout;     /* the rows of data were not trained on */
    int adue;        /* train an error head too: every prediction gets its score */
    /* The guard admits nothing that changes an answer of the adapter on any row: no Monte Carlo, no
     * correction of classes. Needs held-out rows. */
    int keep_answers;
    /* Predictions cost a forward pass alone: the guard weighs settings under a variance that is
     * distilled from the full one on the held-out rows. Needs those. */
    int forward;
    int ood;      /* keep distances too: every prediction gets the share of nearer rows */
    int64_t rank; /* eigenpairs kept of a large factor; 0: all */
    /* "ekfac": a posterior of "kron" of the same rows and adapter, whose eigenvectors are used; or
     * NULL: a pass over the rows finds them first */
    const char *basis;
    la_params params;
    const char *choices;    /* causal LM: "A,B,C,D" */
    const char *choice_ids; /* causal LM: "319,350" */
    const char *template_path;
    double noise; /* regression: the variance of the noise; 0: by log marginal likelihood */
} la_fit_options;

typedef struct la_block_summary {
    const char *name; /* e.g. "bert.encoder.layer.0.attention.self.query.lora_A" */
    int64_t out, in;
    double trace_in, trace_out; /* of the sums over rows and tokens, before 1/R or 1/N */
    double prior_precision;
} la_block_summary;

/* Choice by held-out rows: the numbers of the method on them. */
typedef struct la_choice_summary {
    const char
        *method; /* "map", "temperature", "laplace", ..., "average"; NULL: nothing was chosen */
    int cross;   /* the held-out rows are those of the curvature, cross-fitted */
    int64_t n;   /* held-out rows */
    double prior_scale, temperature; /* of the method; 1 of an average */
    double nll, accuracy;            /* accuracy of a regression: NaN */
    double map_nll, map_accuracy;    /* of the adapter as it was trained */
    const struct la_choice *record;  /* the library's own, of all candidates */
} la_choice_summary;

/* The error head: AdUE, arXiv 2505.15443. */
typedef struct la_adue_summary {
    const char *outcome; /* "trained", or why it could not be; NULL: none was asked for */
    double auroc_before, auroc_after; /* of errors on the rows that validate; NaN: undefined */
    int64_t epochs;
} la_adue_summary;

/* Distances to the calibration rows. */
typedef struct la_ood_summary {
    int64_t n_reference; /* rows that shares are of; 0: no distances were asked for */
    int64_t rank;        /* eigenpairs that are kept */
    int held_out;        /* the reference rows are held-out rows, not calibration rows */
} la_ood_summary;

/* Results of a fit. Owned by the library; free with la_fit_summary_free. */
typedef struct la_fit_summary {
    int64_t n_rows, n_tokens, n_classes, n_blocks, n_parameters, n_truncated;
    double log_likelihood, log_marginal_likelihood;
    double noise_variance; /* of a regression; 0: of classes */
    const char *task;      /* "regression", "multi_label"; NULL: one of several classes a row */
    const char *curvature; /* its name */
    la_prior_kind prior;
    double prior_precision; /* global or fixed */
    la_block_summary *blocks;
    la_choice_summary choice;
    la_adue_summary adue;
    la_ood_summary ood;
    double seconds_load, seconds_curvature, seconds_decompose, seconds_prior, seconds_select,
        seconds_adue, seconds_ood, seconds_save;
    const char *device, *precision;
    int threads;
} la_fit_summary;

/* Fits the posterior of the adapter in options->adapter and writes it to options->out (written
 * beside it first, then renamed). *summary is set on success, NULL otherwise; the caller frees it.
 * options, its base, adapter, data and out, and summary may not be NULL. */
la_status la_fit(const la_fit_options *options, la_fit_summary **summary, la_error *err);
/* summary may be NULL. */
void la_fit_summary_free(la_fit_summary *summary);

/* A posterior with its model, ready to answer. */
typedef struct la_predictor la_predictor;

typedef struct la_predict_options {
    la_run_options run;
    const char *posterior;
    const char *base, *adapter; /* NULL: where the posterior says */
    /* How outputs become a prediction; NULL: as the fit's guard chose, "mc" where there was none.
     *   mc           E softmax(f), f ~ N(f_MAP, cov); of a regression in closed form
     *   probit       its closed form
     *   scalar       likewise with one variance a row, which keeps the MAP model's answers
     *   bridge       the Laplace bridge
     *   weights      E softmax(f / T) over networks sampled from the posterior
     *   average      the weighted mean of the recipes that the fit stored
     *   temperature  softmax(f / T) with the temperature that the fit chose for it
     *   map          the adapter as it was trained */
    const char *predictive;
    int64_t samples; /* Monte Carlo samples; 0 with mc means the closed form (probit). With weights
                        networks, at least 1 */
    uint64_t seed;
    /* [n_class_shares] shares of the classes, in class order, of the rows that are to be answered,
     * where they are not those of the calibration rows: probabilities are re-weighted by the ratio.
     * Each is above 0 (0 of a class without calibration rows), and they sum to 1. NULL, with n 0:
     * as in training */
    const double *class_shares;
    int64_t n_class_shares;
} la_predict_options;

/* One row to answer: either text (UTF-8, lengths in bytes, pair may be NULL) or token ids used as
 * they are, not both. text may be empty, not NULL; n_ids is at least 1. Text that is no UTF-8, ids
 * outside the vocabulary and more tokens than the model has positions are LA_BAD_INPUT. Text is
 * taken as it is: a template that the posterior holds is for the fields of a file's rows, and not
 * filled. */
typedef struct la_input {
    const char *text;
    size_t text_length;
    const char *pair;
    size_t pair_length;
    const int32_t *ids;
    int64_t n_ids;
    int64_t place; /* of the token to be classified, where the adapter classifies tokens: ids then,
                      and a place among them (else LA_USAGE). Not read otherwise */
} la_input;

/* The prediction of a row; arrays have n_classes (logit_cov n_classes x n_classes) entries, given
 * by the caller, none of them NULL: la_prediction_list_new has them all. */
typedef struct la_prediction {
    double *probs, *map_probs;
    double *logits;    /* raw MAP logits */
    double *logit_cov; /* centred, row-major */
    double *variance;  /* [n_classes] of the probabilities over the posterior; NaN under a closed
                          form (probit) without draws */
    int prediction;
    double confidence, entropy;
    double mutual_information; /* NaN where variance is */
    double adue; /* of the posterior's error head, 0 to 1: larger is more likely wrong, whatever the
                    predictive; NaN where it has none */
    double ood;  /* 0 to 1: share of the posterior's reference rows that lie nearer to the
                    calibration rows; NaN where it keeps no distances */
    /* Regressions have variance[1] = model_variance + noise_variance, logits[1], logit_cov[1]
     * and these; all else is NaN. */
    double mean, map_mean; /* they differ under weights alone */
    double model_variance, noise_variance;
    double
        map_variance; /* of the MAP model: that of the noise, unless held-out rows chose another */
} la_prediction;

/* *predictor is set on success, NULL otherwise; free with la_predictor_close. options, its
 * posterior and predictor may not be NULL; samples is at least 0. */
la_status la_predictor_open(const la_predict_options *options, la_predictor **predictor,
                            la_error *err);
/* predictor may be NULL. */
void la_predictor_close(la_predictor *predictor);
/* 0 of NULL. */
int64_t la_predictor_classes(const la_predictor *predictor);
/* True when predictions are numbers, not classes: the model has one output (la_predictor_classes
 * is 1). */
int la_predictor_regresses(const la_predictor *predictor);
/* NULL when the classes have no names, and for a label that is none. Valid until
 * la_predictor_close. */
const char *la_predictor_label(const la_predictor *predictor, int64_t label);
/* Recipe i of those whose weighted mean a prediction of the handle is. */
typedef struct la_recipe_summary {
    const char *predictive; /* "mc", "probit", ...: as executed; until la_predictor_close */
    double prior_scale;     /* factor of the stored prior precisions */
    double temperature;     /* divides the outputs; 1: none */
    double weight;          /* they sum to 1 */
    /* [n_classes] added to the outputs, before all that; until la_predictor_close. NULL: none */
    const double *bias;
    /* [n_classes] of the outputs less their mean, before the bias; likewise. NULL: as they are */
    const double *class_weight;
} la_recipe_summary;
/* Their number; 0 of NULL. */
int64_t la_predictor_recipes(const la_predictor *predictor);
/* i in [0, number). */
la_recipe_summary la_predictor_recipe(const la_predictor *predictor, int64_t i);
/* Class shares of a handle. Arrays have n_classes entries; until la_predictor_close, or the next
 * estimate. */
typedef struct la_shares_summary {
    int64_t n_classes;
    /* Those that rows are answered for without others: of the calibration rows, and as far as
     * held-out rows determine corrections of the classes, of these. NULL: not known */
    const double *training;
    const double *shares; /* those that rows are answered for; NULL: training's */
    const double *errors; /* standard errors, NaN where there are none; NULL: not estimated */
    int64_t n_rows;       /* that they were estimated from */
} la_shares_summary;
/* All zero of NULL. */
la_shares_summary la_predictor_shares(const la_predictor *predictor);
/* Estimates the class shares of n rows from their predictions, made without class shares of their
 * own, and has the rows after them answered for these shares. The n predictions stay as they are.
 * LA_USAGE where the handle has class shares already. */
la_status la_predictor_estimate_shares(la_predictor *predictor, const la_prediction *predictions,
                                       int64_t n, la_error *err);
/* n predictions with room for their arrays; *predictions is NULL after a failure. The caller frees
 * them with la_prediction_list_free, which takes NULL. */
la_status la_prediction_list_new(const la_predictor *predictor, int64_t n,
                                 la_prediction **predictions, la_error *err);
void la_prediction_list_free(la_prediction *predictions);
/* Answers n rows on all devices of the handle; out[i] belongs to in[i] and does not depend on the
 * other rows (but for the rounding of products, which may differ in the last bits by the batch that
 * a row is in). n 0: in and out may be NULL, and nothing is done. Arguments of all rows are checked
 * before the first is answered. Where a row fails, the message begins with "row I: ", counted from
 * 0, and what out holds is not defined. */
la_status la_predictor_run(la_predictor *predictor, const la_input *in, int64_t n,
                           la_prediction *out, la_error *err);

#ifdef __cplusplus
}
#endif
#endif
