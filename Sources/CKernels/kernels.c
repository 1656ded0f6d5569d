#include "include/kernels.h"

extern const struct ck_kernels_f32 ck_f32_baseline;
extern const struct ck_kernels_f64 ck_f64_baseline;
extern const struct ck_casts ck_casts_baseline;

#if defined(__x86_64__)
extern const struct ck_kernels_f32 ck_f32_avx2, ck_f32_avx512;
extern const struct ck_kernels_f64 ck_f64_avx2, ck_f64_avx512;
extern const struct ck_casts ck_casts_avx2, ck_casts_avx512;

enum ck_level ck_best_level(void) {
  // Also asks whether the system saves the registers.
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")
      || !__builtin_cpu_supports("f16c") || !__builtin_cpu_supports("bmi2"))
    return ck_baseline;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
      && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return ck_avx512;
  return ck_avx2;
}

const struct ck_kernels_f32 *ck_kernels_f32_for(enum ck_level level) {
  return level == ck_avx512 ? &ck_f32_avx512 : level == ck_avx2 ? &ck_f32_avx2 : &ck_f32_baseline;
}

const struct ck_kernels_f64 *ck_kernels_f64_for(enum ck_level level) {
  return level == ck_avx512 ? &ck_f64_avx512 : level == ck_avx2 ? &ck_f64_avx2 : &ck_f64_baseline;
}

const struct ck_casts *ck_casts_for(enum ck_level level) {
  return level == ck_avx512 ? &ck_casts_avx512 : level == ck_avx2 ? &ck_casts_avx2 : &ck_casts_baseline;
}
#else
enum ck_level ck_best_level(void) { return ck_baseline; }
const struct ck_kernels_f32 *ck_kernels_f32_for(enum ck_level level) { return &ck_f32_baseline; }
const struct ck_kernels_f64 *ck_kernels_f64_for(enum ck_level level) { return &ck_f64_baseline; }
const struct ck_casts *ck_casts_for(enum ck_level level) { return &ck_casts_baseline; }
#endif
