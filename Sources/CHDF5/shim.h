// libhdf5 for Swift. Macros that Swift cannot import become `static inline` functions here, and so
// do calls whose form changed between libhdf5 1.10 and 2.0.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>
// Debian keeps it in a folder of its own.
#if __has_include(<hdf5.h>)
#include <hdf5.h>
#else
#include <hdf5/serial/hdf5.h>
#endif

// --- constants ---------------------------------------------------------------------------------

static inline hid_t chdf5_default(void) { return H5P_DEFAULT; }
static inline hid_t chdf5_p_file_access(void) { return H5P_FILE_ACCESS; }
static inline hid_t chdf5_p_file_create(void) { return H5P_FILE_CREATE; }
static inline hid_t chdf5_p_group_create(void) { return H5P_GROUP_CREATE; }
static inline hid_t chdf5_p_dataset_create(void) { return H5P_DATASET_CREATE; }
static inline hid_t chdf5_p_link_create(void) { return H5P_LINK_CREATE; }
static inline hid_t chdf5_p_attribute_create(void) { return H5P_ATTRIBUTE_CREATE; }
static inline unsigned chdf5_read_only(void) { return H5F_ACC_RDONLY; }
static inline unsigned chdf5_create_new(void) { return H5F_ACC_EXCL; }
static inline unsigned chdf5_creation_order(void) {
  return H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
}
static inline hid_t chdf5_i8(void) { return H5T_STD_I8LE; }
static inline hid_t chdf5_i16(void) { return H5T_STD_I16LE; }
static inline hid_t chdf5_i32(void) { return H5T_STD_I32LE; }
static inline hid_t chdf5_i64(void) { return H5T_STD_I64LE; }
static inline hid_t chdf5_u8(void) { return H5T_STD_U8LE; }
static inline hid_t chdf5_u16(void) { return H5T_STD_U16LE; }
static inline hid_t chdf5_u32(void) { return H5T_STD_U32LE; }
static inline hid_t chdf5_u64(void) { return H5T_STD_U64LE; }
static inline hid_t chdf5_f32(void) { return H5T_IEEE_F32LE; }
static inline hid_t chdf5_f64(void) { return H5T_IEEE_F64LE; }
static inline hid_t chdf5_c_string(void) { return H5T_C_S1; }
static inline size_t chdf5_variable(void) { return H5T_VARIABLE; }
static inline unsigned long long chdf5_undefined_address(void) { return (unsigned long long)HADDR_UNDEF; }

// --- library -----------------------------------------------------------------------------------

// No exit handler (files are closed by their owners), no filter plugins from the environment: a
// file names filters by number, and whatever a plugin path offers under it would run.
static inline void chdf5_start(void) {
  H5dont_atexit();
  H5open();
  H5PLset_loading_state(0);
}

// Printing is a property of the thread in thread-safe builds, so it is silenced at every entry.
static inline void chdf5_silence(void) { H5Eset_auto2(H5E_DEFAULT, NULL, NULL); }

typedef void (*chdf5_error_visitor)(const char *function, const char *text, void *context);
struct chdf5_error_visit {
  chdf5_error_visitor visitor;
  void *context;
};
static herr_t chdf5_visit_error(unsigned n, const H5E_error2_t *error, void *data) {
  struct chdf5_error_visit *visit = (struct chdf5_error_visit *)data;
  (void)n;
  visit->visitor(error->func_name ? error->func_name : "", error->desc ? error->desc : "",
                 visit->context);
  return 0;
}
// Calls `visitor` for each error of the stack, the outermost function first, and clears the stack.
static inline void chdf5_each_error(chdf5_error_visitor visitor, void *context) {
  struct chdf5_error_visit visit = {visitor, context};
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, chdf5_visit_error, &visit);
  H5Eclear2(H5E_DEFAULT);
}

// --- files -------------------------------------------------------------------------------------

// Locks where the file system can, and goes on where it cannot (read-only network mounts).
static inline void chdf5_lenient_locking(hid_t access) {
#if H5_VERSION_GE(1, 12, 1) || (H5_VERS_MAJOR == 1 && H5_VERS_MINOR == 10 && H5_VERS_RELEASE >= 7)
  H5Pset_file_locking(access, 1, 1);
#else
  (void)access;
#endif
}

// New-style objects with checksummed headers, readable by every libhdf5 since 1.8.
static inline herr_t chdf5_modern(hid_t access) {
#if H5_VERSION_GE(1, 10, 2)
  return H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_LATEST);
