/* Products of rows rounded to whole numbers with an int8 matrix:

   y = (sum over segments s of scale_s q_s B_s) column + bias + thin thin_b

   A segment is a range of what is summed over in which each row of x has a scale of its own; `column`
   are the scales of B. A task is one panel, of WIDTH columns of B, and many rows. It first lays the panel
   out as groups of rows, so that what one vector operation multiplies lies beside each other (lanes.h):
   that takes a few hundredths of the time, and no memory that stays.

   Every number of y is made by one thread, in one order, and the sums of whole numbers are exact, so
   its bits depend on neither the number of threads nor of rows. */

#include <stdlib.h>

#include "lanes.h"
#include "round.h"

#ifdef LANES

/* Vectors and rows of a tile: as many sums as the processor has registers for. */
#define WIDE (LANES == 16 ? 4 : 2)
#define TALL 6
#define WIDTH (WIDE * LANES)
/* Rows that have their turn together: they and what is made of them stay in the second cache. */
#define ROWS 48

int64_t whole_width(void) { return WIDTH; }
int64_t whole_group(void) { return GROUP; }

/* codes (rows, groups GROUP) and scale (segments, rows) with (codes - SHIFT) scale = VALUE within half a
   scale; ends (segments,): groups where each ends. Two functions, since a loop with a choice inside is
   slow. */
#define CODES(NAME, T, VALUE)                                                                      \
    void NAME##_##T(const T *x, const float *factor, const int64_t *ends, code *codes,             \
                    float *scale, int64_t rows, int64_t groups, int64_t segments) {                \
        _Pragma("omp parallel for schedule(static) if (rows * groups > SMALL)")                    \
        for (int64_t row = 0; row < rows; row++) {                                                 \
            const T *in = x + row * groups * GROUP;                                                \
            code *out = codes + row * groups * GROUP;                                              \
            for (int64_t s = 0, begin = 0; s < segments; begin = ends[s++] * GROUP) {              \
                int64_t end = ends[s] * GROUP;                                                     \
                ROUND(VALUE, begin, end, out, code, SHIFT, scale[s * rows + row])                  \
            }                                                                                      \
        }                                                                                          \
    }

#define PLAIN_CODES(T) CODES(code_rows, T, LOAD(T)(in[k]))
#define TIMES_CODES(T) CODES(code_rows_times, T, (LOAD(T)(in[k]) * factor[k]))
EACH_TYPE(PLAIN_CODES)
EACH_TYPE(TIMES_CODES)

/* Numbers at[i * down + j * right]; one of both steps is 1. */
typedef struct {
    const int8_t *at;
    int64_t down, right;
} Matrix;

/* A group of numbers below each other, and as many columns of them as 16 bytes hold. */
#define SQUARE (16 / GROUP)
#if GROUP == 4
typedef uint32_t __attribute__((may_alias)) word;
#define LOW (square){0, 4, 1, 5}
#define HIGH (square){2, 6, 3, 7}
#else
typedef uint16_t __attribute__((may_alias)) word;
#define LOW (square){0, 8, 1, 9, 2, 10, 3, 11}
#define HIGH (square){4, 12, 5, 13, 6, 14, 7, 15}
#endif
typedef word square __attribute__((vector_size(16)));

/* Transposes SQUARE columns of as many words, `step` bytes apart, into rows WIDTH words apart. */
INLINE void turn(const int8_t *from, int64_t step, word *to) {
    square v[SQUARE], next[SQUARE];
    for (int i = 0; i < SQUARE; i++) memcpy(v + i, from + i * step, sizeof *v);
    for (int round = 1; round < SQUARE; round *= 2) {
        for (int i = 0; i < SQUARE / 2; i++) {
            next[2 * i] = __builtin_shuffle(v[i], v[i + SQUARE / 2], LOW);
            next[2 * i + 1] = __builtin_shuffle(v[i], v[i + SQUARE / 2], HIGH);
        }
        memcpy(v, next, sizeof v);
    }
    for (int i = 0; i < SQUARE; i++) memcpy(to + i * WIDTH, v + i, sizeof *v);
}

/* Words whose bytes lie beside each other in a column of b. */
static void lay_columns(Matrix b, word *panel, int64_t groups, int64_t columns) {
    for (int64_t c = 0; c < columns; c += SQUARE) {
        const int8_t *from = b.at + c * b.right;
        int64_t g = 0;
        if (c + SQUARE <= columns)
            for (; g + SQUARE <= groups; g += SQUARE) turn(from + g * GROUP, b.right, panel + g * WIDTH + c);
        for (; g < groups; g++)
            for (int64_t i = c; i < columns && i < c + SQUARE; i++)
                memcpy(panel + g * WIDTH + i, b.at + i * b.right + g * GROUP, GROUP);
    }
}

