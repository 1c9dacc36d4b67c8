/* Products of whole numbers: rows of x rounded to 8 bits with a scale each, and the 32-bit sums of a
   product made wide again (LLM.int8, arXiv:2208.07339, section 2.1, "vector-wise"). */

#include "number.h"
#include "round.h"

/* q (rows, width) and scale (rows,) with q scale = VALUE within half a scale; rows of x are `stride`
   numbers apart. Two functions, since a loop with a choice inside is 6 times slower. */
#define QUANTIZE(NAME, T, VALUE)                                                                   \
    void NAME##_##T(const T *x, const float *factor, int8_t *q, float *scale, int64_t rows,        \
                    int64_t width, int64_t stride) {                                               \
        _Pragma("omp parallel for schedule(static) if (rows * width > SMALL)")                     \
        for (int64_t row = 0; row < rows; row++) {                                                 \
            const T *in = x + row * stride;                                                        \
            int8_t *out = q + row * width;                                                         \
            ROUND(VALUE, 0, width, out, int8_t, 0, scale[row])                                     \
        }                                                                                          \
    }

#define PLAIN(T) QUANTIZE(quantize_rows, T, LOAD(T)(in[k]))
#define TIMES_FACTOR(T) QUANTIZE(quantize_rows_times, T, (LOAD(T)(in[k]) * factor[k]))

/* out = sums row column + added, all (rows, width) but for `row` (rows,) and `column` (width,);
   `column` and `added` may be NULL. */
#define SCALE(T)                                                                                   \
    void scale_sums_##T(const int32_t *sums, const float *row, const float *column,                \
                        const float *added, T *out, int64_t rows, int64_t width) {                 \
        _Pragma("omp parallel for schedule(static) if (rows * width > SMALL)")                     \
        for (int64_t r = 0; r < rows; r++) {                                                       \
            const int32_t *in = sums + r * width;                                                  \
            const float *more = added ? added + r * width : 0;                                     \
            T *to = out + r * width;                                                               \
            float scale = row[r];                                                                  \
            _Pragma("omp simd")                                                                    \
            for (int64_t i = 0; i < width; i++) {                                                  \
                float value = (float)in[i] * scale;                                                \
                if (column) value *= column[i];                                                    \
                if (more) value += more[i];                                                        \
                to[i] = STORE(T)(value);                                                           \
            }                                                                                      \
        }                                                                                          \
    }

EACH_TYPE(PLAIN)
EACH_TYPE(TIMES_FACTOR)
EACH_TYPE(SCALE)
