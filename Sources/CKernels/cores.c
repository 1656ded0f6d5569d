// sched_getaffinity is hidden from Swift: it is declared for GNU sources only.
#define _GNU_SOURCE
#include "kernels.h"

#if defined(__linux__)
#include <sched.h>
#include <stdlib.h>

int ck_allowed_cores(void) {
    // A machine may have more cores than cpu_set_t has bits; the call then fails.
    for (int count = 1024; count <= 1 << 20; count *= 4) {
        cpu_set_t *set = CPU_ALLOC(count);
        if (set == NULL) return 0;
        size_t size = CPU_ALLOC_SIZE(count);
        CPU_ZERO_S(size, set);
        int allowed = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (allowed > 0) return allowed;
    }
    return 0;
}
#else
int ck_allowed_cores(void) { return 0; }
#endif
