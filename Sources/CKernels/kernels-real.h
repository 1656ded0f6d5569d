// Included once for each precision and level, with REAL, INT (an integer of REAL's size), LANES, NAME(x)
// and the polynomials of REAL's exp and log1p.
//
// Vectors are 64 bytes whatever the level, so that sums run in the same lanes everywhere; the
// compiler splits them where the processor's are narrower.

typedef REAL NAME(V) __attribute__((ext_vector_type(LANES)));
typedef INT NAME(I) __attribute__((ext_vector_type(LANES)));
// An exponent fits 32 bits, which every level can convert.
typedef int NAME(N) __attribute__((ext_vector_type(LANES)));
typedef float NAME(F) __attribute__((ext_vector_type(LANES)));
typedef double NAME(D) __attribute__((ext_vector_type(LANES)));
typedef unsigned short NAME(H) __attribute__((ext_vector_type(LANES)));
typedef unsigned NAME(W) __attribute__((ext_vector_type(LANES)));
#define V NAME(V)
#define I NAME(I)

// The constants of exp and log1p are those of Real.swift.
enum { NAME(bias) = OF_REAL(127, 1023), NAME(mantissa_bits) = OF_REAL(23, 52) };
static const INT NAME(mantissa_mask) = (INT)OF_REAL(0x007fffff, 0x000fffffffffffff);
static const INT NAME(sqrt_half_bits) = (INT)OF_REAL(0x3f3504f3, 0x3fe6a09e667f3bcd);
static const REAL NAME(log2_e) = (REAL)OF_REAL(1.44269504f, 1.4426950408889634);
static const REAL NAME(round) = (REAL)OF_REAL(12582912.0f, 6755399441055744.0);
static const REAL NAME(ln2_high) = (REAL)OF_REAL(0.693145751953125f, 6.93147180369123816490e-01);
static const REAL NAME(ln2_low) = (REAL)OF_REAL(1.428606765330187e-06f, 1.90821492927058770002e-10);
static const REAL NAME(exp_lowest) = (REAL)OF_REAL(-87.33f, -708.39);
static const REAL NAME(exp_highest) = (REAL)OF_REAL(88.37f, 709.43);

INLINE V NAME(load)(const REAL *p) { V v; __builtin_memcpy(&v, p, sizeof v); return v; }
INLINE void NAME(store)(REAL *p, V v) { __builtin_memcpy(p, &v, sizeof v); }

// The first `n` (below LANES) values; zeros behind them.
INLINE V NAME(load_part)(const REAL *p, long n) {
  V v = 0;
  __builtin_memcpy(&v, p, n * sizeof(REAL));
  return v;
}
INLINE void NAME(store_part)(REAL *p, V v, long n) {
  __builtin_memcpy(p, &v, n * sizeof(REAL));
}

INLINE I NAME(bits)(V v) { I i; __builtin_memcpy(&i, &v, sizeof i); return i; }
INLINE V NAME(value)(I i) { V v; __builtin_memcpy(&v, &i, sizeof v); return v; }

// e^x where x <= 0 or NaN; as Real.exp in Swift.
INLINE V NAME(exp_down)(V x) {
  V scaled = x * NAME(log2_e) + NAME(round);
  I n = NAME(bits)(scaled) - NAME(bits)((V)NAME(round));
  V whole = scaled - NAME(round);
  V r = (x - whole * NAME(ln2_high)) - whole * NAME(ln2_low);
  V p = EXP_POLYNOMIAL(r);
  V v = p * NAME(value)((n + NAME(bias)) << NAME(mantissa_bits));
  return x < NAME(exp_lowest) ? (V)0 : v;
}

// e^x; as Real.exp in Swift.
INLINE V NAME(exp)(V x) {
  V v = NAME(exp_down)(x);
  v = x > NAME(exp_highest) ? (V)__builtin_inf() : v;
  return x == x ? v : x;
}

// 2^x where x <= 0 or NaN: what a scan decays by, with the smallest normal number for everything
// below it. 2^0 is 1.
INLINE V NAME(exp2_down)(V x) {
  x = x < 1 - NAME(bias) ? (V)(1 - NAME(bias)) : x;
  V scaled = x + NAME(round);
  V f = x - (scaled - NAME(round));
  V p = 1 + f * EXP2_POLYNOMIAL(f);
  // The whole number stands in the low bits of `scaled`; it is added to p's exponent.
  return NAME(value)(NAME(bits)(p) + (NAME(bits)(scaled) << NAME(mantissa_bits)));
}

