/* Products with a matrix that is laid out beforehand, for processors that multiply bf16 pairs:
   y = x b + thin thin_b.

   b (inner, columns) lies in panels of 64 columns, or of 16 where there are few, and within a panel as
   pairs of rows, pair by pair, so that a vector holds the pairs of 16 columns and is read in order.
   The second product, of a LoRA update, goes on in the same sums and so costs no pass over y.

   A task is one panel and some rows: every number of y is summed by one thread, in the order of
   `inner`, so its bits depend on neither the number of threads nor that of the rows. */

#include "number.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

typedef uint32_t __attribute__((may_alias)) pair;

/* Rows of a task: a few tiles, so that many tasks share themselves out evenly. */
#define ROWS 96
/* Pairs summed before the next rows have their turn: this much of a panel stays in the cache. */
#define PAIRS 1024
/* The most rows and vectors of a tile; either makes enough sums to keep the processor busy. */
#define TALL 12
#define WIDE 4

/* What is multiplied: `pairs` pairs of each row of x, `step` pairs apart, by a part of a panel. */
typedef struct {
    const pair *x, *panel;
    int64_t step, pairs;
} Factor;

/* Where sums begin (from `bias`, or zero where that is NULL, or where they were left) and end (in y,
   or where they are left if that is NULL). */
typedef struct {
    float *sums;
    int begin;
    const bf16 *bias;
    bf16 *y;
    int64_t step;
    __mmask16 inside[WIDE];
} Place;

#define INLINE static inline __attribute__((always_inline)) void

INLINE add(__m512 (*sum)[WIDE], const int rows, const int vectors, Factor f) {
    for (int64_t p = 0; p < f.pairs; p++) {
        __m512bh right[WIDE];
        for (int v = 0; v < vectors; v++)
            right[v] = (__m512bh)_mm512_loadu_si512(f.panel + (p * vectors + v) * 16);
        for (int r = 0; r < rows; r++) {
            __m512bh left = (__m512bh)_mm512_set1_epi32((int)f.x[r * f.step + p]);
            for (int v = 0; v < vectors; v++)
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
        }
    }
}

INLINE tile(const int rows, const int vectors, Factor wide, Factor thin, const Place *at, int64_t row) {
    __m512 sum[TALL][WIDE];
    float *left = at->sums + row * vectors * 16;
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            sum[r][v] = !at->begin  ? _mm512_loadu_ps(left + (r * vectors + v) * 16)
                        : !at->bias ? _mm512_setzero_ps()
                                    : _mm512_cvtpbh_ps((__m256bh)_mm256_maskz_loadu_epi16(
                                          at->inside[v], at->bias + 16 * v));
    wide.x += row * wide.step;
    thin.x += row * thin.step;
    add(sum, rows, vectors, wide);
    add(sum, rows, vectors, thin);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            if (at->y)
                _mm256_mask_storeu_epi16(at->y + (row + r) * at->step + 16 * v, at->inside[v],
                                         (__m256i)_mm512_cvtneps_pbh(sum[r][v]));
            else
                _mm512_storeu_ps(left + (r * vectors + v) * 16, sum[r][v]);
        }
}

/* All rows of a task over some pairs, as many at a time as a tile of so many vectors may have. */
#define TILES(VECTORS, TALLEST)                                                                    \
    static void tiles_##VECTORS(int64_t rows, Factor wide, Factor thin, const Place *at) {         \
        int64_t row = 0;                                                                           \
        for (; row + TALLEST <= rows; row += TALLEST) tile(TALLEST, VECTORS, wide, thin, at, row); \
        for (; row + 2 <= rows; row += 2) tile(2, VECTORS, wide, thin, at, row);                   \
        for (; row < rows; row++) tile(1, VECTORS, wide, thin, at, row);                           \
    }

TILES(4, 6)
TILES(1, 12)

static __mmask16 first(int64_t count) {
    return count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1;
}

/* y (rows, columns) = bias + x (rows, inner) b + thin (rows, rank) thin_b. Bias and thin may be NULL,
   the latter with rank 0. Panel j, of `vectors` (1 or 4) times 16 columns, is not zero from pair
   ranges[2 j] to ranges[2 j + 1] of b, and likewise ranks of thin_b. */
void product_bf16(const bf16 *x, const pair *b, const int64_t *ranges, const bf16 *bias,
                  const bf16 *thin, const pair *thin_b, const int64_t *ranks, bf16 *y, int64_t rows,
                  int64_t inner, int64_t rank, int64_t columns, int64_t vectors) {
    int64_t width = vectors * 16, panels = (columns + width - 1) / width;
    int64_t pairs = inner / 2, thin_pairs = rank / 2, blocks = (rows + ROWS - 1) / ROWS;
    _Pragma("omp parallel for schedule(dynamic) if (rows * inner * columns > 64 * SMALL)")
    for (int64_t task = 0; task < panels * blocks; task++) {
        int64_t j = task / blocks, row = task % blocks * ROWS, end = ranges[2 * j + 1];
        int64_t here = rows - row < ROWS ? rows - row : ROWS;
        float sums[ROWS * WIDE * 16];
        Place at = {.sums = sums, .begin = 1, .bias = bias ? bias + j * width : 0, .step = columns};
        for (int v = 0; v < vectors; v++) at.inside[v] = first(columns - j * width - 16 * v);
        for (int64_t p = ranges[2 * j]; !at.y; p += PAIRS, at.begin = 0) {
            int64_t some = end - p < PAIRS ? end - p : PAIRS;
            Factor wide = {(const pair *)x + row * pairs + p, b + (j * pairs + p) * width, pairs, some};
            Factor more = {0};
            if (p + some == end) at.y = y + row * columns + j * width;
            if (at.y && rank) {
                int64_t from = ranks[2 * j];
                more = (Factor){(const pair *)thin + row * thin_pairs + from,
                                thin_b + (j * thin_pairs + from) * width, thin_pairs,
                                ranks[2 * j + 1] - from};
            }
            if (vectors == WIDE) tiles_4(here, wide, more, &at);
            else tiles_1(here, wide, more, &at);
        }
    }
}

