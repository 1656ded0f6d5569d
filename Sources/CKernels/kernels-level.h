// Both precisions for one level; included with LEVEL.
// Vectors wider than the level's registers are passed to functions of this file alone, all inlined.
#pragma clang diagnostic ignored "-Wpsabi"
#define INLINE static inline __attribute__((always_inline))
#define JOIN2(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN2(a, b, c)
// What REAL needs of a constant that both precisions have.
#define OF_REAL(single, twice) (sizeof(REAL) == 4 ? (single) : (twice))

#define REAL float
#define INT int
#define LANES 16
#define NAME(x) JOIN(x, f32, LEVEL)
#define EXP_POLYNOMIAL(r)                                                                    \
  (((((((1.0f / 5040 * r + 1.0f / 720) * r + 1.0f / 120) * r + 1.0f / 24) * r + 1.0f / 6) * r \
     + 0.5f) * r + 1) * r + 1)
// (2^f - 1) / f for |f| <= 1/2, interpolated at Chebyshev's points: off by 5e-9
#define EXP2_POLYNOMIAL(f) \
  (((((0.0001545316294512069f * f + 0.0013390863364671234f) * f +                      \
  0.009618082557277852f) * f + 0.05550357114219078f) * f + 0.24022650760568126f) * f + \
  0.6931471880262288f)                                                                
#define LOG_POLYNOMIAL(q) \
  ((((1.0f / 11 * q + 1.0f / 9) * q + 1.0f / 7) * q + 1.0f / 5) * q + 1.0f / 3)
#include "kernels-real.h"
#undef REAL
#undef INT
#undef LANES
#undef NAME
#undef EXP_POLYNOMIAL
#undef EXP2_POLYNOMIAL
#undef LOG_POLYNOMIAL

#define REAL double
#define INT long long
#define LANES 8
#define NAME(x) JOIN(x, f64, LEVEL)
#define EXP_POLYNOMIAL(r)                                                                        \
  (((((((((((((1.0 / 6227020800 * r + 1.0 / 479001600) * r + 1.0 / 39916800) * r + 1.0 / 3628800) \
             * r + 1.0 / 362880) * r + 1.0 / 40320) * r + 1.0 / 5040) * r + 1.0 / 720) * r        \
         + 1.0 / 120) * r + 1.0 / 24) * r + 1.0 / 6) * r + 0.5) * r + 1) * r + 1)
// (2^f - 1) / f for |f| <= 1/2, interpolated at Chebyshev's points: off by 1e-17
#define EXP2_POLYNOMIAL(f) \
  ((((((((((4.4549605981865186e-10 * f + 7.072585949269223e-09) * f +                 \
  1.0178062445845774e-07) * f + 1.321544258792169e-06) * f + 1.525273382983612e-05) * \
  f + 0.0001540353044173605) * f + 0.0013333558146416936) * f + 0.009618129107606888) \
  * f + 0.0555041086648216) * f + 0.24022650695910097) * f + 0.6931471805599453)     
#define LOG_POLYNOMIAL(q)                                                                          \
  ((((((((((1.0 / 23 * q + 1.0 / 21) * q + 1.0 / 19) * q + 1.0 / 17) * q + 1.0 / 15) * q + 1.0 / 13) \
        * q + 1.0 / 11) * q + 1.0 / 9) * q + 1.0 / 7) * q + 1.0 / 5) * q + 1.0 / 3)
#include "kernels-real.h"

const struct ck_kernels_f32 JOIN(ck, f32, LEVEL) = {
  JOIN(silu, f32, LEVEL), JOIN(gate, f32, LEVEL), JOIN(log_gate, f32, LEVEL),
  JOIN(softmax, f32, LEVEL), JOIN(widen, f32, LEVEL), JOIN(dot, f32, LEVEL),
  JOIN(dots, f32, LEVEL), JOIN(convolve, f32, LEVEL), JOIN(scan, f32, LEVEL)};
const struct ck_kernels_f64 JOIN(ck, f64, LEVEL) = {
  JOIN(silu, f64, LEVEL), JOIN(gate, f64, LEVEL), JOIN(log_gate, f64, LEVEL),
  JOIN(softmax, f64, LEVEL), JOIN(widen, f64, LEVEL), JOIN(dot, f64, LEVEL),
  JOIN(dots, f64, LEVEL), JOIN(convolve, f64, LEVEL), JOIN(scan, f64, LEVEL)};