// log(1 + x) for finite x >= 0; as Real.log1p in Swift.
INLINE V NAME(log1p)(V x) {
  V w = 1 + x;
  I bits = NAME(bits)(w) - NAME(sqrt_half_bits);
  V n = __builtin_convertvector(__builtin_convertvector(bits >> NAME(mantissa_bits), NAME(N)), V);
  V m = NAME(value)((bits & NAME(mantissa_mask)) + NAME(sqrt_half_bits));
  V s = (m - 1) / (m + 1);
  V q = s * s;
  V p = LOG_POLYNOMIAL(q);
  V log = n * NAME(ln2_high) + (n * NAME(ln2_low) + (2 * s + 2 * s * q * p));
  V d = w - 1;
  return d == 0 ? x : log * (x / d);
}

INLINE V NAME(silu1)(V x) { return x / (1 + NAME(exp)(-x)); }

// log(1 + e^x); x itself above 20, as PyTorch has it.
INLINE V NAME(softplus1)(V x) {
  V small = x > 20 ? (V)0 : x;
  V v = NAME(log1p)(NAME(exp)(small));
  return x > 20 ? x : (x == x ? v : x);
}

static void NAME(silu)(const REAL *x, long n, REAL *y) {
  long i = 0;
  for (; i + LANES <= n; i += LANES) NAME(store)(y + i, NAME(silu1)(NAME(load)(x + i)));
  if (i < n) NAME(store_part)(y + i, NAME(silu1)(NAME(load_part)(x + i, n - i)), n - i);
}

static void NAME(gate)(const REAL *x, long n, REAL *y) {
  long i = 0;
  for (; i + LANES <= n; i += LANES)
    NAME(store)(y + i, NAME(silu1)(NAME(load)(x + i)) * NAME(load)(y + i));
  if (i < n)
    NAME(store_part)(
      y + i, NAME(silu1)(NAME(load_part)(x + i, n - i)) * NAME(load_part)(y + i, n - i), n - i);
}

INLINE V NAME(log_gate1)(V x, REAL divisor, REAL lower) {
  V below = x < 0 ? x : (V)0;
  V magnitude = x < 0 ? -x : x;
  V v = (below - NAME(log1p)(NAME(exp)(-magnitude))) / divisor;
  return v < lower ? (V)lower : v;
}

static void NAME(log_gate)(REAL *x, long n, REAL divisor, REAL lower) {
  long i = 0;
  for (; i + LANES <= n; i += LANES)
    NAME(store)(x + i, NAME(log_gate1)(NAME(load)(x + i), divisor, lower));
  if (i < n)
    NAME(store_part)(x + i, NAME(log_gate1)(NAME(load_part)(x + i, n - i), divisor, lower), n - i);
}

static void NAME(softmax)(REAL *x, long n) {
  if (n <= 0) return;
  REAL top = x[0];
  for (long i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
  NAME(D) sums = 0;
  long i = 0;
  for (; i + LANES <= n; i += LANES) {
    V v = NAME(exp)(NAME(load)(x + i) - top);
    NAME(store)(x + i, v);
    sums += __builtin_convertvector(v, NAME(D));
  }
  double sum = 0;
  if (i < n) {
    V v = NAME(exp)(NAME(load_part)(x + i, n - i) - top);
    NAME(store_part)(x + i, v, n - i);
    for (long j = i; j < n; j++) sum += x[j];
  }
  for (int l = 0; l < LANES; l++) sum += sums[l];
  REAL scale = (REAL)(1 / sum);
  for (long j = 0; j < n; j++) x[j] *= scale;
}

// LANES weights of each element type, widened.
INLINE V NAME(from_f64)(const char *p) {
  NAME(D) v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, V);
}
INLINE V NAME(from_f32)(const char *p) {
  NAME(F) v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, V);
}
INLINE V NAME(from_bf16)(const char *p) {
  NAME(H) v;
  __builtin_memcpy(&v, p, sizeof v);
  NAME(W) bits = __builtin_convertvector(v, NAME(W)) << 16;
  NAME(F) f;
  __builtin_memcpy(&f, &bits, sizeof f);
  return __builtin_convertvector(f, V);
}
// By moving the exponent with a multiplication: exact for every value, subnormals included.
INLINE V NAME(from_f16)(const char *p) {
  NAME(H) v;
  __builtin_memcpy(&v, p, sizeof v);
  NAME(W) wide = __builtin_convertvector(v, NAME(W));
  NAME(W) magnitude = (wide & 0x7fff) << 13;
  NAME(F) finite;
  __builtin_memcpy(&finite, &magnitude, sizeof finite);
  finite *= 0x1p112f;
  NAME(W) bits;
  __builtin_memcpy(&bits, &finite, sizeof bits);
  bits = magnitude >= 0x0f800000 ? (magnitude | 0x7f800000) : bits;
  bits |= (wide & 0x8000) << 16;
  NAME(F) f;
  __builtin_memcpy(&f, &bits, sizeof f);
  return __builtin_convertvector(f, V);
}

