// Calls of the system that Swift's own modules leave out.
#pragma once
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

// Moves bytes between two files inside the kernel. Returns how many, 0 at the end of the source, or
// -1 with `errno`; ENOSYS where the system has no such call.
static inline ssize_t csystem_copy(int source, off_t source_offset, int target, off_t target_offset,
                                   size_t count) {
#if defined(__linux__) && defined(SYS_copy_file_range)
  return syscall(SYS_copy_file_range, source, &source_offset, target, &target_offset, count, 0u);
#else
  (void)source, (void)source_offset, (void)target, (void)target_offset, (void)count;
  errno = ENOSYS;
  return -1;
#endif
}
