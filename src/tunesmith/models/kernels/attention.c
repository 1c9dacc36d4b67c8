/* Causal attention within examples, forward and backward, for processors that multiply bf16 pairs.

   One task is one example and one key head with its query heads: its keys and values stay in the
   cache, and nobody else adds to their gradients. Queries are taken in blocks of a few rows, each
   with the keys up to its end only. Scores are made again in the backward pass from the log-sum-exp
   that the forward pass keeps (FlashAttention, arXiv:2205.14135, algorithms 2 and 4, where a block
   sees all its keys at once).

   Every product is c += a b with a read as pairs of bf16 along the sum, one pair for all columns, and
   b laid out so that a vector holds the pairs of 16 columns. So matrices are packed in two ways:
   `turned`, pairs of neighbours within a row, (width / 2, rows); and `zipped`, pairs of the same
   place in two rows, (rows / 2, width).

   q, dq (groups, tokens, each, width); k, v, dk, dv (groups, tokens, width); out, d_out (tokens,
   groups, each, width); lse (groups, tokens, each) float. Width is a multiple of 16. */

#include <math.h>
#include <stdlib.h>

#include "number.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

typedef uint32_t pair;

/* Rows of queries in a block: enough for the products, few enough for the cache. */
#define BLOCK_ROWS 96
#define ROUND16(n) (((n) + 15) / 16 * 16)

/* A tile of c: ROWS rows, 16 VECTORS columns, held in registers for the whole sum. */
#define TILE(ROWS, VECTORS)                                                                        \
    static inline void tile_##ROWS##_##VECTORS(const pair *a, int64_t row, int64_t step,           \
                                               const pair *b, int64_t columns, float *c,           \
                                               int64_t stride, int64_t pairs) {                    \
        __m512 sum[ROWS][VECTORS];                                                                 \
        for (int r = 0; r < ROWS; r++)                                                             \
            for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_loadu_ps(c + r * stride + 16 * v); \
        for (int64_t p = 0; p < pairs; p++) {                                                      \
            __m512bh right[VECTORS];                                                               \
            for (int v = 0; v < VECTORS; v++)                                                      \
                right[v] = (__m512bh)_mm512_loadu_si512(b + p * columns + 16 * v);                 \
            for (int r = 0; r < ROWS; r++) {                                                       \
                __m512bh left = (__m512bh)_mm512_set1_epi32((int)a[r * row + p * step]);           \
                for (int v = 0; v < VECTORS; v++)                                                  \
                    sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);                       \
            }                                                                                      \
        }                                                                                          \
        for (int r = 0; r < ROWS; r++)                                                             \
            for (int v = 0; v < VECTORS; v++) _mm512_storeu_ps(c + r * stride + 16 * v, sum[r][v]); \
    }

TILE(6, 4)
TILE(1, 4)
TILE(6, 1)
TILE(1, 1)

/* c (rows, columns) += a b; a[r * row + p * step] is pair p of row r, b is (pairs, stride_b). */
static void multiply(const pair *a, int64_t row, int64_t step, const pair *b, int64_t stride_b,
                     float *c, int64_t stride, int64_t rows, int64_t columns, int64_t pairs) {
    int64_t wide = columns / 64 * 64;
    for (int64_t r = 0; r < rows;) {
        int many = rows - r >= 6;
        for (int64_t j = 0; j < columns; j += j < wide ? 64 : 16) {
            const pair *left = a + r * row, *right = b + j;
            float *to = c + r * stride + j;
            if (many && j < wide) tile_6_4(left, row, step, right, stride_b, to, stride, pairs);
            else if (many) tile_6_1(left, row, step, right, stride_b, to, stride, pairs);
            else if (j < wide) tile_1_4(left, row, step, right, stride_b, to, stride, pairs);
            else tile_1_1(left, row, step, right, stride_b, to, stride, pairs);
        }
        r += many ? 6 : 1;
    }
}

/* (rows, width) to (width / 2, padded rows), zero where there is no row. */
static void turn(const bf16 *x, pair *to, int64_t rows, int64_t padded, int64_t width) {
    for (int64_t p = 0; p < width / 2; p++)
        for (int64_t r = 0; r < padded; r++) {
            pair value = 0;
            if (r < rows) memcpy(&value, x + r * width + 2 * p, sizeof value);
            to[p * padded + r] = value;
        }
}

/* (rows, width) to (padded rows / 2, width), zero where there is no row. */
static void zip(const bf16 *x, pair *to, int64_t rows, int64_t padded, int64_t width) {
    for (int64_t p = 0; p < padded / 2; p++) {
        const bf16 *low = x + 2 * p * width, *high = low + width;
        for (int64_t i = 0; i < width; i++) {
            pair first = 2 * p < rows ? low[i] : 0, second = 2 * p + 1 < rows ? high[i] : 0;
            to[p * width + i] = first | second << 16;
        }
    }
}

