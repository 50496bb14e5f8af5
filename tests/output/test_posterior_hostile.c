/* Posteriors made to attack: the digest in front is good, what follows is not. Whatever the bytes,
 * the answer is a posterior within its bounds or a message; never a crash, never memory beyond the
 * file's own measure. Longer runs: tests/fuzz. */
#include "bayes/exact.h"
#include "bayes/factored.h"
#include "output/posterior_file.h"
#include "support/seal.h"
#include "support/support.h"
#include "support/tiny_posterior.h"

#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#if defined __SANITIZE_ADDRESS__
enum { SPARSE = 9 }; /* every ninth place: the checks cost their time */
#else
enum { SPARSE = 1 };
#endif

typedef struct image {
    unsigned char *bytes;
    size_t size;
} image;

static image image_of(la_posterior *p) {
    la_error err = {0};
    image all;
    const char *path = scratch("image.h5");
    if (la_posterior_save(p, path, &err) != LA_OK)
        fail_msg("%s", err.message);
    la_posterior_free(p);
    all.bytes = (unsigned char *)read_file(path, &all.size);
    return all;
}

static image tiny_image(int kind) {
    la_posterior p = tiny_posterior(kind);
    return image_of(&p);
}

static struct {
    long tried, loaded;
    double sum;
} count;

/* Sealed, loaded, and a good answer either way. */
static void check_bytes(unsigned char *bytes, size_t size, const char *what, size_t at) {
    la_posterior p;
    la_error err = {0};
    if (size < SEAL)
        return;
    assert_int_equal(seal_bytes(bytes, size, &err), LA_OK);
    la_status status = load_bytes("hostile.h5", bytes, size, &p, &err);
    count.tried++;
    if (status == LA_OK) {
        count.loaded++;
        count.sum += posterior_touch(&p);
        la_posterior_free(&p);
        return;
    }
    if ((status != LA_BAD_INPUT && status != LA_UNSUPPORTED) || strchr(err.message, '\n') ||
        strncmp(err.message, "hostile.h5: ", 12))
        fail_msg("%s at %zu: status %d, \"%s\"", what, at, status, err.message);
}

/* Nothing may ask for more than this beyond what the process holds: its refusal would be another
 * status than those that are good. */
static void limit_memory(rlim_t more) {
#if !defined __SANITIZE_ADDRESS__
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file)
        return;
    if (fscanf(file, "%ld", &pages) == 1) {
        rlim_t limit = (rlim_t)pages * 4096 + more;
        assert_int_equal(setrlimit(RLIMIT_AS, &(struct rlimit){limit, RLIM_INFINITY}), 0);
    }
    fclose(file);
#else
    (void)more;
#endif
}

static void unlimit_memory(void) {
    assert_int_equal(setrlimit(RLIMIT_AS, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}), 0);
}

/* Bytes that matter: not those in the free parts of nodes and heaps, which are most of a small
 * file. */
static bool is_empty(const image *all, size_t at) {
    for (size_t i = at < SEAL + 32 ? SEAL : at - 32; i < at + 32 && i < all->size; i++)
        if (all->bytes[i])
            return false;
    return true;
}

/* ---- sweeps ---- */

static void single_bytes(void **state) {
    (void)state;
    static const unsigned char xors[] = {0x01, 0x80, 0xff};
    count.tried = count.loaded = 0;
    limit_memory(64 << 20);
    for (int kind = 0; kind < TINY_MANY; kind++) {
        image all = tiny_image(kind);
        for (size_t at = SEAL; at < all.size; at += SPARSE) {
            if (is_empty(&all, at))
                continue;
            for (size_t i = 0; i < sizeof xors; i++) {
                all.bytes[at] ^= xors[i];
                check_bytes(all.bytes, all.size, "byte", at);
                all.bytes[at] ^= xors[i];
            }
        }
        free(all.bytes);
    }
    unlimit_memory();
    print_message("    %ld files, %ld of them load\n", count.tried, count.loaded);
    assert_true(count.tried > 10000 / SPARSE && count.loaded < count.tried);
}

