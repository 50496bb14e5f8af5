/* Products, by cuBLASLt. Descriptors, layouts and the algorithm chosen for them are kept by shape:
 * a batch asks for the same few products in every layer.
 *
 * cuBLASLt is column-major: a row-major matrix is the transpose of what it sees, so that
 * D[M,N] = op(a) op(b) is asked for as D^T[N,M] = op(b)^T op(a)^T. */
#include "vector.cuh"

#include <new>
#include <string.h>
#include <unordered_map>

namespace {

enum { CACHED_MOST = 8192 };

/* All that the choice of an algorithm depends on. Compared and hashed as bytes: no padding. */
struct gemm_key {
    int64_t m, n, k, lda, ldb, ldc, ldd;
    int32_t type_ab, type_d, compute, epilogue;
    uint8_t trans_a, trans_b, align_a, align_b, align_c, align_d, align_bias, align_aux;

    bool operator==(const gemm_key &other) const {
        return !memcmp(this, &other, sizeof *this);
    }
};

struct gemm_key_hash {
    size_t operator()(const gemm_key &key) const {
        /* FNV-1a */
        const unsigned char *bytes = reinterpret_cast<const unsigned char *>(&key);
        uint64_t hash = 14695981039346656037u;
        for (size_t i = 0; i < sizeof key; i++)
            hash = (hash ^ bytes[i]) * 1099511628211u;
        return static_cast<size_t>(hash);
    }
};

struct gemm_plan {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, d = nullptr;
    cublasLtMatmulAlgo_t algorithm = {};
    bool usable = false; /* the library has an algorithm for it */
};

void plan_destroy(gemm_plan *plan) {
    if (plan->operation)
        cublasLtMatmulDescDestroy(plan->operation);
    for (cublasLtMatrixLayout_t layout : {plan->a, plan->b, plan->c, plan->d})
        if (layout)
            cublasLtMatrixLayoutDestroy(layout);
}

/* A product to be made: d = alpha op(a) op(b) + beta c, and what follows it. */
struct gemm_call {
    bool trans_a, trans_b;
    float alpha, beta;
    const la_mat *a, *b, *c;
    la_mat *d;
    cublasLtEpilogue_t epilogue;
    const void *bias; /* [N] of the type of d */
    la_mat *aux;      /* value before the activation */
};

cudaDataType_t data_type(la_dtype type) {
    return type == LA_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* log2 of the alignment of a pointer, at most 16 bytes: what the widest loads need. More would make
 * different keys of equal products. */
uint8_t alignment(const void *pointer) {
    uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    uint8_t log = 0;
    while (log < 4 && !(address >> log & 1))
        log++;
    return log;
}

cublasComputeType_t compute_type(const la_cuda *cu, la_dtype operands) {
    if (operands == LA_F32 && cu->precision != LA_PRECISION_F32)
        return CUBLAS_COMPUTE_32F_FAST_TF32;
    return CUBLAS_COMPUTE_32F;
}

gemm_key key_of(const la_cuda *cu, const gemm_call *call) {
    gemm_key key;
    memset(&key, 0, sizeof key);
    key.m = call->d->rows;
    key.n = call->d->cols;
    key.k = call->trans_a ? call->a->rows : call->a->cols;
    key.lda = call->a->ld;
    key.ldb = call->b->ld;
    key.ldc = call->c->ld;
    key.ldd = call->d->ld;
    key.type_ab = data_type(call->a->type);
    key.type_d = data_type(call->d->type);
    key.compute = compute_type(cu, call->a->type);
    key.epilogue = call->epilogue;
    key.trans_a = call->trans_a;
    key.trans_b = call->trans_b;
    key.align_a = alignment(call->a->data);
    key.align_b = alignment(call->b->data);
    key.align_c = alignment(call->c->data);
    key.align_d = alignment(call->d->data);
    key.align_bias = alignment(call->bias);
    key.align_aux = alignment(call->aux ? call->aux->data : nullptr);
    return key;
}

template <typename T>
bool set_attribute(gemm_plan *plan, cublasLtMatmulDescAttributes_t name, const T &value) {
    return cublasLtMatmulDescSetAttribute(plan->operation, name, &value, sizeof value) ==
           CUBLAS_STATUS_SUCCESS;
}

/* Pointers are no part of the key: they are set before every call. */
bool set_pointers(gemm_plan *plan, const gemm_call *call) {
    bool ok = true;
    if (call->bias)
        ok = set_attribute(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, call->bias);
    if (call->aux) {
        int64_t ld = call->aux->ld;
        ok = ok && set_attribute(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, call->aux->data);
        ok = ok && set_attribute(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ld);
    }
    return ok;
}

bool make_layouts(gemm_plan *plan, const gemm_key &key) {
    cudaDataType_t ab = static_cast<cudaDataType_t>(key.type_ab);
    cudaDataType_t d = static_cast<cudaDataType_t>(key.type_d);
    uint64_t m = static_cast<uint64_t>(key.m), n = static_cast<uint64_t>(key.n);
    uint64_t k = static_cast<uint64_t>(key.k);
    /* the library's first operand is our second */
    cublasStatus_t codes[] = {
        cublasLtMatrixLayoutCreate(&plan->a, ab, key.trans_b ? k : n, key.trans_b ? n : k, key.ldb),
        cublasLtMatrixLayoutCreate(&plan->b, ab, key.trans_a ? m : k, key.trans_a ? k : m, key.lda),
        cublasLtMatrixLayoutCreate(&plan->c, d, n, m, key.ldc),
        cublasLtMatrixLayoutCreate(&plan->d, d, n, m, key.ldd)};
    for (cublasStatus_t code : codes)
        if (code != CUBLAS_STATUS_SUCCESS)
            return false;
    return true;
}

bool choose_algorithm(la_cuda *cu, gemm_plan *plan, const gemm_key &key) {
    cublasLtMatmulPreference_t preference = nullptr;
    if (cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS)
        return false;
    auto set = [preference](cublasLtMatmulPreferenceAttributes_t name, auto value) {
        cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof value);
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(LA_LT_WORKSPACE));
    /* the library assumes 256 bytes unless these are set; its first operand is our second */
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t(1) << key.align_b);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t(1) << key.align_a);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, uint32_t(1) << key.align_c);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t(1) << key.align_d);
    /* a split sum must not be reduced in the type of the result, which may be bf16 */
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    cublasStatus_t code =
        cublasLtMatmulAlgoGetHeuristic(cu->lt, plan->operation, plan->a, plan->b, plan->c, plan->d,
                                       preference, 1, &result, &found);
    cublasLtMatmulPreferenceDestroy(preference);
    if (code != CUBLAS_STATUS_SUCCESS || !found || result.state != CUBLAS_STATUS_SUCCESS)
        return false;
    plan->algorithm = result.algo;
    return true;
}

