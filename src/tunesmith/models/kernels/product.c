/* Products with a frozen matrix, for processors that multiply bf16 pairs: y = x b + thin thin_b.

   b (inner, columns) is laid out once: in panels of 64 columns, and within a panel as pairs of rows,
   pair by pair, so that a vector holds the pairs of 16 columns and is read in order. The second
   product, of a LoRA update, goes on in the same sums and so costs no pass over y.

   A task is one panel and some rows: every number of y is summed by one thread, in the order of
   `inner`, so its bits depend on neither the number of threads nor that of the rows. */

#include "number.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

typedef uint32_t __attribute__((may_alias)) pair;

#define PANEL 64
/* Rows of a task: a few tiles, so that many tasks share themselves out evenly. */
#define ROWS 96
/* Pairs summed before the next rows have their turn: this much of a panel stays in the cache. */
#define PAIRS 1024

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
} Place;

static inline __attribute__((always_inline)) void add(__m512 (*sum)[4], const int rows, Factor f) {
    for (int64_t p = 0; p < f.pairs; p++) {
        __m512bh right[4];
        for (int v = 0; v < 4; v++)
            right[v] = (__m512bh)_mm512_loadu_si512(f.panel + p * PANEL + 16 * v);
        for (int r = 0; r < rows; r++) {
            __m512bh left = (__m512bh)_mm512_set1_epi32((int)f.x[r * f.step + p]);
            for (int v = 0; v < 4; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
        }
    }
}

static inline __attribute__((always_inline)) void tile(const int rows, Factor wide, Factor thin,
                                                       Place at, const __mmask16 *inside) {
    __m512 sum[6][4];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++)
            sum[r][v] = !at.begin  ? _mm512_loadu_ps(at.sums + r * PANEL + 16 * v)
                        : !at.bias ? _mm512_setzero_ps()
                                   : _mm512_cvtpbh_ps((__m256bh)_mm256_maskz_loadu_epi16(
                                         inside[v], at.bias + 16 * v));
    add(sum, rows, wide);
    add(sum, rows, thin);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) {
            if (at.y)
                _mm256_mask_storeu_epi16(at.y + r * at.step + 16 * v, inside[v],
                                         (__m256i)_mm512_cvtneps_pbh(sum[r][v]));
            else
                _mm512_storeu_ps(at.sums + r * PANEL + 16 * v, sum[r][v]);
        }
}

/* All rows of a task over some pairs. */
static void tiles(int64_t rows, Factor wide, Factor thin, Place at, const __mmask16 *inside) {
    while (rows > 0) {
        int64_t done = rows < 6 ? rows : 6;
        switch (done) {
            case 6: tile(6, wide, thin, at, inside); break;
            case 5: tile(5, wide, thin, at, inside); break;
            case 4: tile(4, wide, thin, at, inside); break;
            case 3: tile(3, wide, thin, at, inside); break;
            case 2: tile(2, wide, thin, at, inside); break;
            default: tile(1, wide, thin, at, inside);
        }
        rows -= done;
        wide.x += done * wide.step;
        thin.x += done * thin.step;
        at.sums += done * PANEL;
        if (at.y) at.y += done * at.step;
    }
}

/* y (rows, columns) = bias + x (rows, inner) b + thin (rows, rank) thin_b. Bias and thin may be NULL,
   the latter with rank 0. Panel j of thin_b counts from pair ranks[2 j] to ranks[2 j + 1]: the rest of
   it is zero. */
void product_bf16(const bf16 *x, const pair *b, const bf16 *bias, const bf16 *thin,
                  const pair *thin_b, const int64_t *ranks, bf16 *y, int64_t rows, int64_t inner,
                  int64_t rank, int64_t columns) {
    int64_t panels = (columns + PANEL - 1) / PANEL, blocks = (rows + ROWS - 1) / ROWS;
    int64_t pairs = inner / 2, thin_pairs = rank / 2;
    _Pragma("omp parallel for schedule(dynamic) if (rows * inner * columns > 64 * SMALL)")
    for (int64_t task = 0; task < panels * blocks; task++) {
        int64_t j = task / blocks, row = task % blocks * ROWS, left = columns - j * PANEL;
        int64_t here = rows - row < ROWS ? rows - row : ROWS;
        float sums[ROWS * PANEL];
        __mmask16 inside[4];
        for (int v = 0; v < 4; v++) {
            int64_t some = left - 16 * v;
            inside[v] = some >= 16 ? 0xffff : some <= 0 ? 0 : (1u << some) - 1;
        }
        for (int64_t p = 0; p < pairs; p += PAIRS) {
            int last = p + PAIRS >= pairs;
            Factor wide = {(const pair *)x + row * pairs + p, b + (j * pairs + p) * PANEL, pairs,
                           last ? pairs - p : PAIRS};
            Factor more = {0};
            if (last && rank) {
                int64_t from = ranks[2 * j];
                more = (Factor){(const pair *)thin + row * thin_pairs + from,
                                thin_b + (j * thin_pairs + from) * PANEL, thin_pairs,
                                ranks[2 * j + 1] - from};
            }
            Place at = {sums, p == 0, bias ? bias + j * PANEL : 0, 
                        last ? y + row * columns + j * PANEL : 0, columns};
            tiles(here, wide, more, at, inside);
        }
    }
}

/* Lays out b (inner, columns), whose numbers are b[i * down + j * right]; beyond its columns, zero. */
void lay_bf16(const bf16 *b, pair *to, int64_t inner, int64_t columns, int64_t down, int64_t right) {
    int64_t panels = (columns + PANEL - 1) / PANEL;
    _Pragma("omp parallel for schedule(static) if (inner * columns > SMALL)")
    for (int64_t j = 0; j < panels; j++)
        for (int64_t c = 0; c < PANEL; c++) {
            int64_t column = j * PANEL + c;
            for (int64_t p = 0; p < inner / 2; p++) {
                pair value = 0;
                if (column < columns) {
                    const bf16 *from = b + 2 * p * down + column * right;
                    value = from[0] | (pair)from[down] << 16;
                }
                to[(j * (inner / 2) + p) * PANEL + c] = value;
            }
        }
}
#endif