/* What one thread works in; rows and keys are the most that any block has. */
typedef struct {
    pair *k_turned, *k_zipped, *v_turned, *v_zipped, *q_zipped, *up_zipped, *p_zipped, *s_zipped;
    float *scores, *slopes, *wide, *dk, *dv;
    bf16 *p, *up;
    void *all;
} Room;

static Room make_room(int64_t rows, int64_t keys, int64_t width) {
    int64_t key_pairs = keys * width / 2, row_pairs = rows * width / 2, block = rows * keys;
    int64_t numbers = 4 * key_pairs + 2 * row_pairs + block + 2 * block + rows * width +
                      2 * keys * width + block / 2 + row_pairs;
    Room room;
    pair *at = room.all = calloc(numbers, sizeof(pair));
    if (!at) abort();
#define TAKE(name, count) room.name = (void *)at, at += (count)
    TAKE(k_turned, key_pairs);
    TAKE(k_zipped, key_pairs);
    TAKE(v_turned, key_pairs);
    TAKE(v_zipped, key_pairs);
    TAKE(q_zipped, row_pairs);
    TAKE(up_zipped, row_pairs);
    TAKE(p_zipped, block / 2);
    TAKE(s_zipped, block / 2);
    TAKE(scores, block);
    TAKE(slopes, block);
    TAKE(wide, rows * width);
    TAKE(dk, keys * width);
    TAKE(dv, keys * width);
    TAKE(p, block / 2);
    TAKE(up, row_pairs);
    return room;
}

/* Queries of a block: even, so that its rows make pairs. */
static int64_t block_queries(int64_t each) {
    int64_t queries = BLOCK_ROWS / each / 2 * 2;
    return queries < 2 ? 2 : queries;
}

static void clear(float *x, int64_t count) { memset(x, 0, count * sizeof *x); }

/* e^(scale s - top) of the first `end` scores, and 0 up to `keys`; returns their sum. */
static float weigh(const float *scores, bf16 *p, int64_t end, int64_t keys, float scale, float top) {
    float sum = 0;
    _Pragma("omp simd reduction(+ : sum)")
    for (int64_t i = 0; i < end; i++) {
        float value = exponential(scores[i] * scale - top);
        sum += value;
        p[i] = store_bf16(value);
    }
    memset(p + end, 0, (keys - end) * sizeof *p);
    return sum;
}

static float largest(const float *scores, int64_t end, float scale) {
    float top = -INFINITY;
    _Pragma("omp simd reduction(max : top)")
    for (int64_t i = 0; i < end; i++) top = scores[i] * scale > top ? scores[i] * scale : top;
    return top;
}

static void forward_task(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *out, float *lse,
                         int64_t length, int64_t each, int64_t width, int64_t out_stride,
                         float scale, Room room) {
    int64_t padded = ROUND16(length), queries = block_queries(each);
    turn(k, room.k_turned, length, padded, width);
    zip(v, room.v_zipped, length, padded, width);
    for (int64_t first = 0; first < length; first += queries) {
        int64_t stop = first + queries < length ? first + queries : length;
        int64_t rows = (stop - first) * each, keys = ROUND16(stop);
        clear(room.scores, rows * keys);
        multiply((const pair *)(q + first * each * width), width / 2, 1, room.k_turned, padded,
                 room.scores, keys, rows, keys, width / 2);
        for (int64_t r = 0; r < rows; r++) {
            int64_t end = first + r / each + 1;
            const float *line = room.scores + r * keys;
            float top = largest(line, end, scale);
            float sum = weigh(line, room.p + r * keys, end, keys, scale, top);
            lse[first * each + r] = top + logf(sum);
            room.slopes[r] = 1.0f / sum;
        }
        clear(room.wide, rows * width);
        multiply((const pair *)room.p, keys / 2, 1, room.v_zipped, width, room.wide, width, rows,
                 width, keys / 2);
        for (int64_t r = 0; r < rows; r++) {
            bf16 *to = out + (first + r / each) * out_stride + r % each * width;
            for (int64_t i = 0; i < width; i++)
                to[i] = store_bf16(room.wide[r * width + i] * room.slopes[r]);
        }
    }
}

static void narrow(const float *from, bf16 *to, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = store_bf16(from[i]);
}

/* p becomes e^(scale s - lse), and ds = scale p (dp - sum(dp p)) lies over it. */
static void slope(const float *scores, const float *dp, bf16 *p, bf16 *ds, int64_t end,
                  int64_t keys, float scale, float lse) {
    float along = 0;
    weigh(scores, p, end, keys, scale, lse);
    _Pragma("omp simd reduction(+ : along)")
    for (int64_t i = 0; i < end; i++) along += load_bf16(p[i]) * dp[i];
    _Pragma("omp simd")
    for (int64_t i = 0; i < end; i++) ds[i] = store_bf16(scale * load_bf16(p[i]) * (dp[i] - along));
    memset(ds + end, 0, (keys - end) * sizeof *ds);
}