void plan_fill(la_cuda *cu, gemm_plan *plan, const gemm_key &key, const gemm_call *call) {
    cublasComputeType_t compute = static_cast<cublasComputeType_t>(key.compute);
    if (cublasLtMatmulDescCreate(&plan->operation, compute, CUDA_R_32F) != CUBLAS_STATUS_SUCCESS)
        return;
    cublasOperation_t a = key.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t b = key.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    bool ok = set_attribute(plan, CUBLASLT_MATMUL_DESC_TRANSA, a) &&
              set_attribute(plan, CUBLASLT_MATMUL_DESC_TRANSB, b) &&
              set_attribute(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, call->epilogue);
    if (call->bias)
        ok = ok && set_attribute(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                                 static_cast<cudaDataType_t>(key.type_d));
    plan->usable = ok && set_pointers(plan, call) && make_layouts(plan, key) &&
                   choose_algorithm(cu, plan, key);
}

} // namespace

struct la_gemm_cache {
    std::unordered_map<gemm_key, gemm_plan, gemm_key_hash> plans;
};

la_gemm_cache *la_cuda_gemms_new(void) {
    return new (std::nothrow) la_gemm_cache;
}

static void forget_all(la_gemm_cache *cache) {
    for (auto &entry : cache->plans)
        plan_destroy(&entry.second);
    cache->plans.clear();
}