/* Lays out b (inner, columns), whose numbers are b[i * down + j * right]; beyond its columns, zero. */
void lay_bf16(const bf16 *b, pair *to, int64_t inner, int64_t columns, int64_t down, int64_t right,
              int64_t vectors) {
    int64_t width = vectors * 16, panels = (columns + width - 1) / width, pairs = inner / 2;
    _Pragma("omp parallel for schedule(static) if (inner * columns > SMALL)")
    for (int64_t j = 0; j < panels; j++) {
        const bf16 *from = b + j * width * right;
        pair *panel = to + j * pairs * width;
        int64_t some = columns - j * width < width ? columns - j * width : width;
        if (some < width) memset(panel, 0, pairs * width * sizeof *panel);
        for (int64_t p = 0; p < pairs; p++, from += 2 * down, panel += width) {
            const bf16 *low = from, *high = from + down;
            if (right == 1) /* Said apart, since then it is a loop of vectors. */
                for (int64_t c = 0; c < some; c++) panel[c] = low[c] | (pair)high[c] << 16;
            else
                for (int64_t c = 0; c < some; c++)
                    panel[c] = low[c * right] | (pair)high[c * right] << 16;
        }
    }
}

/* Columns of y that one task of `outer` makes, and pairs of rows that it reads at a time: a line of
   the cache serves all its vectors. */
#define STRIPE 64
#define LINES 32

/* sums (16 ranks, 16 columns) += t^T x over some pairs of rows; t is zipped, 16 ranks a pair of rows,
   and x (rows, width). The last pair may have one row only. */
static void outer_tile(const pair *t, const bf16 *x, float *sums, int64_t pairs, int64_t rows,
                       int64_t width, __mmask16 inside) {
    __m512 sum[16];
    for (int r = 0; r < 16; r++) sum[r] = _mm512_loadu_ps(sums + r * STRIPE);
    for (int64_t p = 0; p < pairs; p++) {
        const bf16 *low = x + 2 * p * width;
        __mmask16 second = 2 * p + 1 < rows ? inside : 0;
        __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(inside, low));
        __m512i odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(second, low + width));
        __m512bh right = (__m512bh)_mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
        for (int r = 0; r < 16; r++) {
            __m512bh left = (__m512bh)_mm512_set1_epi32((int)t[p * 16 + r]);
            sum[r] = _mm512_dpbf16_ps(sum[r], left, right);
        }
    }
    for (int r = 0; r < 16; r++) _mm512_storeu_ps(sums + r * STRIPE, sum[r]);
}

/* y (ranks, columns) float = t (rows, ranks)^T x (rows, columns), of which only 16 ranks from
   firsts[i] and the columns from starts[i] to ends[i] are made, for each of `num` blocks i; the rest
   of y is left as it is. zipped: room for num ((rows + 1) / 2) 16 pairs. */
void outer_bf16(const bf16 *t, const bf16 *x, float *y, pair *zipped, const int64_t *firsts,
                const int64_t *starts, const int64_t *ends, int64_t num, int64_t rows, int64_t ranks,
                int64_t columns) {
    int64_t pairs = (rows + 1) / 2, stripes = (columns + STRIPE - 1) / STRIPE;
    _Pragma("omp parallel if (rows * num * columns > SMALL)")
    {
        _Pragma("omp for schedule(static)")
        for (int64_t i = 0; i < num; i++)
            for (int64_t p = 0; p < pairs; p++)
                for (int64_t r = 0; r < 16; r++) {
                    int64_t rank = firsts[i] + r, row = 2 * p;
                    pair low = rank < ranks ? t[row * ranks + rank] : 0;
                    pair high = rank < ranks && row + 1 < rows ? t[(row + 1) * ranks + rank] : 0;
                    zipped[(i * pairs + p) * 16 + r] = low | high << 16;
                }
        _Pragma("omp for schedule(dynamic)")
        for (int64_t task = 0; task < num * stripes; task++) {
            int64_t i = task / stripes, start = starts[i] + task % stripes * STRIPE;
            if (start >= ends[i]) continue;
            float sums[16 * STRIPE] = {0};
            for (int64_t p = 0; p < pairs; p += LINES)
                for (int64_t v = 0; v < STRIPE && start + v < ends[i]; v += 16)
                    outer_tile(zipped + (i * pairs + p) * 16, x + 2 * p * columns + start + v, sums + v,
                               pairs - p < LINES ? pairs - p : LINES, rows - 2 * p, columns,
                               first(ends[i] - start - v));
            int64_t width = ends[i] - start < STRIPE ? ends[i] - start : STRIPE;
            for (int64_t r = 0; r < 16 && firsts[i] + r < ranks; r++)
                memcpy(y + (firsts[i] + r) * columns + start, sums + r * STRIPE, width * sizeof *y);
        }
    }
}
#endif
