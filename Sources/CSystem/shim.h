// Calls of the system that Swift's own modules leave out.
#pragma once
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <sys/vfs.h>
#endif

// Whether the file system of an open file shares blocks between files, or copies on a server: then
// `csystem_copy` saves the bytes a way through this machine. Elsewhere it moves them page by page,
// which is slower than reads and writes of some megabytes.
static inline int csystem_copies_itself(int file) {
#ifdef __linux__
  struct statfs info;
  if (fstatfs(file, &info) != 0) return 0;
  switch ((unsigned int)info.f_type) {
    case 0x9123683eu:  // btrfs
    case 0x58465342u:  // xfs
    case 0xca451a4eu:  // bcachefs
    case 0x2fc12fc1u:  // zfs
    case 0x00006969u:  // nfs
    case 0xff534d42u:  // cifs
    case 0xfe534d42u:  // smb2
    case 0x00c36400u:  // ceph
      return 1;
  }
#endif
  (void)file;
  return 0;
}

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
