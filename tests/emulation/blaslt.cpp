/* cuBLASLt's matmul, with the host's BLAS. What a call asks for is checked as documented: by the
 * heuristic, which answers NOT_SUPPORTED, and again by the product itself. */
#include "blas.h"
#include "cublasLt.h"

#include "emulator.h"

struct cublasLtContext {
    int device;
};

struct cublasLtMatmulDescOpaque_t {
    cublasComputeType_t compute;
    cudaDataType scale;
    int32_t pointers;
    cublasOperation_t transa, transb;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    int64_t bias_stride;
    int32_t bias_type; /* -1: D's */
    void *aux;
    int64_t aux_ld, aux_stride;
    int32_t aux_type; /* -1: D's */
};

struct cublasLtMatrixLayoutOpaque_t {
    cudaDataType type;
    int32_t order;
    uint64_t rows, cols;
    int64_t ld;
    int32_t count;
    int64_t stride;
};

struct cublasLtMatmulPreferenceOpaque_t {
    uint64_t workspace;
    uint32_t alignment[4]; /* bytes, for A, B, C and D */
};

namespace {

const uint64_t ALGO_MARK = 0x6c61676c74ull;
/* No algorithm needs more than vectors of 16 bytes, even where a buffer is said to be aligned
 * better (256 is the default). */
const uint32_t ALIGNMENT_NEEDED = 16;
const uint64_t WORKSPACE_WANTED = 4096;

struct problem {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t a, b, c, d;
    int64_t m, n, k;
};

bool has_bias(const problem &p) {
    return p.desc.epilogue & CUBLASLT_EPILOGUE_BIAS;
}
bool has_gelu(const problem &p) {
    return p.desc.epilogue & CUBLASLT_EPILOGUE_GELU;
}
bool has_aux(const problem &p) {
    return p.desc.epilogue & 128;
}

/* Everything but pointers: INVALID_VALUE for what contradicts itself, NOT_SUPPORTED for what no
 * algorithm does. */
cublasStatus_t check(problem *p) {
    const cublasLtMatmulDescOpaque_t &desc = p->desc;
    uint64_t m = desc.transa == CUBLAS_OP_N ? p->a.rows : p->a.cols;
    uint64_t k = desc.transa == CUBLAS_OP_N ? p->a.cols : p->a.rows;
    uint64_t kb = desc.transb == CUBLAS_OP_N ? p->b.rows : p->b.cols;
    uint64_t n = desc.transb == CUBLAS_OP_N ? p->b.cols : p->b.rows;
    if (!m || !n || !k || k != kb || p->d.rows != m || p->d.cols != n || p->c.rows != m ||
        p->c.cols != n)
        return CUBLAS_STATUS_INVALID_VALUE;
    p->m = static_cast<int64_t>(m);
    p->n = static_cast<int64_t>(n);
    p->k = static_cast<int64_t>(k);
    for (const cublasLtMatrixLayoutOpaque_t *layout : {&p->a, &p->b, &p->c, &p->d}) {
        if (layout->order != CUBLASLT_ORDER_COL)
            return CUBLAS_STATUS_NOT_SUPPORTED;
        if (layout->ld < static_cast<int64_t>(layout->rows) || layout->count < 1 ||
            layout->count != p->d.count)
            return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (p->a.type != p->b.type || p->c.type != p->d.type || desc.scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    bool bf16 = p->a.type == CUDA_R_16BF && desc.compute == CUBLAS_COMPUTE_32F &&
                (p->d.type == CUDA_R_16BF || p->d.type == CUDA_R_32F);
    bool f32 = p->a.type == CUDA_R_32F && p->d.type == CUDA_R_32F &&
               (desc.compute == CUBLAS_COMPUTE_32F || desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32);
    if (!bf16 && !f32)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    switch (desc.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
        break;
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (has_bias(*p) && desc.bias_type != -1 && desc.bias_type != p->d.type)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (has_aux(*p)) {
        if (desc.aux_type != -1 && desc.aux_type != p->d.type)
            return CUBLAS_STATUS_NOT_SUPPORTED;
        if (desc.aux_ld < p->m || desc.aux_ld % 8 != 0)
            return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

float gelu(float x) {
    float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1 + tanhf(inner));
}

bool is_aligned(const void *at, uint64_t bytes) {
    return reinterpret_cast<uintptr_t>(at) % bytes == 0;
}

const unsigned char *batch(const cublasLtMatrixLayoutOpaque_t &layout, const void *base, int i) {
    return static_cast<const unsigned char *>(base) +
           i * layout.stride * static_cast<int64_t>(la_emulated_type_size(layout.type));
}

void multiply(const problem &p, float alpha, const void *a, const void *b, float beta,
              const void *c, void *d) {
    bool tf32 = p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    for (int i = 0; i < p.d.count; i++) {
        std::vector<float> product;
        la_emulated_product(p.a.type, p.desc.transa, p.desc.transb, p.m, p.n, p.k, batch(p.a, a, i),
                            p.a.ld, batch(p.b, b, i), p.b.ld, tf32, product);
        void *to = const_cast<unsigned char *>(batch(p.d, d, i));
        for (int64_t col = 0; col < p.n; col++)
            for (int64_t row = 0; row < p.m; row++) {
                float sum = alpha * product[static_cast<size_t>(col * p.m + row)];
                if (beta != 0)
                    sum += beta *
                           la_emulated_load_number(p.c.type, batch(p.c, c, i), col * p.c.ld + row);
                if (has_bias(p))
                    sum += la_emulated_load_number(p.d.type, p.desc.bias,
                                                   i * p.desc.bias_stride + row);
                if (has_aux(p))
                    la_emulated_store_number(p.d.type, p.desc.aux,
                                             i * p.desc.aux_stride + col * p.desc.aux_ld + row,
                                             sum);
                la_emulated_store_number(p.d.type, to, col * p.d.ld + row,
                                         has_gelu(p) ? gelu(sum) : sum);
            }
    }
}

template <typename T> cublasStatus_t set(T *to, const void *value, size_t bytes) {
    if (!value || bytes != sizeof *to)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, sizeof *to);
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace

extern "C" {

const char *cublasLtGetStatusName(cublasStatus_t status) {
    return cublasGetStatusName(status);
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return cublasGetStatusString(status);
}

size_t cublasLtGetVersion(void) {
    return CUBLAS_VERSION;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    if (!handle)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (la_emulated_device_count() == 0)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new cublasLtContext{la_emulated_current_device()};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    la_emulated_drain_device(handle->device);
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                        cudaDataType scale) {
    if (!desc)
        return CUBLAS_STATUS_INVALID_VALUE;
    *desc = new cublasLtMatmulDescOpaque_t{compute,     scale,       CUBLASLT_POINTER_MODE_HOST,
                                           CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT,
                                           nullptr,     0,           -1,
                                           nullptr,     0,           0,
                                           -1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
    delete desc;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
    if (!desc)
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
        return set(&desc->compute, value, bytes);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
        return set(&desc->scale, value, bytes);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
        return set(&desc->pointers, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set(&desc->transa, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set(&desc->transb, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(&desc->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set(&desc->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
        return set(&desc->bias_stride, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        return set(&desc->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        return set(&desc->aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        return set(&desc->aux_ld, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE:
        return set(&desc->aux_stride, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
        return set(&desc->aux_type, value, bytes);
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
    if (!layout)
        return CUBLAS_STATUS_INVALID_VALUE;
    *layout = new cublasLtMatrixLayoutOpaque_t{type, CUBLASLT_ORDER_COL, rows, cols, ld, 1, 0};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t bytes) {
    if (!layout)
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
        return set(&layout->type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        return set(&layout->order, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
        return set(&layout->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
        return set(&layout->cols, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return set(&layout->ld, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return set(&layout->count, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return set(&layout->stride, value, bytes);
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    if (!preference)
        return CUBLAS_STATUS_INVALID_VALUE;
    *preference = new cublasLtMatmulPreferenceOpaque_t{0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes) {
    uint32_t ignored;
    if (!preference)
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return set(&ignored, value, bytes);
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set(&preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: {
        uint32_t *to =
            &preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
        if (set(to, value, bytes) != CUBLAS_STATUS_SUCCESS || !*to || *to & (*to - 1))
            return CUBLAS_STATUS_INVALID_VALUE;
        return CUBLAS_STATUS_SUCCESS;
    }
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int *returned) {
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!desc || !a || !b || !c || !d || !preference || requested < 1 || !results || !returned)
        return CUBLAS_STATUS_INVALID_VALUE;
    *returned = 0;
    problem p = {*desc, *a, *b, *c, *d, 0, 0, 0};
    cublasStatus_t status = check(&p);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    results[0] = {};
    /* an algorithm remembers what it was chosen for */
    uint64_t *data = results[0].algo.data;
    data[0] = ALGO_MARK;
    data[1] = static_cast<uint64_t>(p.m) << 32 | static_cast<uint32_t>(p.n);
    data[2] = static_cast<uint64_t>(p.a.type) << 32 | static_cast<uint32_t>(p.d.type);
    data[3] = preference->workspace < WORKSPACE_WANTED ? 0 : WORKSPACE_WANTED;
    for (int i = 0; i < 4; i++) {
        uint32_t needed = preference->alignment[i];
        needed = needed < ALIGNMENT_NEEDED ? needed : ALIGNMENT_NEEDED;
        data[4] |= static_cast<uint64_t>(needed) << 16 * i;
    }
    results[0].workspaceSize = data[3];
    results[0].state = CUBLAS_STATUS_SUCCESS;
    results[0].wavesCount = 1;
    *returned = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    la_emulated_guard guard(la_emulated_mutex());
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!desc || !alpha || !beta || !a || !b || !d || !a_layout || !b_layout || !c_layout ||
        !d_layout || (!workspace && workspace_bytes))
        return CUBLAS_STATUS_INVALID_VALUE;
    problem p = {*desc, *a_layout, *b_layout, *c_layout, *d_layout, 0, 0, 0};
    cublasStatus_t status = check(&p);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    bool on_device = desc->pointers == CUBLASLT_POINTER_MODE_DEVICE;
    float by = on_device ? 1 : *static_cast<const float *>(alpha);
    float kept = on_device ? 1 : *static_cast<const float *>(beta);
    if (kept != 0 && (!c || (c == d && (p.c.ld != p.d.ld || p.c.stride != p.d.stride))))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (has_bias(p) && !desc->bias)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (has_aux(p) && (!desc->aux || !is_aligned(desc->aux, 16)))
        return CUBLAS_STATUS_INVALID_VALUE;
    const void *pointers[4] = {a, b, c ? c : d, d};
    const cudaDataType types[4] = {p.a.type, p.b.type, p.c.type, p.d.type};
    uint64_t scribble = 0;
    for (int i = 0; i < 4; i++)
        if (!is_aligned(pointers[i], la_emulated_type_size(types[i])))
            return CUBLAS_STATUS_INVALID_VALUE;
    if (algo) {
        const uint64_t *data = algo->data;
        if (data[0] != ALGO_MARK ||
            data[1] != (static_cast<uint64_t>(p.m) << 32 | static_cast<uint32_t>(p.n)) ||
            data[2] != (static_cast<uint64_t>(p.a.type) << 32 | static_cast<uint32_t>(p.d.type)))
            return CUBLAS_STATUS_INVALID_VALUE;
        if (data[3] > workspace_bytes || (data[3] && !is_aligned(workspace, 16)))
            return CUBLAS_STATUS_INVALID_VALUE;
        scribble = data[3];
        for (int i = 0; i < 4; i++)
            if (!is_aligned(pointers[i], data[4] >> 16 * i & 0xffff))
                return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (handle->device != la_emulated_current_device() ||
        la_emulated_stream_device(stream) != handle->device)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    la_emulated_enqueue(stream, [=] {
        /* the workspace's contents are lost */
        if (scribble)
            memset(workspace, 0xff, scribble);
        multiply(p, on_device ? *static_cast<const float *>(alpha) : by, a, b,
                 on_device ? *static_cast<const float *>(beta) : kept, c, d);
    });
    return CUBLAS_STATUS_SUCCESS;
}
}
