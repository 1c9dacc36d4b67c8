/* RMS norm: y = w x / sqrt(mean(x^2) + eps), arXiv:1910.07467, eq. 4; rows of `width` numbers. */

#include <math.h>

#include "number.h"

/* y (rows, width), scale (rows,) = 1 / sqrt(mean(x^2) + eps); w (width,) is float. */
#define FORWARD(T)                                                                                 \
    void rms_norm_##T(const T *x, const float *w, T *y, float *scale, int64_t rows, int64_t width, \
                      float eps) {                                                                 \
        _Pragma("omp parallel for schedule(static) if (rows * width > SMALL)")                     \
        for (int64_t row = 0; row < rows; row++) {                                                 \
            const T *in = x + row * width;                                                         \
            T *out = y + row * width;                                                              \
            float squares = 0;                                                                     \
            _Pragma("omp simd reduction(+ : squares)")                                             \
            for (int64_t i = 0; i < width; i++) {                                                  \
                float value = LOAD(T)(in[i]);                                                      \
                squares += value * value;                                                          \
            }                                                                                      \
            float s = 1.0f / sqrtf(squares / width + eps);                                         \
            _Pragma("omp simd")                                                                    \
            for (int64_t i = 0; i < width; i++) out[i] = STORE(T)(LOAD(T)(in[i]) * s * w[i]);      \
            scale[row] = s;                                                                        \
        }                                                                                          \
    }

/* With n = x s: dx = s (w dy - n mean(w dy n)). `dw` (threads, width) float gets each thread's share
   of the sum of dy n, and may be NULL. */
#define BACKWARD(T)                                                                                \
    void rms_norm_backward_##T(const T *dy, const T *x, const float *w, const float *scale, T *dx, \
                               float *dw, int64_t rows, int64_t width, int64_t parts) {            \
        int64_t share = (rows + parts - 1) / parts;                                                \
        _Pragma("omp parallel for schedule(static) if (rows * width > SMALL)")                     \
        for (int64_t part = 0; part < parts; part++) {                                             \
            float *sum = dw ? dw + part * width : 0;                                               \
            int64_t end = (part + 1) * share < rows ? (part + 1) * share : rows;                   \
            for (int64_t row = part * share; row < end; row++) {                                   \
                const T *up = dy + row * width, *in = x + row * width;                             \
                T *out = dx + row * width;                                                         \
                float s = scale[row], along = 0;                                                   \
                _Pragma("omp simd reduction(+ : along)")                                           \
                for (int64_t i = 0; i < width; i++)                                                \
                    along += LOAD(T)(up[i]) * w[i] * LOAD(T)(in[i]);                               \
                along *= s * s * s / width;                                                        \
                _Pragma("omp simd")                                                                \
                for (int64_t i = 0; i < width; i++)                                                \
                    out[i] = STORE(T)(LOAD(T)(up[i]) * w[i] * s - LOAD(T)(in[i]) * along);         \
                if (!sum) continue;                                                                \
                _Pragma("omp simd")                                                                \
                for (int64_t i = 0; i < width; i++)                                                \
                    sum[i] += LOAD(T)(up[i]) * LOAD(T)(in[i]) * s;                                 \
            }                                                                                      \
        }                                                                                          \
    }

EACH_TYPE(FORWARD)
EACH_TYPE(BACKWARD)
