/* Rotary positions (arXiv:2104.09864, eq. 34), and the layout that attention wants.

   One matrix product makes rows of queries, keys and values: (tokens, (heads + 2 groups) width).
   Attention multiplies per group of query heads that share a key head, so queries go to
   q (groups, tokens, heads / groups, width), keys and values to (groups, tokens, width). Halves of a
   head are rotated against each other, as transformers' `rotate_half` does. */

#include "number.h"

/* One head: out = x cos + rotate_half(x) sin; `turn` is 1, or -1 for the way back, which is the
   transpose since cos and sin of both halves are the same. */
#define TURN(T)                                                                                    \
    static inline void turn_##T(const T *x, const float *cos, const float *sin, T *out,            \
                                int64_t width, float turn) {                                       \
        int64_t half = width / 2;                                                                  \
        _Pragma("omp simd")                                                                        \
        for (int64_t i = 0; i < half; i++) {                                                       \
            float a = LOAD(T)(x[i]), b = LOAD(T)(x[i + half]);                                     \
            out[i] = STORE(T)(a * cos[i] - turn * b * sin[i]);                                     \
            out[i + half] = STORE(T)(b * cos[i] + turn * a * sin[i]);                              \
        }                                                                                          \
    }

/* Where head h of token t lies in q: (groups, tokens, heads / groups, width). */
#define PLACE(t, h) ((((h) / each * tokens + (t)) * each + (h) % each) * width)

#define SPLIT(T)                                                                                   \
    void rotary_split_##T(const T *qkv, const float *cos, const float *sin, T *q, T *k, T *v,      \
                          int64_t tokens, int64_t heads, int64_t groups, int64_t width) {          \
        int64_t each = heads / groups, row = (heads + 2 * groups) * width;                         \
        _Pragma("omp parallel for schedule(static) if (tokens * row > SMALL)")                     \
        for (int64_t t = 0; t < tokens; t++) {                                                     \
            const float *c = cos + t * width, *s = sin + t * width;                                \
            const T *in = qkv + t * row;                                                           \
            for (int64_t h = 0; h < heads; h++)                                                    \
                turn_##T(in + h * width, c, s, q + PLACE(t, h), width, 1.0f);                      \
            in += heads * width;                                                                   \
            for (int64_t g = 0; g < groups; g++)                                                   \
                turn_##T(in + g * width, c, s, k + (g * tokens + t) * width, width, 1.0f);         \
            in += groups * width;                                                                  \
            for (int64_t g = 0; g < groups; g++)                                                   \
                memcpy(v + (g * tokens + t) * width, in + g * width, width * sizeof(T));           \
        }                                                                                          \
    }

#define JOIN(T)                                                                                    \
    void rotary_join_##T(const T *q, const T *k, const T *v, const float *cos, const float *sin,   \
                         T *qkv, int64_t tokens, int64_t heads, int64_t groups, int64_t width) {   \
        int64_t each = heads / groups, row = (heads + 2 * groups) * width;                         \
        _Pragma("omp parallel for schedule(static) if (tokens * row > SMALL)")                     \
        for (int64_t t = 0; t < tokens; t++) {                                                     \
            const float *c = cos + t * width, *s = sin + t * width;                                \
            T *out = qkv + t * row;                                                                \
            for (int64_t h = 0; h < heads; h++)                                                    \
                turn_##T(q + PLACE(t, h), c, s, out + h * width, width, -1.0f);                    \
            out += heads * width;                                                                  \
            for (int64_t g = 0; g < groups; g++)                                                   \
                turn_##T(k + (g * tokens + t) * width, c, s, out + g * width, width, -1.0f);       \
            out += groups * width;                                                                 \
            for (int64_t g = 0; g < groups; g++)                                                   \
                memcpy(out + g * width, v + (g * tokens + t) * width, width * sizeof(T));          \
        }                                                                                          \
    }

EACH_TYPE(TURN)
EACH_TYPE(SPLIT)
EACH_TYPE(JOIN)