void la_cuda_gemms_free(la_gemm_cache *cache) {
    if (!cache)
        return;
    forget_all(cache);
    delete cache;
}

static gemm_plan *plan_find(la_cuda *cu, const gemm_call *call) {
    gemm_key key = key_of(cu, call);
    auto &plans = cu->gemms->plans;
    auto found = plans.find(key);
    if (found != plans.end())
        return &found->second;
    if (plans.size() >= CACHED_MOST)
        forget_all(cu->gemms);
    try {
        gemm_plan *plan = &plans[key];
        plan_fill(cu, plan, key, call);
        return plan;
    } catch (const std::bad_alloc &) {
        (void)la_fail(&cu->fault, LA_RESOURCE, "out of memory for a product's plan");
        return nullptr;
    }
}

/* False when the library has no algorithm for it (nothing was done then), or after a fault. */
static bool run_lt(la_cuda *cu, const gemm_call *call) {
    gemm_plan *plan = plan_find(cu, call);
    if (!plan || !plan->usable || !set_pointers(plan, call))
        return false;
    cublasStatus_t code =
        cublasLtMatmul(cu->lt, plan->operation, &call->alpha, call->b->data, plan->a, call->a->data,
                       plan->b, &call->beta, call->c->data, plan->c, call->d->data, plan->d,
                       &plan->algorithm, cu->lt_workspace, LA_LT_WORKSPACE, cu->stream);
    if (code == CUBLAS_STATUS_NOT_SUPPORTED || code == CUBLAS_STATUS_INVALID_VALUE) {
        plan->usable = false; /* refused at the call: the fallback serves from now on */
        return false;
    }
    return la_cuda_blas_ok(cu, code, "a product");
}

/* The older interface, which takes any alignment; c is d. */
static void run_blas(la_cuda *cu, const gemm_call *call) {
    int m = static_cast<int>(call->d->rows), n = static_cast<int>(call->d->cols);
    int k = static_cast<int>(call->trans_a ? call->a->rows : call->a->cols);
    la_cuda_blas_ok(cu,
                    cublasGemmEx(cu->blas, call->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                                 call->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, k, &call->alpha,
                                 call->b->data, data_type(call->b->type),
                                 static_cast<int>(call->b->ld), call->a->data,
                                 data_type(call->a->type), static_cast<int>(call->a->ld),
                                 &call->beta, call->d->data, data_type(call->d->type),
                                 static_cast<int>(call->d->ld), compute_type(cu, call->a->type),
                                 CUBLAS_GEMM_DEFAULT),
                    "a product");
}

/* y[T,d] = bias[d] + residual[T,d]; either may be missing */
template <typename T>
__global__ void fill_rows(int64_t rows, int64_t cols, const T *bias, const T *residual,
                          int64_t ld_residual, T *y, int64_t ld_y) {
    int64_t j = la_first_col(1);
    if (j >= cols)
        return;
    for (int64_t t = la_first_row(); t < rows; t += la_row_step()) {
        float value = bias ? la_to_float(bias[j]) : 0.0f;
        if (residual)
            value += la_to_float(residual[t * ld_residual + j]);
        y[t * ld_y + j] = la_from_float<T>(value);
    }
}

template <typename T>
static void fill(la_cuda *cu, const la_mat *bias, const la_mat *residual, la_mat *y) {
    LA_LAUNCH((fill_rows<T>), la_rows_grid(y->rows, y->cols, 1), la_rows_block(), 0, cu->stream,
              y->rows, y->cols, la_data<T>(bias), la_data<T>(residual), la_ld(residual),
              la_data<T>(y), y->ld);
    la_cuda_launched(cu, "fill_rows");
}