#else
  return H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
#endif
}

// --- objects and links -------------------------------------------------------------------------

struct chdf5_object {
  unsigned char key[16];  // the same for two links exactly when they lead to the same object
  int kind;               // 0 group, 1 dataset, 2 anything else
  unsigned attributes;
};
static inline herr_t chdf5_describe(hid_t object, struct chdf5_object *out) {
  herr_t result;
  int type;
  memset(out, 0, sizeof *out);
#if H5_VERSION_GE(1, 12, 0)
  H5O_info2_t info;
  result = H5Oget_info3(object, &info, H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS);
  if (result < 0) return result;
  memcpy(out->key, &info.token, sizeof info.token);
#else
  H5O_info_t info;
  result = H5Oget_info2(object, &info, H5O_INFO_BASIC | H5O_INFO_NUM_ATTRS);
  if (result < 0) return result;
  memcpy(out->key, &info.addr, sizeof info.addr);
#endif
  type = (int)info.type;
  out->kind = type == H5O_TYPE_GROUP ? 0 : type == H5O_TYPE_DATASET ? 1 : 2;
  out->attributes = (unsigned)info.num_attrs;
  return 0;
}

// `kind`: 0 hard, 1 soft, 2 external, 3 user-defined. A negative result stops.
typedef int (*chdf5_link_visitor)(const char *name, int kind, void *context);
struct chdf5_link_visit {
  chdf5_link_visitor visitor;
  void *context;
};
#if H5_VERSION_GE(1, 12, 0)
typedef H5L_info2_t chdf5_link_info;
#else
typedef H5L_info_t chdf5_link_info;
#endif
static herr_t chdf5_visit_link(hid_t group, const char *name, const chdf5_link_info *info,
                               void *data) {
  struct chdf5_link_visit *visit = (struct chdf5_link_visit *)data;
  int kind = info->type == H5L_TYPE_HARD       ? 0
             : info->type == H5L_TYPE_SOFT     ? 1
             : info->type == H5L_TYPE_EXTERNAL ? 2
                                               : 3;
  (void)group;
  return visit->visitor(name, kind, visit->context);
}
// Visits a group's links, in the order of their creation where the file recorded it, else by name.
static inline herr_t chdf5_each_link(hid_t group, chdf5_link_visitor visitor, void *context) {
  struct chdf5_link_visit visit = {visitor, context};
  H5_index_t index = H5_INDEX_NAME;
  hsize_t position = 0;
  unsigned order = 0;
  hid_t properties = H5Gget_create_plist(group);
  if (properties < 0) return -1;
  if (H5Pget_link_creation_order(properties, &order) >= 0 && (order & H5P_CRT_ORDER_TRACKED))
    index = H5_INDEX_CRT_ORDER;
  H5Pclose(properties);
#if H5_VERSION_GE(1, 12, 0)
  return H5Literate2(group, index, H5_ITER_INC, &position, chdf5_visit_link, &visit);
#else
  return H5Literate(group, index, H5_ITER_INC, &position, chdf5_visit_link, &visit);
#endif
}

// The kind of a group's link as `chdf5_each_link` counts them, -1 when there is none of that name.
// `length`: of a soft link, the bytes of its path with the zero behind it.
static inline int chdf5_link_kind(hid_t group, const char *name, size_t *length) {
  chdf5_link_info info;
  if (H5Lexists(group, name, H5P_DEFAULT) <= 0) return -1;
#if H5_VERSION_GE(1, 12, 0)
  if (H5Lget_info2(group, name, &info, H5P_DEFAULT) < 0) return -1;
#else
  if (H5Lget_info(group, name, &info, H5P_DEFAULT) < 0) return -1;
#endif
  *length = info.type == H5L_TYPE_SOFT ? info.u.val_size : 0;
  return info.type == H5L_TYPE_HARD ? 0 : info.type == H5L_TYPE_SOFT ? 1 : info.type == H5L_TYPE_EXTERNAL ? 2 : 3;
}

