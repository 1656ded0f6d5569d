// Whole buffers from one float type to another, for one level; included with LEVEL. Plain loops over
// bit patterns that the compiler turns into vectors of the level's width: the same steps, value by
// value, as FloatBits in Swift, whose comments say why they are right.
//
// Buffers need no alignment. Each adds to `counts` what it met, while the values are in registers.

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

// Counters are narrow, so that the loops stay in vectors; a block of 2^20 cannot overflow them.
#define CAST_BLOCKS                                                                                 \
  for (long start = 0, end; start < n; start = end) {                                               \
    end = n - start < 1 << 20 ? n : start + (1 << 20);                                              \
    unsigned int infinite = 0, zero = 0, odd = 0;
#define CAST_COUNTED                                                                                \
    counts->infinite += infinite;                                                                   \
    counts->zero += zero;                                                                           \
    counts->not_finite += odd;                                                                      \
  }

static void CAST(bf16_to_f32)(
  const void *from, long n, void *restrict to, struct ck_cast_counts *restrict counts) {
  const CAST(u16) *in = from;
  CAST(u32) *out = to;
  CAST_BLOCKS
    for (long i = start; i < end; i++) {
      unsigned int wide = (unsigned int)in[i] << 16, magnitude = wide & 0x7fffffff;
      odd += magnitude >= 0x7f800000;
      out[i] = wide | (magnitude > 0x7f800000 ? 0x00400000u : 0);
    }
  CAST_COUNTED
}

static void CAST(f16_to_f32)(
  const void *from, long n, void *restrict to, struct ck_cast_counts *restrict counts) {
  const CAST(u16) *in = from;
  CAST(u32) *out = to;
  CAST_BLOCKS
    for (long i = start; i < end; i++) {
      unsigned int field = (in[i] & 0x7fffu) << 13;
      unsigned int scaled = CAST(bits)(CAST(value)(field) * 0x1p112f);
      unsigned int special = field | 0x7f800000 | (field > 0x0f800000 ? 0x00400000u : 0);
      odd += field >= 0x0f800000;
      out[i] = (field >= 0x0f800000 ? special : scaled) | (in[i] & 0x8000u) << 16;
    }
  CAST_COUNTED
}

static void CAST(f32_to_bf16)(
  const void *from, long n, void *restrict to, struct ck_cast_counts *restrict counts) {
  const CAST(u32) *in = from;
  CAST(u16) *out = to;
  CAST_BLOCKS
    for (long i = start; i < end; i++) {
      unsigned int bits = in[i], magnitude = bits & 0x7fffffff;
      unsigned int rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
      unsigned int value = magnitude > 0x7f800000 ? (bits >> 16 | 0x40) : rounded;
      infinite += (value & 0x7fff) == 0x7f80 && magnitude < 0x7f800000;
      zero += (value & 0x7fff) == 0 && magnitude != 0;
      odd += magnitude >= 0x7f800000;
      out[i] = (unsigned short)value;
    }
  CAST_COUNTED
}

static void CAST(f32_to_f16)(
  const void *from, long n, void *restrict to, struct ck_cast_counts *restrict counts) {
  const CAST(u32) *in = from;
  CAST(u16) *out = to;
  CAST_BLOCKS
    for (long i = start; i < end; i++) {
      unsigned int bits = in[i], magnitude = bits & 0x7fffffff;
      unsigned int normal = (magnitude + 0xc8000fff + (magnitude >> 13 & 1)) >> 13;
      unsigned int subnormal = CAST(bits)(CAST(value)(magnitude) + 0.5f) - 0x3f000000;
      unsigned int nan = 0x7e00 | (magnitude >> 13 & 0x1ff);
      unsigned int value = magnitude < 0x38800000 ? subnormal : normal;
      value = magnitude >= 0x47800000 ? 0x7c00 : value;
      value = magnitude > 0x7f800000 ? nan : value;
      infinite += value == 0x7c00 && magnitude < 0x7f800000;
      zero += value == 0 && magnitude != 0;
      odd += magnitude >= 0x7f800000;
      out[i] = (unsigned short)(value | (bits >> 16 & 0x8000));
    }
  CAST_COUNTED
}

const struct ck_casts CAST(ck_casts) = {
  CAST(bf16_to_f32), CAST(f16_to_f32), CAST(f32_to_bf16), CAST(f32_to_f16)};