/* Words whose bytes lie in rows of b. */
INLINE void lay_rows(Matrix b, word *panel, int64_t groups, const int64_t columns) {
    for (int64_t g = 0; g < groups; g++, panel += WIDTH) {
        const uint8_t *row = (const uint8_t *)b.at + g * GROUP * b.down;
        for (int64_t c = 0; c < columns; c++) {
            word bytes = 0;
            for (int i = 0; i < GROUP; i++) bytes |= (word)row[i * b.down + c] << 8 * i;
            panel[c] = bytes;
        }
    }
}

/* Lays out `groups` groups of rows of `columns` columns; beyond these, zero. off: SHIFT times the sums
   of the columns. */
static void lay(Matrix b, int8_t *panel, int32_t *off, int64_t groups, int64_t columns) {
    if (columns < WIDTH) memset(panel, 0, groups * GROUP * WIDTH);
    if (b.down == 1) lay_columns(b, (word *)panel, groups, columns);
    else if (columns == WIDTH) lay_rows(b, (word *)panel, groups, WIDTH);
    else lay_rows(b, (word *)panel, groups, columns);
    ints sum[WIDE] = {0};
    for (int64_t g = 0; g < groups && SHIFT; g++)
        for (int v = 0; v < WIDE; v++)
            sum[v] = add_products(sum[v], 0x01010101, load_weights(panel + (g * WIDE + v) * LANES * GROUP));
    for (int v = 0; v < WIDE; v++) sum[v] *= SHIFT;
    memcpy(off, sum, sizeof sum);
}

/* What is multiplied: codes of rows, `step` apart, by a part of a panel. */
typedef struct {
    const code *x;
    const int8_t *panel;
    int64_t step, groups;
} Factor;

/* What is added to the sums: ranks of rows, `step` apart, times a part of a panel. */
typedef struct {
    const float *x, *panel;
    int64_t step, ranks;
} Thin;