typedef int (*chdf5_attribute_visitor)(const char *name, void *context);
struct chdf5_attribute_visit {
  chdf5_attribute_visitor visitor;
  void *context;
};
static herr_t chdf5_visit_attribute(hid_t object, const char *name, const H5A_info_t *info,
                                    void *data) {
  struct chdf5_attribute_visit *visit = (struct chdf5_attribute_visit *)data;
  (void)object;
  (void)info;
  return visit->visitor(name, visit->context);
}
static inline herr_t chdf5_each_attribute(hid_t object, chdf5_attribute_visitor visitor,
                                          void *context) {
  struct chdf5_attribute_visit visit = {visitor, context};
  hsize_t position = 0;
  return H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, &position, chdf5_visit_attribute, &visit);
}

// H5T_COMPLEX came with libhdf5 2.0.
static inline int chdf5_is_complex(hid_t type) {
#if H5_VERSION_GE(2, 0, 0)
  return H5Tget_class(type) == H5T_COMPLEX;
#else
  (void)type;
  return 0;
#endif
}

// --- rehearsal ---------------------------------------------------------------------------------

// Releases of libhdf5 crash or loop on some damaged files. So whatever reading a file calls is first
// called in a child process, where that hurts nobody.

static void chdf5_rehearse_attribute(hid_t object, const char *name) {
  hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
  hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
  hssize_t count = H5Sget_simple_extent_npoints(space);
  H5T_class_t of = H5Tget_class(type);
  size_t size = H5Tget_size(type);
  if (of == H5T_STRING && count == 1 && H5Tis_variable_str(type) > 0) {
    char *text = NULL;
    if (H5Aread(attribute, type, &text) >= 0) H5free_memory(text);
  } else if (of == H5T_STRING ? count == 1 : of == H5T_INTEGER && size <= 8 && count <= 64) {
    void *bytes = malloc((size < 8 ? 8 : size) * (size_t)count + 8);
    if (bytes) H5Aread(attribute, of == H5T_STRING ? type : H5T_STD_I64LE, bytes);
    free(bytes);
  }
  H5Sclose(space);
  H5Tclose(type);
  H5Aclose(attribute);
}

static herr_t chdf5_rehearse_each_attribute(hid_t object, const char *name, const H5A_info_t *info,
                                            void *data) {
  (void)info;
  (void)data;
  chdf5_rehearse_attribute(object, name);
  return 0;
}

static void chdf5_rehearse_type(hid_t type, int depth) {
  int count, i;
  H5T_class_t of = H5Tget_class(type);
  if (depth > 32) return;
  if (of == H5T_OPAQUE) {
    char *tag = H5Tget_tag(type);
    if (tag) H5free_memory(tag);
  }
  if (of == H5T_ARRAY) {
    hsize_t extents[H5S_MAX_RANK];
    if (H5Tget_array_ndims(type) <= H5S_MAX_RANK) H5Tget_array_dims2(type, extents);
  }
  if (of == H5T_ENUM || of == H5T_ARRAY || chdf5_is_complex(type)) {
    hid_t base = H5Tget_super(type);
    if (base >= 0) chdf5_rehearse_type(base, depth + 1);
    H5Tclose(base);
  }
  if (of != H5T_ENUM && of != H5T_COMPOUND) return;
  count = H5Tget_nmembers(type);
  for (i = 0; i < count; i++) {
    char *name = H5Tget_member_name(type, (unsigned)i);
    if (name) H5free_memory(name);
    if (of == H5T_ENUM) {
      void *value = calloc(1, H5Tget_size(type) + 8);
      if (value) H5Tget_member_value(type, (unsigned)i, value);
      free(value);
    } else {
      hid_t member = H5Tget_member_type(type, (unsigned)i);
      if (member >= 0) chdf5_rehearse_type(member, depth + 1);
      H5Tclose(member);
    }
  }
}

static void chdf5_rehearse_dataset(hid_t dataset) {
  hid_t list = H5Dget_create_plist(dataset), type, space;
  H5D_layout_t layout = H5Pget_layout(list);
  H5D_fill_value_t fill = H5D_FILL_VALUE_UNDEFINED;
  size_t size;
  // Nothing of these is read, and asking more would open other files.
  if (list < 0 || layout == H5D_VIRTUAL || H5Pget_external_count(list) != 0) {
    H5Pclose(list);
    return;
  }
  type = H5Dget_type(dataset);
  space = H5Dget_space(dataset);
  size = H5Tget_size(type);
  chdf5_rehearse_type(type, 0);
  if (H5Aexists(dataset, "dtype") > 0) chdf5_rehearse_attribute(dataset, "dtype");
  if (H5Aexists(dataset, "shape") > 0) chdf5_rehearse_attribute(dataset, "shape");
  if (H5Aexists(dataset, "CLASS") > 0) chdf5_rehearse_attribute(dataset, "CLASS");
  if (H5Aexists(dataset, "MATLAB_class") > 0) chdf5_rehearse_attribute(dataset, "MATLAB_class");
  H5Dget_storage_size(dataset);
  H5Dget_offset(dataset);
  if (size > 0 && size <= 65536 && H5Pfill_value_defined(list, &fill) >= 0 &&
      fill == H5D_FILL_VALUE_USER_DEFINED) {
    void *value = malloc(size);
    if (value) H5Pget_fill_value(list, type, value);
    free(value);
  }
  if (layout == H5D_COMPACT) {
    hssize_t count = H5Sget_simple_extent_npoints(space);
    if (count > 0 && size > 0 && (size_t)count <= 65536 / size) {
      void *bytes = malloc((size_t)count * size);
      if (bytes) H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes);
      free(bytes);
    }
  }