/* Counts and addresses: what a file's lengths and offsets can be turned into. */
static void words(void **state) {
    (void)state;
    count.tried = count.loaded = 0;
    limit_memory(64 << 20);
    for (int kind = 0; kind < TINY_MANY; kind++) {
        image all = tiny_image(kind);
        uint64_t part = all.size - SEAL;
        const uint64_t words64[] = {0,         1,         UINT64_MAX, INT64_MAX,  1ull << 40,
                                    part,      part - 1,  part - 8,   1ull << 32, (1ull << 61) + 1,
                                    part & ~7, part >> 1, 96,         0xffffffff};
        for (size_t at = SEAL; at + 8 <= all.size; at += 8 * SPARSE) {
            unsigned char old[8];
            if (is_empty(&all, at))
                continue;
            memcpy(old, all.bytes + at, 8);
            for (size_t i = 0; i < sizeof words64 / sizeof *words64; i++) {
                memcpy(all.bytes + at, &words64[i], i % 2 ? 8 : 4);
                check_bytes(all.bytes, all.size, "word", at);
                memcpy(all.bytes + at, old, 8);
            }
            /* its own place: a thing that holds itself */
            uint64_t own = (at - SEAL) & ~7ull;
            memcpy(all.bytes + at, &own, 8);
            check_bytes(all.bytes, all.size, "own place", at);
            memcpy(all.bytes + at, old, 8);
        }
        free(all.bytes);
    }
    unlimit_memory();
    print_message("    %ld files, %ld of them load\n", count.tried, count.loaded);
    assert_true(count.tried > 10000 / SPARSE && count.loaded < count.tried);
}

/* Every address of the file in the place of every other. */
static void addresses(void **state) {
    (void)state;
    enum { MOST = 4000 };
    count.tried = count.loaded = 0;
    limit_memory(64 << 20);
    for (int kind = 0; kind < TINY_MANY; kind++) {
        image all = tiny_image(kind);
        static size_t places[MOST];
        size_t n = 0;
        for (size_t at = SEAL + 64; at + 8 <= all.size && n < MOST; at += 8) {
            uint64_t word;
            memcpy(&word, all.bytes + at, 8);
            if (word >= 96 && word < all.size - SEAL && word % 8 == 0)
                places[n++] = at;
        }
        assert_true(n > 10);
        for (size_t i = 0; i < n; i++) {
            for (size_t k = i % (3 * SPARSE); k < n; k += 3 * SPARSE) {
                unsigned char old[8];
                memcpy(old, all.bytes + places[i], 8);
                memcpy(all.bytes + places[i], all.bytes + places[k], 8);
                check_bytes(all.bytes, all.size, "address", places[i]);
                memcpy(all.bytes + places[i], old, 8);
            }
        }
        free(all.bytes);
    }
    unlimit_memory();
    print_message("    %ld files, %ld of them load\n", count.tried, count.loaded);
    assert_true(count.tried > 5000 / SPARSE && count.loaded < count.tried);
}

/* Cut at every length, with a good digest and without. */
static void cut(void **state) {
    (void)state;
    count.tried = count.loaded = 0;
    for (int kind = 0; kind < TINY_MANY; kind += 3) {
        image all = tiny_image(kind);
        unsigned char *copy = malloc(all.size);
        assert_non_null(copy);
        for (size_t size = 0; size < all.size; size += 7 * SPARSE) {
            la_posterior p;
            la_error err = {0};
            memcpy(copy, all.bytes, size);
            if (load_bytes("cut", copy, size, &p, &err) != LA_BAD_INPUT)
                fail_msg("%zu of %zu bytes: %s", size, all.size, err.message);
            check_bytes(copy, size, "cut", size);
        }
        free(copy);
        free(all.bytes);
    }
    print_message("    %ld files, %ld of them load\n", count.tried, count.loaded);
}

/* ---- by hand ---- */

static size_t find(const image *all, const char *signature, size_t from) {
    size_t length = strlen(signature);
    for (size_t at = from; at + length <= all->size; at++)
        if (!memcmp(all->bytes + at, signature, length))
            return at;
    fail_msg("no %s", signature);
    return 0;
}

static void expect(image *all, const char *piece) {
    la_posterior p;
    la_error err = {0};
    assert_int_equal(seal_bytes(all->bytes, all->size, &err), LA_OK);
    if (load_bytes("hostile.h5", all->bytes, all->size, &p, &err) != LA_BAD_INPUT)
        fail_msg("%s: status %d, %s", piece, err.status, err.message);
    if (!strstr(err.message, piece) || !strstr(err.message, "damaged"))
        fail_msg("\"%s\" is not in \"%s\"", piece, err.message);
}

