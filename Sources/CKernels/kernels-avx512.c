#include "include/kernels.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c,bmi2"))), apply_to = function)
#define LEVEL avx512
#include "kernels-level.h"
#include "casts-level.h"
#pragma clang attribute pop
#else
// Keeps the file from being empty.
typedef int unused;
#endif