#if H5_VERSION_GE(1, 10, 5)
  if (layout == H5D_CHUNKED) {
    // Walks the whole index of chunks; one that claims very many is refused for its shape later.
    hsize_t dims[H5S_MAX_RANK + 1], chunk[H5S_MAX_RANK + 1], count;
    double claimed = 1;
    int i, rank = H5Sget_simple_extent_ndims(space);
    if (rank > 0 && H5Sget_simple_extent_dims(space, dims, NULL) >= 0 &&
        H5Pget_chunk(list, H5S_MAX_RANK, chunk) == rank) {
      for (i = 0; i < rank; i++) claimed *= (double)dims[i] / (double)(chunk[i] ? chunk[i] : 1) + 1;
      if (claimed < 1e7) H5Dget_num_chunks(dataset, H5S_ALL, &count);
    }
  }
#endif
  H5Sclose(space);
  H5Tclose(type);
  H5Pclose(list);
}

static int chdf5_rehearse_link(const char *name, int kind, void *context) {
  hid_t group = *(hid_t *)context;
  if (kind == 1) {
    char path[4096];
    size_t length = 0;
    if (chdf5_link_kind(group, name, &length) == 1 && length <= sizeof path)
      H5Lget_val(group, name, path, sizeof path, H5P_DEFAULT);
  }
  return 0;
}

#if H5_VERSION_GE(1, 12, 0)
typedef H5O_info2_t chdf5_object_info;
#else
typedef H5O_info_t chdf5_object_info;
#endif
static herr_t chdf5_rehearse_object(hid_t root, const char *name, const chdf5_object_info *info,
                                    void *data) {
  hid_t object = H5Oopen(root, name, H5P_DEFAULT);
  struct chdf5_object ignored;
  (void)data;
  chdf5_describe(object, &ignored);
  if (info->type == H5O_TYPE_DATASET) chdf5_rehearse_dataset(object);
  if (info->type == H5O_TYPE_GROUP) {
    chdf5_each_link(object, chdf5_rehearse_link, &object);
    if (strcmp(name, ".") == 0) {
      hsize_t position = 0;
      H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, &position, chdf5_rehearse_each_attribute, NULL);
    } else {
      if (H5Aexists(object, "weighbridge.tensor-name") > 0)
        chdf5_rehearse_attribute(object, "weighbridge.tensor-name");
      if (H5Aexists(object, "pandas_type") > 0) chdf5_rehearse_attribute(object, "pandas_type");
    }
  }
  H5Oclose(object);
  return 0;
}

// Reads as much of a file as opening it would: hard links only.
static void chdf5_rehearse_file(const char *path) {
  hid_t access = H5Pcreate(H5P_FILE_ACCESS), file;
  chdf5_lenient_locking(access);
  file = H5Fopen(path, H5F_ACC_RDONLY, access);
  if (file >= 0) {
#if H5_VERSION_GE(1, 12, 0)
    H5Ovisit3(file, H5_INDEX_NAME, H5_ITER_INC, chdf5_rehearse_object, NULL, H5O_INFO_BASIC);
#elif H5_VERSION_GE(1, 10, 3)
    H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, chdf5_rehearse_object, NULL, H5O_INFO_BASIC);
#else
    H5Ovisit(file, H5_INDEX_NAME, H5_ITER_INC, chdf5_rehearse_object, NULL);
#endif
    H5Fclose(file);
  }
}

// The status with which the child tells that an allocation failed.
enum { chdf5_out_of_memory = 112 };