/* An index as its own child at every level there can be, and with very many children that are
 * one. */
static void cycles(void **state) {
    (void)state;
    image all = tiny_image(TINY_KRON);
    image copy = {malloc(all.size + (1 << 20)), all.size};
    assert_non_null(copy.bytes);
    for (int level = 1; level < 256; level++) {
        memcpy(copy.bytes, all.bytes, all.size);
        size_t node = find(&copy, "TREE", SEAL);
        uint64_t own = node - SEAL;
        copy.bytes[node + 5] = (unsigned char)level;
        memcpy(copy.bytes + node + 24 + 8, &own, 8);
        expect(&copy, level > 8 ? "deeper than any" : "not of the level it should be");
    }
    /* a chain of nodes of 6,000 children that are one: 6,000 to the power of 8 leaves */
    memset(copy.bytes + all.size, 0, 1 << 20);
    memcpy(copy.bytes, all.bytes, all.size);
    copy.size = all.size + (1 << 20);
    size_t node = find(&copy, "TREE", SEAL), table = find(&copy, "SNOD", SEAL), wide = all.size;
    for (int level = 8; level >= 0; level--, wide += 110000) {
        unsigned char *at = copy.bytes + (level == 8 ? node : wide);
        uint64_t below = (level ? wide + (level == 8 ? 0 : 110000) : table) - SEAL;
        const uint16_t children = level == 8 ? 1 : 6000;
        memcpy(at, "TREE", 4);
        at[4] = 0;
        at[5] = (unsigned char)level;
        memcpy(at + 6, &children, 2);
        for (int i = 0; i < children; i++)
            memcpy(at + 24 + 16 * i + 8, &below, 8);
        if (level == 8)
            wide -= 110000;
    }
    expect(&copy, "more often than a file of this length allows");
    free(copy.bytes);
    free(all.bytes);
}

/* A name that no end follows, in a heap that ends with the file. */
static void endless_name(void **state) {
    (void)state;
    image all = tiny_image(TINY_KRON);
    size_t heap = find(&all, "HEAP", SEAL);
    uint64_t start, length;
    memcpy(&length, all.bytes + heap + 8, 8);
    memcpy(&start, all.bytes + heap + 24, 8);
    memset(all.bytes + SEAL + start, 'x', length);
    expect(&all, "outside its heap");
    free(all.bytes);
}

static void checksum(void **state) {
    (void)state;
    image all = tiny_image(TINY_DIAG);
    /* the first chunk of a spectrum: its first number is 1 */
    const float first[2] = {1, (float)(1 + 0.9 * sin(1.7))};
    size_t at = 0;
    for (size_t i = SEAL; i + sizeof first <= all.size && !at; i++)
        if (!memcmp(all.bytes + i, first, sizeof first))
            at = i;
    assert_true(at > 0);
    all.bytes[at] ^= 1;
    expect(&all, "a chunk whose checksum is wrong");
    free(all.bytes);
}

/* ---- numbers ---- */

typedef struct lie {
    const char *piece; /* part that the message must have */
    int kind;
    void (*write)(la_posterior *);
} lie;

#define LIE(name, what)                                                                            \
    static void name(la_posterior *p) {                                                            \
        what;                                                                                      \
    }
LIE(classes_huge, p->n_classes = 1ll << 40)
LIE(classes_one, p->n_classes = 1)
LIE(classes_two, p->n_classes = 2; p->provenance.choice_ids = NULL;
    p->choice.corrections[1] = p->choice.corrections[0])