static void backward_task(const bf16 *q, const bf16 *k, const bf16 *v, const float *lse,
                          const bf16 *d_out, bf16 *dq, bf16 *dk, bf16 *dv, int64_t length,
                          int64_t each, int64_t width, int64_t out_stride, float scale, Room room) {
    int64_t padded = ROUND16(length), queries = block_queries(each);
    turn(k, room.k_turned, length, padded, width);
    zip(k, room.k_zipped, length, padded, width);
    turn(v, room.v_turned, length, padded, width);
    clear(room.dk, padded * width);
    clear(room.dv, padded * width);
    for (int64_t first = 0; first < length; first += queries) {
        int64_t stop = first + queries < length ? first + queries : length;
        int64_t rows = (stop - first) * each, keys = ROUND16(stop), even = (rows + 1) / 2 * 2;
        const bf16 *block = q + first * each * width;
        for (int64_t r = 0; r < rows; r++)
            memcpy(room.up + r * width, d_out + (first + r / each) * out_stride + r % each * width,
                   width * sizeof(bf16));
        clear(room.scores, rows * keys);
        clear(room.slopes, rows * keys);
        multiply((const pair *)block, width / 2, 1, room.k_turned, padded, room.scores, keys, rows,
                 keys, width / 2);
        multiply((const pair *)room.up, width / 2, 1, room.v_turned, padded, room.slopes, keys,
                 rows, keys, width / 2);
        bf16 *ds = (bf16 *)room.scores; /* each line over the scores that it was made of */
        for (int64_t r = 0; r < rows; r++)
            slope(room.scores + r * keys, room.slopes + r * keys, room.p + r * keys,
                  ds + r * keys * 2, first + r / each + 1, keys, scale, lse[first * each + r]);
        for (int64_t r = 1; r < rows; r++) memmove(ds + r * keys, ds + r * keys * 2, keys * 2);
        clear(room.wide, rows * width);
        multiply((const pair *)ds, keys / 2, 1, room.k_zipped, width, room.wide, width, rows, width,
                 keys / 2);
        narrow(room.wide, dq + first * each * width, rows * width);
        zip(room.p, room.p_zipped, rows, even, keys);
        zip(ds, room.s_zipped, rows, even, keys);
        zip(room.up, room.up_zipped, rows, even, width);
        zip(block, room.q_zipped, rows, even, width);
        multiply(room.p_zipped, 1, keys, room.up_zipped, width, room.dv, width, keys, width,
                 even / 2);
        multiply(room.s_zipped, 1, keys, room.q_zipped, width, room.dk, width, keys, width,
                 even / 2);
    }
    narrow(room.dk, dk, length * width);
    narrow(room.dv, dv, length * width);
}

#define EACH_TASK(WORK)                                                                            \
    int64_t rows = block_queries(each) * each, stride = groups * each * width;                     \
    _Pragma("omp parallel")                                                                        \
    {                                                                                              \
        Room room = make_room(rows, ROUND16(longest), width);                                      \
        _Pragma("omp for schedule(dynamic, 1)")                                                    \
        for (int64_t task = 0; task < examples * groups; task++) {                                 \
            int64_t g = task % groups, start = bounds[task / groups];                              \
            int64_t length = bounds[task / groups + 1] - start, at = g * tokens + start;           \
            int64_t own = at * each * width, key = at * width;                                     \
            int64_t side = start * stride + g * each * width;                                      \
            WORK;                                                                                  \
        }                                                                                          \
        free(room.all);                                                                            \
    }

/* `bounds` (examples + 1,): where each example begins, and the end. */
void causal_bf16(const bf16 *q, const bf16 *k, const bf16 *v, const int64_t *bounds, bf16 *out,
                 float *lse, int64_t examples, int64_t longest, int64_t tokens, int64_t groups,
                 int64_t each, int64_t width, float scale) {
    EACH_TASK(forward_task(q + own, k + key, v + key, out + side, lse + at * each, length, each,
                           width, stride, scale, room))
}

void causal_backward_bf16(const bf16 *q, const bf16 *k, const bf16 *v, const int64_t *bounds,
                          const float *lse, const bf16 *d_out, bf16 *dq, bf16 *dk, bf16 *dv,
                          int64_t examples, int64_t longest, int64_t tokens, int64_t groups,
                          int64_t each, int64_t width, float scale) {
    EACH_TASK(backward_task(q + own, k + key, v + key, lse + at * each, d_out + side, dq + own,
                            dk + key, dv + key, length, each, width, stride, scale, room))
}

#endif