/* y of rows = or += scale times the exact sums; `shift` is what SHIFT adds to these. */
INLINE void sum_tile(const int rows, Factor f, const int32_t *shift, const float *scale, int begin,
                     floats (*y)[WIDE]) {
    ints sum[TALL][WIDE];
    for (int v = 0; v < WIDE; v++) {
        ints off;
        memcpy(&off, shift + v * LANES, sizeof off);
        for (int r = 0; r < rows; r++) sum[r][v] = -off;
    }
    for (int64_t g = 0; g < f.groups; g++) {
        weights right[WIDE];
        for (int v = 0; v < WIDE; v++) right[v] = load_weights(f.panel + (g * WIDE + v) * LANES * GROUP);
        for (int r = 0; r < rows; r++) {
            group left = *(const group *)(f.x + r * f.step + g * GROUP);
            for (int v = 0; v < WIDE; v++) sum[r][v] = add_products(sum[r][v], left, right[v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < WIDE; v++) {
            floats before = begin ? (floats){0} : y[r][v];
            y[r][v] = add_product(before, scale[r], __builtin_convertvector(sum[r][v], floats));
        }
}

INLINE void thin_tile(const int rows, Thin t, floats (*y)[WIDE]) {
    floats sum[TALL][WIDE];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < WIDE; v++) sum[r][v] = y[r][v];
    for (int64_t k = 0; k < t.ranks; k++)
        for (int v = 0; v < WIDE; v++) {
            floats right = load_floats(t.panel + k * WIDTH + v * LANES);
            for (int r = 0; r < rows; r++) sum[r][v] = add_product(sum[r][v], t.x[r * t.step + k], right);
        }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < WIDE; v++) y[r][v] = sum[r][v];
}

static void add_segment(Factor f, const int32_t *shift, const float *scale, int begin, int64_t rows,
                        floats (*y)[WIDE]) {
    int64_t row = 0;
    for (; row + TALL <= rows; row += TALL, f.x += TALL * f.step)
        sum_tile(TALL, f, shift, scale + row, begin, y + row);
    for (; row < rows; row++, f.x += f.step) sum_tile(1, f, shift, scale + row, begin, y + row);
}

static void add_thin(Thin t, int64_t rows, floats (*y)[WIDE]) {
    int64_t row = 0;
    for (; row + TALL <= rows; row += TALL, t.x += TALL * t.step) thin_tile(TALL, t, y + row);
    for (; row < rows; row++, t.x += t.step) thin_tile(1, t, y + row);
}

static void multiply(const float *column, int64_t columns, int64_t rows, floats (*y)[WIDE]) {
    floats by[WIDE] = {0};
    memcpy(by, column, columns * sizeof *column);
    for (int64_t r = 0; r < rows; r++)
        for (int v = 0; v < WIDE; v++) y[r][v] *= by[v];
}

/* What is multiplied: x as codes (rows, groups GROUP) and scale (segments, rows), ends (segments,) the
   groups where each ends; column (columns,), or NULL for 1; t (rows, rank) and its panels (rank, WIDTH),
   with rank 0 for none: of panel j, the ranks from ranks[2 j] to ranks[2 j + 1] are not zero. */
typedef struct {
    const code *codes;
    const float *scale;
    const int64_t *ends;
    Matrix b;
    const float *column, *t, *thin;
    const int64_t *ranks;
    int64_t rows, groups, segments, rank, columns;
} Product;

/* Lays out panel j; shift (segments, WIDTH). */
static void lay_panel(const Product *p, int64_t j, int8_t *panel, int32_t *shift) {
    int64_t some = p->columns - j * WIDTH < WIDTH ? p->columns - j * WIDTH : WIDTH;
    for (int64_t s = 0, g = 0; s < p->segments; g = p->ends[s++]) {
        Matrix b = {p->b.at + g * GROUP * p->b.down + j * WIDTH * p->b.right, p->b.down, p->b.right};
        lay(b, panel + g * GROUP * WIDTH, shift + s * WIDTH, p->ends[s] - g, some);
    }
}

/* y of `here` rows from `row` on, in the columns of panel j, without bias. */
static void make(const Product *p, int64_t j, const int8_t *panel, const int32_t *shift, int64_t row,
                 int64_t here, floats (*y)[WIDE]) {
    int64_t step = p->groups * GROUP;
    for (int64_t s = 0, g = 0; s < p->segments; g = p->ends[s++]) {
        Factor f = {p->codes + row * step + g * GROUP, panel + g * GROUP * WIDTH, step, p->ends[s] - g};
        add_segment(f, shift + s * WIDTH, p->scale + s * p->rows + row, s == 0, here, y);
    }
    if (p->column) {
        int64_t some = p->columns - j * WIDTH < WIDTH ? p->columns - j * WIDTH : WIDTH;
        multiply(p->column + j * WIDTH, some, here, y);
    }
    if (p->rank) {
        int64_t low = p->ranks[2 * j];
        Thin thin = {p->t + row * p->rank + low, p->thin + (j * p->rank + low) * WIDTH, p->rank,
                     p->ranks[2 * j + 1] - low};
        add_thin(thin, here, y);
    }
}

/* y (rows, columns), with values[i * down + j * right] the numbers of B and bias (columns,), or NULL
   for 0. A task has `most` rows. */
#define PRODUCT(T)                                                                                 \
    void whole_product_##T(const code *codes, const float *scale, const int64_t *ends,             \
                           const int8_t *values, const float *column, const T *bias,               \
                           const float *t, const float *thin, const int64_t *ranks, T *y,          \
                           int64_t rows, int64_t groups, int64_t segments, int64_t rank,           \
                           int64_t columns, int64_t down, int64_t right, int64_t most) {           \
        Product p = {codes, scale, ends, {values, down, right}, column, t, thin, ranks,            \
                     rows,  groups, segments, rank, columns};                                      \
        int64_t num = (columns + WIDTH - 1) / WIDTH, blocks = (rows + most - 1) / most;            \
        _Pragma("omp parallel if (rows * groups * columns > 16 * SMALL)")                          \
        {                                                                                          \
            int8_t *panel = malloc(groups * GROUP * WIDTH);                                        \
            int32_t *shift = malloc(segments * WIDTH * sizeof *shift);                             \
            _Pragma("omp for schedule(dynamic)")                                                   \
            for (int64_t task = 0; task < num * blocks; task++) {                                  \
                int64_t j = task / blocks, row = task % blocks * most, first = j * WIDTH;          \
                int64_t end = rows - row < most ? rows : row + most;                               \
                int64_t some = columns - first < WIDTH ? columns - first : WIDTH;                  \
                lay_panel(&p, j, panel, shift);                                                    \
                for (; row < end; row += ROWS) {                                                   \
                    floats made[ROWS][WIDE];                                                       \
                    int64_t here = end - row < ROWS ? end - row : ROWS;                            \
                    make(&p, j, panel, shift, row, here, made);                                    \
                    for (int64_t r = 0; r < here; r++) {                                           \
                        const float *from = (const float *)made[r];                                \
                        T *to = y + (row + r) * columns + first;                                   \
                        if (!bias)                                                                 \
                            for (int64_t c = 0; c < some; c++) to[c] = STORE(T)(from[c]);          \
                        else                                                                       \
                            for (int64_t c = 0; c < some; c++)                                     \
                                to[c] = STORE(T)(from[c] + LOAD(T)(bias[first + c]));              \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
            free(panel);                                                                           \
            free(shift);                                                                           \
        }                                                                                          \
    }

EACH_TYPE(PRODUCT)
#endif