LIE(weights_of_two, p->choice.corrections[1].weight[2] = 0)
LIE(rows_none, p->n_rows = 0)
LIE(tokens_negative, p->n_tokens = INT64_MIN)
LIE(length_negative, p->provenance.max_length = -1)
LIE(length_huge, p->provenance.max_length = 1ll << 40)
LIE(rank_huge, p->rank_asked = INT64_MAX)
LIE(out_huge, p->blocks[1].out = 1ll << 40)
LIE(out_larger, p->blocks[1].out = 4)
LIE(in_larger, p->blocks[1].in = 7)
LIE(input_missing, p->blocks[1].input = 1)
LIE(input_negative, p->blocks[1].input = -1)
LIE(precision_zero, p->blocks[0].prior_precision = 0)
LIE(precision_nan, p->blocks[0].prior_precision = NAN)
LIE(precision_negative, p->blocks[1].prior_precision = -4)
LIE(precision_huge, p->blocks[0].prior_precision = 1.7e308)
LIE(precision_other, p->blocks[1].prior_precision = 5)
LIE(denominator_zero, p->blocks[0].denominator = 0)
LIE(denominator_infinite, p->blocks[0].denominator = INFINITY)
LIE(square_nan, p->blocks[0].theta_square = NAN)
LIE(temperature_zero, p->temperature = 0)
LIE(temperature_negative, p->temperature = -1)
LIE(likelihood_infinite, p->log_likelihood = -INFINITY)
LIE(value_negative, la_factored_of(p, 0)->output.values[1] = -1)
LIE(value_nan, la_factored_of(p, 0)->output.values[1] = NAN)
LIE(vector_nan, la_factored_of(p, 0)->output.vectors[3] = NAN)
LIE(vector_infinite, la_factored_inputs(p)[0].vectors[3] = -INFINITY)
LIE(spectrum_negative, la_factored_of(p, 0)->spectrum[7] = -1)
LIE(spectrum_infinite, la_factored_of(p, 0)->spectrum[17] = INFINITY)
LIE(direction_nan, la_exact_directions(p)->vectors[5] = NAN)
LIE(direction_negative, la_exact_directions(p)->values[0] = -1e-9)
LIE(prior_of_many, p->prior = LA_PRIOR_MODULE)
LIE(id_negative, p->provenance.choice_ids[1] = -5)
LIE(label_bytes, p->provenance.labels.names[1][0] = '\xff')
LIE(name_control, p->blocks[0].name = "layer\033[2J")
LIE(name_bytes, p->blocks[0].name = "layer\xc3(")
LIE(name_empty, p->blocks[0].name = "")
LIE(template_bytes, p->provenance.template_text = "\xed\xa0\x80")
LIE(digest_text, strcpy(p->provenance.base_digest, "../../etc/passwd"))
LIE(digest_letters, strcpy(p->provenance.data_digest, "ABCDEF0123456789abcdef0123456789"))
LIE(row_digest_order, p->provenance.row_digests[3].words[0] = -2)
LIE(row_digest_count, p->n_rows = 25)
LIE(row_weight_negative, p->provenance.row_weights[2] = -1)
LIE(row_weights_alone, p->provenance.row_digests = NULL)
LIE(weight_sum, p->choice.settings[0].weight = 0.5)
LIE(weight_negative, p->choice.settings[0].weight = -0.25)
LIE(weight_nan, p->choice.settings[0].weight = NAN)
LIE(scale_infinite, p->choice.settings[1].prior_scale = INFINITY)
LIE(shortening_large, p->choice.shortening = 2)
LIE(candidate_cold, p->choice.candidates[2].temperature = 0)
LIE(candidate_blind, p->choice.candidates[2].accuracy = NAN)
LIE(chosen_missing, p->choice.candidates[LA_METHOD_AVERAGE].nll = NAN)
LIE(smooth_zero, p->adue.smooth = 0)
LIE(epochs_many, p->adue.epochs = 1ll << 40)
LIE(epoch_later, p->adue.best_epoch = 10)
LIE(auroc_large, p->adue.auroc_after = 1.5)
LIE(head_nan, p->adue.weight[3] = NAN)
LIE(head_bias_infinite, p->adue.bias[2] = INFINITY)
LIE(ood_mean_nan, p->ood.means[3] = NAN)
LIE(ood_value_zero, p->ood.values[1] = 0)
LIE(ood_rest_zero, p->ood.rest = 0)
LIE(ood_table_falls, p->ood.table[2] = 0.75)
LIE(ood_table_negative, p->ood.table[0] = -1)
LIE(ood_without_values, p->ood.values = NULL)
LIE(ood_no_reference, p->ood.n_reference = 0)
LIE(noise_of_classes, p->noise_variance = 0.1)
LIE(noise_of_three, p->noise_variance = 0.1; p->likelihood = &la_gaussian_likelihood)
LIE(noise_of_candidate, p->choice.candidates[LA_METHOD_MAP].noise_variance = 0)

