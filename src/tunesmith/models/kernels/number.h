/* Numbers of the kernels: stored as float or bf16, computed as float.

   A kernel is written once, for a stored type T, and instantiated for both with the macros below.
   bf16 is the upper half of a float; rounding is to nearest even, and NaN stays NaN. */

#ifndef TUNESMITH_NUMBER_H
#define TUNESMITH_NUMBER_H

#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

/* Work below this many numbers is done by one thread: waking a second costs more. */
#define SMALL 16384

static inline float load_float(float x) { return x; }
static inline float store_float(float x) { return x; }

static inline float load_bf16(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline bf16 store_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uint32_t nan = (bits >> 16) | 64;
    return (bf16)((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

/* exp(x) for float: x = n ln 2 + r with |r| <= ln 2 / 2, then a polynomial in r (Cephes expf, relative
   error below 2e-7) and n into the exponent. Below the range of normal floats it is 0. Written without
   branches and calls, so that the compiler makes vectors of it. */
static inline float exponential(float x) {
    float inside = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    float shifted = inside * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to a whole number */
    float n = shifted - 12582912.0f;
    float r = inside - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits;
    memcpy(&bits, &p, sizeof bits);
    bits += (int32_t)n << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    value = x < -87.0f ? 0.0f : value;
    return x != x ? x : value;
}

#define EACH_TYPE(KERNEL) KERNEL(float) KERNEL(bf16)
#define LOAD(T) load_##T
#define STORE(T) store_##T

#endif
