/* Numbers of a row rounded to whole numbers with one scale: what int8.c and whole.c both do. */

#ifndef TUNESMITH_ROUND_H
#define TUNESMITH_ROUND_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LARGEST 127.0f
#define TINY (LARGEST * 1.17549435e-38f)

/* out[k] of CODE from `first` to `end` and SCALE with (out[k] - PLUS) SCALE = VALUE, which reads k, within
   half a scale. The largest is found among the bits of the absolute values, where NaN is above infinity
   and so is not lost. */
#define ROUND(VALUE, first, end, out, CODE, PLUS, SCALE)                                           \
    {                                                                                              \
        int32_t most = 0;                                                                          \
        _Pragma("omp simd reduction(max : most)")                                                  \
        for (int64_t k = first; k < end; k++) {                                                    \
            float value = VALUE;                                                                   \
            int32_t bits;                                                                          \
            memcpy(&bits, &value, sizeof bits);                                                    \
            bits &= 0x7fffffff;                                                                    \
            most = bits > most ? bits : most;                                                      \
        }                                                                                          \
        float largest;                                                                             \
        memcpy(&largest, &most, sizeof largest);                                                   \
        float inverse = LARGEST / (largest < TINY ? TINY : largest);                               \
        _Pragma("omp simd")                                                                        \
        for (int64_t k = first; k < end; k++)                                                      \
            out[k] = (CODE)((int32_t)rintf(VALUE * inverse) + PLUS);                               \
        SCALE = largest / LARGEST;                                                                 \
    }

#endif