static const lie lies[] = {
    {"\"n_classes\" is out of range", TINY_KRON, classes_huge},
    {"\"n_classes\" is out of range", TINY_KRON, classes_one},
    {"\"adue/weight\" has another shape", TINY_GUARDED, classes_two},
    {"\"choice/corrections/00001/weight\" has a mean that is not 1", TINY_GUARDED, weights_of_two},
    {"\"n_rows\" is out of range", TINY_KRON, rows_none},
    {"\"n_tokens\" is out of range", TINY_KRON, tokens_negative},
    {"\"max_length\" is out of range", TINY_KRON, length_negative},
    {"\"max_length\" is out of range", TINY_KRON, length_huge},
    {"\"rank\" is out of range", TINY_KRON, rank_huge},
    {"\"blocks/00001/out\" is out of range", TINY_EXACT, out_huge},
    {"\"directions/eigenvectors\" has another shape", TINY_EXACT, out_larger},
    {"\"blocks/00001/input\" is shared and of another size", TINY_KRON, in_larger},
    {"\"blocks/00001/input\" is out of range", TINY_KRON, input_missing},
    {"\"blocks/00001/input\" is out of range", TINY_KRON, input_negative},
    {"\"blocks/00000/prior_precision\" is not positive", TINY_KRON, precision_zero},
    {"\"blocks/00000/prior_precision\" is not finite", TINY_KRON, precision_nan},
    {"\"blocks/00001/prior_precision\" is not positive", TINY_KRON, precision_negative},
    {"\"blocks/00000/prior_precision\" is out of range", TINY_KRON, precision_huge},
    {"\"blocks/00001/prior_precision\" is not that of the other", TINY_EXACT, precision_other},
    {"\"blocks/00000/denominator\" is not positive", TINY_KRON, denominator_zero},
    {"\"blocks/00000/denominator\" is not finite", TINY_KRON, denominator_infinite},
    {"\"blocks/00000/theta_square\" is not finite", TINY_KRON, square_nan},
    {"\"temperature\" is not positive", TINY_KRON, temperature_zero},
    {"\"temperature\" is not positive", TINY_KRON, temperature_negative},
    {"\"log_likelihood\" is not finite", TINY_KRON, likelihood_infinite},
    {"\"blocks/00000/output_eigenvalues\" holds an eigenvalue", TINY_KRON, value_negative},
    {"\"blocks/00000/output_eigenvalues\" holds a value", TINY_KRON, value_nan},
    {"\"blocks/00000/output_eigenvectors\" holds a value", TINY_KRON, vector_nan},
    {"\"inputs/00000/eigenvectors\" holds a value", TINY_KRON, vector_infinite},
    {"\"blocks/00000/spectrum\" holds a value that is negative", TINY_DIAG, spectrum_negative},
    {"\"blocks/00000/spectrum\" holds a value that is not finite", TINY_EKFAC, spectrum_infinite},
    {"\"directions/eigenvectors\" holds a value", TINY_EXACT, direction_nan},
    {"\"directions/eigenvalues\" holds an eigenvalue", TINY_LAST_LAYER, direction_negative},
    {"\"prior\" is not of one precision", TINY_EXACT, prior_of_many},
    {"\"choice_ids\" holds a negative token id", TINY_GUARDED, id_negative},
    {"\"labels/label_1\" is not UTF-8", TINY_GUARDED, label_bytes},
    {"\"blocks/00000/name\" holds a control character", TINY_KRON, name_control},
    {"\"blocks/00000/name\" is not UTF-8", TINY_KRON, name_bytes},
    {"\"blocks/00000/name\" is empty", TINY_KRON, name_empty},
    {"\"template\" is not UTF-8", TINY_GUARDED, template_bytes},
    {"\"base_digest\" is no digest", TINY_KRON, digest_text},
    {"\"data_digest\" is no digest", TINY_KRON, digest_letters},
    {"\"row_digests\" is not ascending", TINY_GUARDED, row_digest_order},
    {"\"row_digests\" has another shape", TINY_GUARDED, row_digest_count},
    {"\"row_weights\" holds a weight that is negative", TINY_GUARDED, row_weight_negative},
    {"\"row_weights\" has another shape", TINY_GUARDED, row_weights_alone},
    {"\"choice/settings/weight\" does not sum to 1", TINY_GUARDED, weight_sum},
    {"\"choice/settings/00000/weight\" is not positive", TINY_GUARDED, weight_negative},
    {"\"choice/settings/00000/weight\" is not finite", TINY_GUARDED, weight_nan},
    {"\"choice/settings/00001/prior_scale\" is not finite", TINY_GUARDED, scale_infinite},
    {"\"choice/settings/shortening\" is out of range", TINY_GUARDED, shortening_large},
    {"\"choice/laplace/temperature\" is not positive", TINY_GUARDED, candidate_cold},
    {"\"choice/laplace/accuracy\" is missing", TINY_GUARDED, candidate_blind},
    {"\"method\" names a candidate that is missing", TINY_GUARDED, chosen_missing},
    {"\"adue/smooth\" is not positive", TINY_GUARDED, smooth_zero},
    {"\"adue/epochs\" is out of range", TINY_GUARDED, epochs_many},
    {"\"adue/best_epoch\" is out of range", TINY_GUARDED, epoch_later},
    {"\"adue/auroc_after\" is out of range", TINY_GUARDED, auroc_large},
    {"\"adue/weight\" holds a value", TINY_GUARDED, head_nan},
    {"\"adue/bias\" holds a value", TINY_GUARDED, head_bias_infinite},
    {"\"ood/means\" holds a value", TINY_GUARDED, ood_mean_nan},
    {"\"ood/values\" is not positive", TINY_GUARDED, ood_value_zero},
    {"\"ood/rest\" is not positive", TINY_GUARDED, ood_rest_zero},
    {"\"ood/table\" is not ascending", TINY_GUARDED, ood_table_falls},
    {"\"ood/table\" holds a negative distance", TINY_GUARDED, ood_table_negative},
    {"\"ood/vectors\" has another shape", TINY_GUARDED, ood_without_values},
    {"\"ood/n_reference\" is out of range", TINY_GUARDED, ood_no_reference},
    {"\"n_classes\" is out of range", TINY_KRON, noise_of_three},
    {"\"noise_variance\" is of a regression", TINY_KRON, noise_of_classes},
    {"\"choice/map/noise_variance\" is missing", TINY_REGRESSION, noise_of_candidate},
};

