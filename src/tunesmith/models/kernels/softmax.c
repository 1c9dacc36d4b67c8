/* Softmax in place: of attention scores, and of logits together with the loss and its gradient. */

#include <math.h>

#include "number.h"

/* The keys that a query may see: row r of a block is query first + r / each, and sees keys up to
   itself, at most `window` of them. */
#define SEEN                                                                                       \
    int64_t query = first + row % rows / each;                                                     \
    int64_t end = query + 1 < keys ? query + 1 : keys;                                             \
    int64_t begin = end > window ? end - window : 0;

/* p = softmax(factor s) over the seen keys, 0 elsewhere; p (batch, rows, keys) lies over s. */
#define ATTEND(T)                                                                                  \
    void attend_##T(T *p, int64_t batch, int64_t rows, int64_t keys, int64_t first, int64_t each,  \
                    int64_t window, float factor) {                                                \
        _Pragma("omp parallel for schedule(static, 16) if (batch * rows * keys > SMALL)")          \
        for (int64_t row = 0; row < batch * rows; row++) {                                         \
            SEEN                                                                                   \
            T *line = p + row * keys;                                                              \
            float top = -INFINITY, sum = 0, values[end - begin];                                   \
            _Pragma("omp simd reduction(max : top)")                                               \
            for (int64_t i = begin; i < end; i++) {                                                \
                float value = LOAD(T)(line[i]) * factor;                                           \
                top = value > top ? value : top;                                                   \
            }                                                                                      \
            _Pragma("omp simd reduction(+ : sum)")                                                 \
            for (int64_t i = begin; i < end; i++) {                                                \
                float value = exponential(LOAD(T)(line[i]) * factor - top);                        \
                values[i - begin] = value;                                                         \
                sum += value;                                                                      \
            }                                                                                      \
            float share = 1.0f / sum;                                                              \
            _Pragma("omp simd")                                                                    \
            for (int64_t i = begin; i < end; i++) line[i] = STORE(T)(values[i - begin] * share);   \
            memset(line, 0, begin * sizeof(T));                                                    \
            memset(line + end, 0, (keys - end) * sizeof(T));                                       \
        }                                                                                          \
    }

/* ds = factor p (dp - sum(dp p)) over the seen keys, 0 elsewhere; ds lies over dp. */
#define ATTEND_BACKWARD(T)                                                                         \
    void attend_backward_##T(const T *p, T *dp, int64_t batch, int64_t rows, int64_t keys,         \
                             int64_t first, int64_t each, int64_t window, float factor) {          \
        _Pragma("omp parallel for schedule(static, 16) if (batch * rows * keys > SMALL)")          \
        for (int64_t row = 0; row < batch * rows; row++) {                                         \
            SEEN                                                                                   \
            const T *line = p + row * keys;                                                        \
            T *out = dp + row * keys;                                                              \
            float along = 0;                                                                       \
            _Pragma("omp simd reduction(+ : along)")                                               \
            for (int64_t i = begin; i < end; i++) along += LOAD(T)(line[i]) * LOAD(T)(out[i]);     \
            _Pragma("omp simd")                                                                    \
            for (int64_t i = begin; i < end; i++)                                                  \
                out[i] = STORE(T)(LOAD(T)(line[i]) * (LOAD(T)(out[i]) - along) * factor);          \
            memset(out, 0, begin * sizeof(T));                                                     \
            memset(out + end, 0, (keys - end) * sizeof(T));                                        \
        }                                                                                          \
    }

/* Of each row of logits (rows, width): nll = log sum exp - logits[target] in float; with `gradient`
   the row becomes softmax - onehot(target), d nll / d logits. */
#define CROSS_ENTROPY(T)                                                                           \
    void cross_entropy_##T(T *logits, const int64_t *targets, float *nll, int64_t rows,            \
                           int64_t width, int64_t gradient) {                                      \
        _Pragma("omp parallel for schedule(static) if (rows * width > SMALL)")                     \
        for (int64_t row = 0; row < rows; row++) {                                                 \
            T *line = logits + row * width;                                                        \
            float top = -INFINITY, sum = 0;                                                        \
            float chosen = LOAD(T)(line[targets[row]]);                                            \
            _Pragma("omp simd reduction(max : top)")                                               \
            for (int64_t i = 0; i < width; i++) {                                                  \
                float value = LOAD(T)(line[i]);                                                    \
                top = value > top ? value : top;                                                   \
            }                                                                                      \
            _Pragma("omp simd reduction(+ : sum)")                                                 \
            for (int64_t i = 0; i < width; i++) sum += exponential(LOAD(T)(line[i]) - top);        \
            float lse = top + logf(sum);                                                           \
            nll[row] = lse - chosen;                                                               \
            if (!gradient) continue;                                                               \
            _Pragma("omp simd")                                                                    \
            for (int64_t i = 0; i < width; i++)                                                    \
                line[i] = STORE(T)(exponential(LOAD(T)(line[i]) - lse));                           \
            line[targets[row]] = STORE(T)(exponential(chosen - lse) - 1.0f);                       \
        }                                                                                          \
    }

EACH_TYPE(ATTEND)
EACH_TYPE(ATTEND_BACKWARD)
EACH_TYPE(CROSS_ENTROPY)