/* m, or its copy in the wanted type (LA_CUDA_WIDEN). False after a fault. */
static bool as_type(la_cuda *cu, const la_mat *m, la_dtype type, la_mat *out) {
    *out = *m;
    if (m->type == type)
        return true;
    size_t bytes = static_cast<size_t>(m->rows * m->cols) * la_type_size(type);
    void *memory = la_cuda_scratch_get(cu, LA_CUDA_WIDEN, bytes);
    if (!memory)
        return false;
    *out = la_mat_of(type, memory, m->rows, m->cols);
    if (m->type == LA_CODES)
        la_cuda_unpack(cu, m, out);
    else
        la_cuda_convert(cu, m, out);
    return true;
}

void la_cuda_linear(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                    const la_mat *residual, la_mat *y) {
    la_cuda *cu = la_cuda_of(be);
    la_mat weight;
    if (!x->rows || !w->rows || !as_type(cu, w, x->type, &weight))
        return;
    gemm_call call = {};
    call.trans_b = true;
    call.alpha = 1;
    call.beta = residual ? 1.0f : 0.0f;
    call.a = x;
    call.b = &weight;
    call.c = residual ? residual : y;
    call.d = y;
    call.epilogue = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    call.bias = bias ? bias->data : nullptr;
    if (run_lt(cu, &call) || cu->fault.status != LA_OK)
        return;
    if (bias || residual) {
        if (y->type == LA_BF16)
            fill<bf16>(cu, bias, residual, y);
        else
            fill<float>(cu, bias, residual, y);
        call.beta = 1;
    }
    run_blas(cu, &call);
}

void la_cuda_linear_activation(la_backend *be, const la_mat *x, const la_mat *w, const la_mat *bias,
                               la_activation kind, la_mat *before, la_mat *after) {
    la_cuda *cu = la_cuda_of(be);
    /* the library's GELU is the tanh approximation, to bf16's accuracy */
    if (kind == LA_ACT_GELU_TANH && x->type == LA_BF16 && w->type == LA_BF16 && x->rows) {
        gemm_call call = {};
        call.trans_b = true;
        call.alpha = 1;
        call.a = x;
        call.b = w;
        call.c = call.d = after;
        call.epilogue = bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
        call.bias = bias ? bias->data : nullptr;
        call.aux = before;
        if (before->ld % 8 == 0 && alignment(before->data) >= 4 && run_lt(cu, &call))
            return;
        if (cu->fault.status != LA_OK)
            return;
    }
    la_cuda_linear(be, x, w, bias, nullptr, before);
    la_cuda_activation(be, kind, before, nullptr, after);
}

void la_cuda_gemm(la_backend *be, bool trans_a, bool trans_b, float alpha, const la_mat *a,
                  const la_mat *b, float beta, la_mat *c) {
    la_cuda *cu = la_cuda_of(be);
    la_mat left, right;
    if (!c->rows || !c->cols)
        return;
    /* only one of the two can need a copy: both become f32 when they differ */
    la_dtype type = a->type == b->type ? a->type : LA_F32;
    if (!as_type(cu, a, type, &left) || !as_type(cu, b, type, &right))
        return;
    gemm_call call = {};
    call.trans_a = trans_a;
    call.trans_b = trans_b;
    call.alpha = alpha;
    call.beta = beta;
    call.a = &left;
    call.b = &right;
    call.c = call.d = c;
    call.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    if (!run_lt(cu, &call) && cu->fault.status == LA_OK)
        run_blas(cu, &call);
}

/* dx[R,in] = beta dx + g[R,out] w[out,in] */
void la_cuda_linear_backward(la_backend *be, const la_mat *g, const la_mat *w, float beta,
                             la_mat *dx) {
    la_cuda *cu = la_cuda_of(be);
    la_mat weight;
    if (!g->rows || !w->rows || !as_type(cu, w, g->type, &weight))
        return;
    la_cuda_gemm(be, false, false, 1, g, &weight, beta, dx);
}