static herr_t chdf5_find_allocation(unsigned n, const H5E_error2_t *error, void *data) {
  (void)n;
  if (error->min_num == H5E_NOSPACE || error->min_num == H5E_CANTALLOC) *(int *)data = 1;
  return 0;
}
// libhdf5 takes an allocation that fails for an error like any other, and goes on; outside of the
// child it would not have failed, whatever the file claims.
static herr_t chdf5_end_without_memory(hid_t stack, void *data) {
  int found = 0;
  (void)data;
  H5Ewalk2(stack, H5E_WALK_DOWNWARD, chdf5_find_allocation, &found);
  if (found) _exit(chdf5_out_of_memory);
  return 0;
}

// How a child process fared that opened the file: 0, the signal that ended it, or -1 when it wanted
// more memory. It may use `memory` bytes more than this process has, and `seconds` of the processor's
// time.
static inline int chdf5_rehearse(const char *path, unsigned long long memory, unsigned seconds) {
  static const int signals[] = {SIGINT,  SIGTERM, SIGHUP, SIGSEGV, SIGBUS, SIGABRT,
                                SIGILL,  SIGFPE,  SIGTRAP, SIGXCPU, SIGALRM, SIGPROF};
  int status = 0;
  pid_t child = fork(), ended;
  if (child < 0) return 0;
  if (child == 0) {
    struct rlimit limit = {0, 0};
    sigset_t none;
    size_t i;
    int out = -1, descriptor;
    long most = sysconf(_SC_OPEN_MAX);
    struct stat info;
    // This program's pipes would stay open, and the directory that it writes locked, for as long as
    // the child lives. Files stay: libhdf5 may share one that is open already.
    for (descriptor = 3; descriptor < most && descriptor < 65536; descriptor++)
      if (fstat(descriptor, &info) == 0 && !S_ISREG(info.st_mode)) close(descriptor);
    // Handlers of this program would tell of this child, or through this program's pipes.
    for (i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setrlimit(RLIMIT_CORE, &limit);
    // One second between SIGXCPU, which tells what it was, and SIGKILL.
    limit.rlim_cur = seconds;
    limit.rlim_max = seconds + 1;
    setrlimit(RLIMIT_CPU, &limit);
    alarm(seconds * 12);
#ifdef __linux__
    {
      // The address space as it is, in pages, stands first there.
      char text[32] = {0};
      unsigned long long now = 0;
      int statm = open("/proc/self/statm", O_RDONLY);
      if (statm >= 0 && read(statm, text, sizeof text - 1) > 0) {
        now = strtoull(text, NULL, 10) * (unsigned long long)sysconf(_SC_PAGESIZE);
        limit.rlim_cur = limit.rlim_max = (rlim_t)(now + memory);
        setrlimit(RLIMIT_AS, &limit);
      }
      close(statm);
    }
#else
    (void)memory;
#endif
    // What an aborting library prints is not for the user.
    out = open("/dev/null", O_WRONLY);
    if (out >= 0) dup2(out, 2);
    H5Eset_auto2(H5E_DEFAULT, chdf5_end_without_memory, NULL);
    chdf5_rehearse_file(path);
    _exit(0);
  }
  while ((ended = waitpid(child, &status, 0)) < 0 && errno == EINTR) {
  }
  if (ended != child || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) return 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == chdf5_out_of_memory) return -1;
  return WIFSIGNALED(status) ? WTERMSIG(status) : SIGABRT;
}

// --- zlib --------------------------------------------------------------------------------------

// Inflates one zlib stream that must fill `output` exactly: 0, else what was wrong (1 corrupt,
// 2 shorter than `output`, 3 longer).
static inline int chdf5_inflate(const void *input, size_t input_count, void *output,
                                size_t output_count) {
  z_stream stream;
  int result;
  memset(&stream, 0, sizeof stream);
  if (input_count > 0xffffffffu || output_count > 0xffffffffu) return 1;
  if (inflateInit(&stream) != Z_OK) return 1;
  stream.next_in = (Bytef *)(uintptr_t)input;
  stream.avail_in = (uInt)input_count;
  stream.next_out = (Bytef *)output;
  stream.avail_out = (uInt)output_count;
  result = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  if (result == Z_STREAM_END) return stream.avail_out == 0 ? 0 : 2;
  if (stream.avail_out == 0 && (result == Z_BUF_ERROR || result == Z_OK)) return 3;
  return 1;
}