// The same for the last n (below LANES), through a copy.
#define CK_LOOPS(TYPE, SIZE)                                                                    \
  static void NAME(widen_##TYPE)(const char *from, long n, REAL *out) {                         \
    long i = 0;                                                                                 \
    for (; i + LANES <= n; i += LANES) NAME(store)(out + i, NAME(from_##TYPE)(from + SIZE * i)); \
    if (i < n) {                                                                                \
      char last[SIZE * LANES] = {0};                                                            \
      __builtin_memcpy(last, from + SIZE * i, SIZE * (n - i));                                  \
      NAME(store_part)(out + i, NAME(from_##TYPE)(last), n - i);                                \
    }                                                                                           \
  }                                                                                             \
  static REAL NAME(dot_##TYPE)(const char *w, const REAL *x, long n) {                          \
    V s0 = 0, s1 = 0, s2 = 0, s3 = 0;                                                           \
    long i = 0;                                                                                 \
    for (; i + 4 * LANES <= n; i += 4 * LANES) {                                                \
      const char *p = w + SIZE * i;                                                             \
      s0 += NAME(from_##TYPE)(p) * NAME(load)(x + i);                                           \
      s1 += NAME(from_##TYPE)(p + SIZE * LANES) * NAME(load)(x + i + LANES);                    \
      s2 += NAME(from_##TYPE)(p + 2 * SIZE * LANES) * NAME(load)(x + i + 2 * LANES);            \
      s3 += NAME(from_##TYPE)(p + 3 * SIZE * LANES) * NAME(load)(x + i + 3 * LANES);            \
    }                                                                                           \
    for (; i + LANES <= n; i += LANES)                                                          \
      s0 += NAME(from_##TYPE)(w + SIZE * i) * NAME(load)(x + i);                                \
    if (i < n) {                                                                                \
      char last[SIZE * LANES] = {0};                                                            \
      __builtin_memcpy(last, w + SIZE * i, SIZE * (n - i));                                     \
      s1 += NAME(from_##TYPE)(last) * NAME(load_part)(x + i, n - i);                            \
    }                                                                                           \
    V s = (s0 + s1) + (s2 + s3);                                                                \
    REAL sum = 0;                                                                               \
    for (int l = 0; l < LANES; l++) sum += s[l];                                                \
    return sum;                                                                                 \
  }
CK_LOOPS(f64, 8)
CK_LOOPS(f32, 4)
CK_LOOPS(f16, 2)
CK_LOOPS(bf16, 2)
#undef CK_LOOPS

static void NAME(widen)(const void *from, int element, long n, REAL *out) {
  switch (element) {
    case ck_f64: NAME(widen_f64)(from, n, out); return;
    case ck_f32: NAME(widen_f32)(from, n, out); return;
    case ck_f16: NAME(widen_f16)(from, n, out); return;
    case ck_bf16: NAME(widen_bf16)(from, n, out); return;
  }
}

static REAL NAME(dot)(const void *w, int element, const REAL *x, long n) {
  switch (element) {
    case ck_f64: return NAME(dot_f64)(w, x, n);
    case ck_f32: return NAME(dot_f32)(w, x, n);
    case ck_f16: return NAME(dot_f16)(w, x, n);
    case ck_bf16: return NAME(dot_bf16)(w, x, n);
  }
  return 0;
}

static void NAME(dots)(
  const void *w, int element, long rows, long n, const REAL *x, long m, const REAL *bias, REAL *y,
  long stride) {
  static const long sizes[] = {[ck_f64] = 8, [ck_f32] = 4, [ck_f16] = 2, [ck_bf16] = 2};
  const char *row = w;
  for (long r = 0; r < rows; r++, row += n * sizes[element])
    for (long j = 0; j < m; j++)
      y[j * stride + r] = (bias ? bias[r] : 0) + NAME(dot)(row, element, x + j * n, n);
}

static void NAME(convolve)(
  const REAL *x, long tokens, long count, long stride, const REAL *w, const REAL *bias, long taps,
  const REAL *tail, REAL *y) {
  for (long t = 0; t < tokens; t++) {
    for (long c = 0; c < count; c += LANES) {
      long n = count - c < LANES ? count - c : LANES;
      V sum = 0;
      if (n == LANES) {
        if (bias) sum = NAME(load)(bias + c);
        for (long k = 0; k < taps; k++) {
          long from = t - (taps - 1) + k;
          const REAL *row = from < 0 ? tail + (from + taps - 1) * stride : x + from * stride;
          sum += NAME(load)(w + k * stride + c) * NAME(load)(row + c);
        }
        NAME(store)(y + t * stride + c, NAME(silu1)(sum));
      } else {
        if (bias) sum = NAME(load_part)(bias + c, n);
        for (long k = 0; k < taps; k++) {
          long from = t - (taps - 1) + k;
          const REAL *row = from < 0 ? tail + (from + taps - 1) * stride : x + from * stride;
          sum += NAME(load_part)(w + k * stride + c, n) * NAME(load_part)(row + c, n);
        }
        NAME(store_part)(y + t * stride + c, NAME(silu1)(sum), n);
      }
    }
  }
}

// One vector of channels at one token; a (times log2 e) and h are the block's own, [n] vectors.
INLINE V NAME(scan1)(
  V u, V dt, V d, const V *a, const REAL *b, const REAL *c, long n, V *h) {
  V step = NAME(softplus1)(dt);
  V input = step * u;
  V sum = d * u;
  for (long k = 0; k < n; k++) {
    V state = NAME(exp2_down)(step * a[k]) * h[k] + input * b[k];
    h[k] = state;
    sum += state * c[k];
  }
  return sum;
}

static void NAME(scan)(
  const REAL *u, const REAL *dt, const REAL *a, const REAL *b, const REAL *c, const REAL *d,
  const REAL *z, long tokens, long width, long n, long count, REAL *h, REAL *scratch, REAL *y) {
  // Rates and states of the block side by side: rows of a power of two apart would share a place in
  // the cache.
  long whole = count / LANES, rest = count % LANES, blocks = whole + (rest > 0);
  V *rates = (V *)scratch;
  V *states = rates + n * blocks;
  for (long v = 0; v < blocks; v++)
    for (long k = 0; k < n; k++) {
      const REAL *rate = a + k * width + v * LANES, *state = h + k * width + v * LANES;
      rates[v * n + k] = (v < whole ? NAME(load)(rate) : NAME(load_part)(rate, rest)) * NAME(log2_e);
      states[v * n + k] = v < whole ? NAME(load)(state) : NAME(load_part)(state, rest);
    }
  for (long t = 0; t < tokens; t++) {
    const REAL *bt = b + t * n, *ct = c + t * n;
    for (long v = 0; v < whole; v++) {
      long at = t * width + v * LANES;
      if (t + 2 < tokens) {
        __builtin_prefetch(u + at + 2 * width);
        __builtin_prefetch(dt + at + 2 * width);
        if (z) __builtin_prefetch(z + at + 2 * width);
      }
      V sum = NAME(scan1)(
        NAME(load)(u + at), NAME(load)(dt + at), NAME(load)(d + v * LANES), rates + v * n, bt, ct, n,
        states + v * n);
      if (z) sum *= NAME(silu1)(NAME(load)(z + at));
      NAME(store)(y + at, sum);
    }
    if (rest) {
      long at = t * width + whole * LANES;
      V sum = NAME(scan1)(
        NAME(load_part)(u + at, rest), NAME(load_part)(dt + at, rest),
        NAME(load_part)(d + whole * LANES, rest), rates + whole * n, bt, ct, n, states + whole * n);
      if (z) sum *= NAME(silu1)(NAME(load_part)(z + at, rest));
      NAME(store_part)(y + at, sum, rest);
    }
  }
  for (long v = 0; v < blocks; v++)
    for (long k = 0; k < n; k++) {
      REAL *state = h + k * width + v * LANES;
      if (v < whole) NAME(store)(state, states[v * n + k]);
      else NAME(store_part)(state, states[v * n + k], rest);
    }
}

#undef V
#undef I
