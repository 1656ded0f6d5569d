// The loops that are not matrix products, for vector units that Swift does not compile for by itself.
// Each is written once (kernels-real.h, casts-level.h) and built for the processor's baseline, for AVX2 and for
// AVX-512; their plain twins are in Swift, and tests hold both together.
#pragma once

/// Element types of a weight, as the loops below take them.
enum ck_element { ck_f64, ck_f32, ck_f16, ck_bf16 };

/// What a table is built for.
enum ck_level { ck_baseline, ck_avx2, ck_avx512 };

#define CK_KERNELS(REAL)                                                                            \
  /* y[i] = silu(x[i]), i in 0..<n; x and y may be the same. */                                     \
  void (*silu)(const REAL *x, long n, REAL *y);                                                     \
  /* y[i] *= silu(x[i]) */                                                                          \
  void (*gate)(const REAL *x, long n, REAL *y);                                                     \
  /* x[i] = max(log sigmoid(x[i]) / divisor, lower) */                                              \
  void (*log_gate)(REAL *x, long n, REAL divisor, REAL lower);                                      \
  /* x[i] = e^x[i] / sum of e^x[j], the sum in float64 */                                           \
  void (*softmax)(REAL *x, long n);                                                                 \
  /* out[i] = value i of `from`, of type `element` at any alignment */                              \
  void (*widen)(const void *from, int element, long n, REAL *out);                      \
  /* the sum of w[i] x[i], w of type `element` at any alignment */                                  \
  REAL (*dot)(const void *w, int element, const REAL *x, long n);                       \
  /* y[j, r] = bias[r] + the same sum of row r of w [rows, n] and row j of x [m, n], rows of y      */ \
  /* `stride` apart; bias may be 0.                                                               */ \
  void (*dots)(                                                                                     \
    const void *w, int element, long rows, long n, const REAL *x, long m, const REAL *bias,         \
    REAL *y, long stride);                                                                          \
  /* y[t, c] = silu(bias[c] + sum over k of w[k, c] x[t - (taps - 1) + k, c]) for `count` channels */ \
  /* of rows `stride` apart; rows before the first are tail's [taps - 1, stride]; bias may be 0. */  \
  void (*convolve)(                                                                                 \
    const REAL *x, long tokens, long count, long stride, const REAL *w, const REAL *bias, long taps, \
    const REAL *tail, REAL *y);                                                                     \
  /* The selective scan of `count` channels in rows `width` apart: see SelectiveScan.swift.       */ \
  /* z, the gate's input, may be 0; y may be dt; scratch has 2 * n * ck_scan_block values.         */ \
  void (*scan)(                                                                                     \
    const REAL *u, const REAL *dt, const REAL *a, const REAL *b, const REAL *c, const REAL *d,       \
    const REAL *z, long tokens, long width, long n, long count, REAL *h, REAL *scratch, REAL *y);

/// Channels that `scan` takes at most.
#define ck_scan_block 64

struct ck_kernels_f32 { CK_KERNELS(float) };
struct ck_kernels_f64 { CK_KERNELS(double) };

/// The best level that this processor and its system have.
enum ck_level ck_best_level(void);

/// The loops for `level`, which the processor must have.
const struct ck_kernels_f32 *ck_kernels_f32_for(enum ck_level level);
const struct ck_kernels_f64 *ck_kernels_f64_for(enum ck_level level);

/// What casts met: finite values that became infinite, values other than zero that became zero, and
/// values that were NaN or infinite before.
struct ck_cast_counts { long infinite, zero, not_finite; };

/// Whole buffers from one float type to another; see `FloatBits` in Swift, their plain twin. Each takes
/// n values at any alignment, and adds to `counts`.
struct ck_casts {
  void (*bf16_to_f32)(const void *from, long n, void *to, struct ck_cast_counts *counts);
  void (*f16_to_f32)(const void *from, long n, void *to, struct ck_cast_counts *counts);
  void (*f32_to_bf16)(const void *from, long n, void *to, struct ck_cast_counts *counts);
  void (*f32_to_f16)(const void *from, long n, void *to, struct ck_cast_counts *counts);
};

/// The casts for `level`, which the processor must have.
const struct ck_casts *ck_casts_for(enum ck_level level);

/// Sums zip's CRC-32 over the first of `count` bytes as far as it can in large steps: `crc` is the
/// (inverted) register before them, and `rest` becomes 16 bytes that lead a register of 0 to where the
/// bytes would lead `crc`. Returns how many bytes that were; 0 where the processor cannot, or for few.
long ck_crc32_fold(unsigned int crc, const void *bytes, long count, unsigned char rest[16]);

/// Threads that wait for work: they watch for it a few dozen microseconds, then sleep.
struct ck_pool;

/// A pool of `threads` threads besides the caller's; 0 when there is no memory for it. It lives as
/// long as the process.
struct ck_pool *ck_pool_make(long threads);

/// Calls body(context, piece, lane) once for each piece in 0..<pieces, on the pool's threads and this
/// one, and returns when all have returned. Pieces of one lane (below `lanes`) run one after another.
/// When the pool is at work for another thread, or for the one that calls, all run here, in lane 0.
void ck_pool_run(
  struct ck_pool *pool, long lanes, long pieces,
  void (*body)(void *context, long piece, long lane), void *context);

// Cores that the affinity of the calling thread allows; 0 where that is not known.
int ck_allowed_cores(void);
