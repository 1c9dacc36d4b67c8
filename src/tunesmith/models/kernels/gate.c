/* Gated units of the feed-forward layer: h = act(g) u, arXiv:2002.05202, eq. 6.

   g and u lie side by side in the rows of one matrix gu (rows, 2 width), as one matrix product makes
   them. act is SiLU, x / (1 + e^-x), or the tanh form of GELU (arXiv:1606.08415, section 2). */

#include "number.h"

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

static inline float silu(float x) { return x * sigmoid(x); }

static inline float silu_slope(float x) {
    float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

/* 0.5 (1 + tanh(z)) = sigmoid(2 z), with z = sqrt(2 / pi) (x + 0.044715 x^3). */
static inline float gelu(float x) {
    return x * sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
}

static inline float gelu_slope(float x) {
    float s = sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
    return s + x * s * (1.0f - s) * 1.5957691216f * (1.0f + 0.134145f * x * x);
}

#define FORWARD(T, ACT)                                                                            \
    void ACT##_gate_##T(const T *gu, T *h, int64_t rows, int64_t width) {                          \
        _Pragma("omp parallel for schedule(static) if (rows * width > SMALL)")                     \
        for (int64_t row = 0; row < rows; row++) {                                                 \
            const T *g = gu + row * 2 * width, *u = g + width;                                     \
            T *out = h + row * width;                                                              \
            _Pragma("omp simd")                                                                    \
            for (int64_t i = 0; i < width; i++)                                                    \
                out[i] = STORE(T)(ACT(LOAD(T)(g[i])) * LOAD(T)(u[i]));                             \
        }                                                                                          \
    }

#define BACKWARD(T, ACT)                                                                           \
    void ACT##_gate_backward_##T(const T *dh, const T *gu, T *dgu, int64_t rows, int64_t width) {  \
        _Pragma("omp parallel for schedule(static) if (rows * width > SMALL)")                     \
        for (int64_t row = 0; row < rows; row++) {                                                 \
            const T *up = dh + row * width, *g = gu + row * 2 * width, *u = g + width;             \
            T *dg = dgu + row * 2 * width, *du = dg + width;                                       \
            _Pragma("omp simd")                                                                    \
            for (int64_t i = 0; i < width; i++) {                                                  \
                float gate = LOAD(T)(g[i]), upstream = LOAD(T)(up[i]);                             \
                dg[i] = STORE(T)(upstream * LOAD(T)(u[i]) * ACT##_slope(gate));                    \
                du[i] = STORE(T)(upstream * ACT(gate));                                            \
            }                                                                                      \
        }                                                                                          \
    }

#define BOTH(T) FORWARD(T, silu) BACKWARD(T, silu) FORWARD(T, gelu) BACKWARD(T, gelu)
EACH_TYPE(BOTH)