static void numbers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        la_posterior p = tiny_posterior(lies[i].kind);
        lies[i].write(&p);
        image all = image_of(&p);
        expect(&all, lies[i].piece);
        free(all.bytes);
    }
}

/* ---- other writers ---- */

/* The same posterior as another tool writes it anew: with the newest format, or compressed. */
static void foreign(void **state) {
    (void)state;
    la_error err = {0};
    const char *path = scratch("ours.h5"), *other = scratch("other.h5");
    la_posterior p = tiny_posterior(TINY_DIAG);
    assert_int_equal(la_posterior_save(&p, path, &err), LA_OK);
    la_posterior_free(&p);
    hid_t from = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t plan = H5Pcreate(H5P_FILE_CREATE), access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_userblock(plan, SEAL);
    H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    hid_t to = H5Fcreate(other, H5F_ACC_TRUNC, plan, access);
    assert_true(H5Ocopy(from, "blocks", to, "blocks", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Fclose(to);
    H5Fclose(from);
    H5Pclose(access);
    H5Pclose(plan);
    image all;
    all.bytes = (unsigned char *)read_file(other, &all.size);
    expect(&all, "use it as laplora wrote it");
    free(all.bytes);

    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t set = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t shape[2] = {3, 6};
    hid_t space = H5Screate_simple(2, shape, NULL);
    assert_true(H5Pset_chunk(set, 2, shape) >= 0 && H5Pset_shuffle(set) >= 0);
    assert_true(H5Ldelete(file, "blocks/00000/spectrum", H5P_DEFAULT) >= 0);
    hid_t array = H5Dcreate2(file, "blocks/00000/spectrum", H5T_IEEE_F32LE, space, H5P_DEFAULT, set,
                             H5P_DEFAULT);
    assert_true(array >= 0);
    H5Dclose(array);
    H5Sclose(space);
    H5Pclose(set);
    H5Fclose(file);
    all.bytes = (unsigned char *)read_file(path, &all.size);
    expect(&all, "use it as laplora wrote it");
    free(all.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),   cmocka_unit_test(foreign),      cmocka_unit_test(cycles),
        cmocka_unit_test(checksum),  cmocka_unit_test(endless_name), cmocka_unit_test(cut),
        cmocka_unit_test(addresses), cmocka_unit_test(single_bytes), cmocka_unit_test(words),
    };
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return cmocka_run_group_tests_name("hostile posteriors", tests, NULL, NULL);
}
