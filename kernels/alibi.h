/* ALiBi (Press et al. 2022), for both devices: a key adds slope * position to its scores before
 * they are scaled, so that of two equal keys the nearer one weighs more. As transformers' Falcon
 * computes it, slope, position and product are rounded to bf16. FORMULA is defined by what includes
 * this. */
#ifndef PARE_ALIBI_H
#define PARE_ALIBI_H

#include <math.h>
#include <stdint.h>

/* to the nearest bf16, of two as near the even one */
FORMULA float alibi_round(float x)
{
    union {
        float f;
        uint32_t u;
    } y = {x};
    y.u += 0x7fff + (y.u >> 16 & 1);
    y.u &= 0xffff0000;
    return y.f;
}

/* 2^(-8 (h + 1) / n) for head h of n, if n is a power of two; else the slopes of the power below n
 * come first, then every other one of the next power. */
FORMULA float alibi_slope(int head, int heads)
{
    int power = 1;
    while (2 * power <= heads)
        power *= 2;
    float exponent = head < power ? (float)(head + 1) : (float)(head - power) + 0.5f;
    return alibi_round(exp2f(-8 * exponent / (float)power));
}

FORMULA float alibi_bias(float slope, int position)
{
    return alibi_round(slope * alibi_round((float)position));
}

#endif
