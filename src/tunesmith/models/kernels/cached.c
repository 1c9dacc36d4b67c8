/* Attention of one token per row to what the row has in a cache. */

#include <math.h>

#include "number.h"

/* q and out (rows, groups, each, width), keys and values (rows, groups, capacity, width), of which
   row r has lengths[r] and sees the last `window`; scores (rows, groups, each, longest) is scratch.
   Each key and value is read once for the `each` queries that share it. */
#define ATTEND_CACHED(T)                                                                           \
    void attend_cached_##T(const T *q, const T *keys, const T *values, const int64_t *lengths,     \
                           float *scores, T *out, int64_t rows, int64_t groups, int64_t each,      \
                           int64_t capacity, int64_t width, int64_t longest, int64_t window,       \
                           float factor) {                                                         \
        _Pragma("omp parallel for schedule(dynamic, 4) if (rows * groups * longest * width > SMALL)") \
        for (int64_t pair = 0; pair < rows * groups; pair++) {                                     \
            int64_t end = lengths[pair / groups];                                                  \
            int64_t begin = end > window ? end - window : 0;                                       \
            const T *k = keys + pair * capacity * width, *v = values + pair * capacity * width;    \
            float *s = scores + pair * each * longest;                                             \
            float query[each * width], sums[each * width], line[width];                            \
            for (int64_t i = 0; i < each * width; i++)                                             \
                query[i] = LOAD(T)(q[pair * each * width + i]) * factor, sums[i] = 0;              \
            for (int64_t t = begin; t < end; t++) {                                                \
                for (int64_t i = 0; i < width; i++) line[i] = LOAD(T)(k[t * width + i]);           \
                for (int64_t r = 0; r < each; r++) {                                               \
                    float dot = 0;                                                                 \
                    _Pragma("omp simd reduction(+ : dot)")                                         \
                    for (int64_t i = 0; i < width; i++) dot += query[r * width + i] * line[i];     \
                    s[r * longest + t] = dot;                                                      \
                }                                                                                  \
            }                                                                                      \
            for (int64_t r = 0; r < each; r++) {                                                   \
                float *p = s + r * longest, top = -INFINITY, sum = 0;                              \
                _Pragma("omp simd reduction(max : top)")                                           \
                for (int64_t t = begin; t < end; t++) top = p[t] > top ? p[t] : top;               \
                _Pragma("omp simd reduction(+ : sum)")                                             \
                for (int64_t t = begin; t < end; t++) sum += p[t] = exponential(p[t] - top);       \
                float share = 1.0f / sum;                                                          \
                for (int64_t t = begin; t < end; t++) p[t] *= share;                               \
            }                                                                                      \
            for (int64_t t = begin; t < end; t++) {                                                \
                for (int64_t i = 0; i < width; i++) line[i] = LOAD(T)(v[t * width + i]);           \
                for (int64_t r = 0; r < each; r++) {                                               \
                    float p = s[r * longest + t];                                                  \
                    for (int64_t i = 0; i < width; i++) sums[r * width + i] += p * line[i];        \
                }                                                                                  \
            }                                                                                      \
            for (int64_t i = 0; i < each * width; i++)                                             \
                out[pair * each * width + i] = STORE(T)(sums[i]);                                  \
        }                                                                                          \
    }

EACH_TYPE(ATTEND_CACHED)
