/* Sums of products of whole numbers, with the vectors and instructions that this processor has.

   A vector holds LANES sums. One operation adds to each of them GROUP products: of codes of x, the
   same for all lanes, and of weights, GROUP beside each other for each lane. The sums are exact.

   Some instructions multiply unsigned by signed bytes. Codes are then x + SHIFT, and whoever sums has to
   take SHIFT times the sum of the weights off again. */

#ifndef TUNESMITH_LANES_H
#define TUNESMITH_LANES_H

#include "number.h"

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* Codes of a row that lie beside each other, as one number to hand to all lanes. */
typedef int32_t __attribute__((may_alias, aligned(1))) group;

#if defined(SPELLED_OUT) /* Any processor, slowly: what tests hold against the others. */
#define LANES SPELLED_OUT
#define GROUP 4
typedef uint8_t code;
#elif defined(__AVX512VNNI__)
#define LANES 16
#define GROUP 4
typedef uint8_t code;
#elif defined(__AVXVNNI__)
#define LANES 8
#define GROUP 4
typedef uint8_t code;
#elif defined(__AVX2__) /* Bytes would be added up in 16 bits and lose what does not fit. */
#define LANES 8
#define GROUP 2
typedef int16_t code;
#endif

#ifdef LANES
#define SHIFT (GROUP == 4 ? 128 : 0)

typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef float floats __attribute__((vector_size(4 * LANES)));

#if defined(SPELLED_OUT)
typedef struct {
    int8_t at[LANES * GROUP];
} weights;

INLINE weights load_weights(const int8_t *from) {
    weights loaded;
    memcpy(&loaded, from, sizeof loaded);
    return loaded;
}

INLINE ints add_products(ints sum, group x, weights w) {
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < GROUP; i++)
            sum[lane] += (int32_t)(code)(x >> 8 * i) * w.at[lane * GROUP + i];
    return sum;
}
#elif defined(__AVX512VNNI__)
typedef __m512i weights;

INLINE weights load_weights(const int8_t *from) { return _mm512_loadu_si512(from); }

INLINE ints add_products(ints sum, group x, weights w) {
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(x), w);
}
#elif defined(__AVXVNNI__)
typedef __m256i weights;

INLINE weights load_weights(const int8_t *from) { return _mm256_loadu_si256((const __m256i *)from); }

INLINE ints add_products(ints sum, group x, weights w) {
    return (ints)_mm256_dpbusd_avx_epi32((__m256i)sum, _mm256_set1_epi32(x), w);
}
#else
typedef __m256i weights;

INLINE weights load_weights(const int8_t *from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from));
}

INLINE ints add_products(ints sum, group x, weights w) {
    return sum + (ints)_mm256_madd_epi16(_mm256_set1_epi32(x), w);
}
#endif

INLINE floats load_floats(const float *from) {
    floats loaded;
    memcpy(&loaded, from, sizeof loaded);
    return loaded;
}

/* sum + x y, rounded once where the processor has that. */
INLINE floats add_product(floats sum, float x, floats y) {
#if defined(SPELLED_OUT) || !defined(__FMA__)
    return sum + x * y;
#elif LANES == 16
    return (floats)_mm512_fmadd_ps(_mm512_set1_ps(x), (__m512)y, (__m512)sum);
#else
    return (floats)_mm256_fmadd_ps(_mm256_set1_ps(x), (__m256)y, (__m256)sum);
#endif
}
#endif
#endif
