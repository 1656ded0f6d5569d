#include "include/kernels.h"

#include <string.h>

// Carry-less products fold 64 bytes at a time into four times 16 (Gopal et al., "Fast CRC
// Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009). What is left has the
// same remainder as everything before it, so that any other way of summing can finish.
#if defined(__x86_64__)
#include <immintrin.h>

// x^(distance + 32) and x^(distance - 32) modulo zip's polynomial, reflected, for 512 and 128 bits.
static const unsigned long long by_512[2] = {0x0154442bd4, 0x01c6e41596};
static const unsigned long long by_128[2] = {0x01751997d0, 0x00ccaa009e};

__attribute__((target("pclmul,sse4.1"))) static __m128i fold(__m128i sum, __m128i by, __m128i next) {
  __m128i low = _mm_clmulepi64_si128(sum, by, 0x00), high = _mm_clmulepi64_si128(sum, by, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

__attribute__((target("pclmul,sse4.1"))) static long folded(
  unsigned int crc, const unsigned char *bytes, long count, unsigned char rest[16]) {
  const __m128i *at = (const __m128i *)bytes;
  __m128i a = _mm_xor_si128(_mm_loadu_si128(at), _mm_cvtsi32_si128((int)crc));
  __m128i b = _mm_loadu_si128(at + 1), c = _mm_loadu_si128(at + 2), d = _mm_loadu_si128(at + 3);
  __m128i by = _mm_loadu_si128((const __m128i *)by_512);
  long done = 64;
  for (; count - done >= 64; done += 64) {
    at += 4;
    a = fold(a, by, _mm_loadu_si128(at));
    b = fold(b, by, _mm_loadu_si128(at + 1));
    c = fold(c, by, _mm_loadu_si128(at + 2));
    d = fold(d, by, _mm_loadu_si128(at + 3));
  }
  by = _mm_loadu_si128((const __m128i *)by_128);
  _mm_storeu_si128((__m128i *)rest, fold(fold(fold(a, by, b), by, c), by, d));
  return done;
}

long ck_crc32_fold(unsigned int crc, const void *bytes, long count, unsigned char rest[16]) {
  if (count < 64 || !__builtin_cpu_supports("pclmul") || !__builtin_cpu_supports("sse4.1")) return 0;
  return folded(crc, bytes, count, rest);
}
#else
long ck_crc32_fold(unsigned int crc, const void *bytes, long count, unsigned char rest[16]) {
  return 0;
}
#endif
