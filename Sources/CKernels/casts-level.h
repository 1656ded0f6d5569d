// Whole buffers from one float type to another, for one level; included with LEVEL. Plain loops over
// bit patterns that the compiler turns into vectors of the level's width: the same steps, value by
// value, as FloatBits in Swift, whose comments say why they are right.
//
// Buffers need no alignment. The narrowing ones return how many finite values became infinite.

#define CAST_JOIN2(a, b) a##_##b
#define CAST_JOIN(a, b) CAST_JOIN2(a, b)
#define CAST(x) CAST_JOIN(x, LEVEL)

typedef unsigned int CAST(u32) __attribute__((aligned(1), may_alias));
typedef unsigned short CAST(u16) __attribute__((aligned(1), may_alias));

static inline float CAST(value)(unsigned int bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

static inline unsigned int CAST(bits)(float value) {
  unsigned int bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

static long CAST(bf16_to_f32)(const void *from, long n, void *restrict to) {
  const CAST(u16) *in = from;
  CAST(u32) *out = to;
  for (long i = 0; i < n; i++) {
    unsigned int wide = (unsigned int)in[i] << 16;
    out[i] = wide | ((wide & 0x7fffffff) > 0x7f800000 ? 0x00400000u : 0);
  }
  return 0;
}

static long CAST(f16_to_f32)(const void *from, long n, void *restrict to) {
  const CAST(u16) *in = from;
  CAST(u32) *out = to;
  for (long i = 0; i < n; i++) {
    unsigned int field = (in[i] & 0x7fffu) << 13;
    unsigned int scaled = CAST(bits)(CAST(value)(field) * 0x1p112f);
    unsigned int special = field | 0x7f800000 | (field > 0x0f800000 ? 0x00400000u : 0);
    out[i] = (field >= 0x0f800000 ? special : scaled) | (in[i] & 0x8000u) << 16;
  }
  return 0;
}

// Counters are narrow, so that the loops stay in vectors; a block of 2^20 cannot overflow them.
static long CAST(f32_to_bf16)(const void *from, long n, void *restrict to) {
  const CAST(u32) *in = from;
  CAST(u16) *out = to;
  long total = 0;
  for (long start = 0; start < n; start += 1 << 20) {
    long end = n - start < 1 << 20 ? n : start + (1 << 20);
    unsigned int infinite = 0;
    for (long i = start; i < end; i++) {
      unsigned int bits = in[i], magnitude = bits & 0x7fffffff;
      unsigned int rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
      unsigned int value = magnitude > 0x7f800000 ? (bits >> 16 | 0x40) : rounded;
      infinite += (value & 0x7fff) == 0x7f80 && magnitude < 0x7f800000;
      out[i] = (unsigned short)value;
    }
    total += infinite;
  }
  return total;
}

static long CAST(f32_to_f16)(const void *from, long n, void *restrict to) {
  const CAST(u32) *in = from;
  CAST(u16) *out = to;
  long total = 0;
  for (long start = 0; start < n; start += 1 << 20) {
    long end = n - start < 1 << 20 ? n : start + (1 << 20);
    unsigned int infinite = 0;
    for (long i = start; i < end; i++) {
      unsigned int bits = in[i], magnitude = bits & 0x7fffffff;
      unsigned int normal = (magnitude + 0xc8000fff + (magnitude >> 13 & 1)) >> 13;
      unsigned int subnormal = CAST(bits)(CAST(value)(magnitude) + 0.5f) - 0x3f000000;
      unsigned int nan = 0x7e00 | (magnitude >> 13 & 0x1ff);
      unsigned int value = magnitude < 0x38800000 ? subnormal : normal;
      value = magnitude >= 0x47800000 ? 0x7c00 : value;
      value = magnitude > 0x7f800000 ? nan : value;
      infinite += value == 0x7c00 && magnitude < 0x7f800000;
      out[i] = (unsigned short)(value | (bits >> 16 & 0x8000));
    }
    total += infinite;
  }
  return total;
}

const struct ck_casts CAST(ck_casts) = {
  CAST(bf16_to_f32), CAST(f16_to_f32), CAST(f32_to_bf16), CAST(f32_to_f16)};
