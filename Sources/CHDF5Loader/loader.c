#include "include/loader.h"

#if __has_include(<hdf5.h>)
#include <hdf5.h>
#else
#include <hdf5/serial/hdf5.h>
#endif

// What is called of libhdf5, under the names of all its versions; what is missing here the linker
// misses too.
#define FUNCTIONS(X) \
  X(H5Aclose) X(H5Acreate2) X(H5Aexists) X(H5Aget_space) X(H5Aget_type) X(H5Aiterate2) \
  X(H5Aopen) X(H5Aread) X(H5Awrite) X(H5Dcreate2) X(H5Dget_chunk_info_by_coord) \
  X(H5Dget_create_plist) X(H5Dget_num_chunks) X(H5Dget_offset) X(H5Dget_space) \
  X(H5Dget_storage_size) X(H5Dget_type) X(H5Dread) X(H5Dread_chunk) X(H5Dread_chunk1) X(H5Dread_chunk2) X(H5Eclear2) \
  X(H5Eset_auto2) X(H5Ewalk2) X(H5Fclose) X(H5Fcreate) X(H5Fflush) X(H5Fopen) X(H5Gcreate2) \
  X(H5Gget_create_plist) X(H5Idec_ref) X(H5Lcreate_hard) X(H5Lexists) X(H5Lget_info) X(H5Lget_info2) \
  X(H5Lget_val) X(H5Literate) X(H5Literate2) \
  X(H5Oclose) X(H5Oget_info2) X(H5Oget_info3) X(H5Oopen) X(H5Ovisit) X(H5Ovisit2) X(H5Ovisit3) \
  X(H5PLset_loading_state) X(H5Pclose) X(H5Pcreate) X(H5Pfill_value_defined) X(H5Pget_chunk) \
  X(H5Pget_chunk_opts) X(H5Pget_external_count) X(H5Pget_fill_value) X(H5Pget_filter2) \
  X(H5Pget_layout) X(H5Pget_link_creation_order) X(H5Pget_nfilters) X(H5Pset_alignment) \
  X(H5Pset_alloc_time) X(H5Pset_char_encoding) X(H5Pset_file_locking) X(H5Pset_fill_time) \
  X(H5Pset_layout) X(H5Pset_libver_bounds) X(H5Pset_link_creation_order) \
  X(H5Pset_obj_track_times) X(H5Sclose) X(H5Screate) X(H5Screate_simple) \
  X(H5Sget_simple_extent_dims) X(H5Sget_simple_extent_ndims) X(H5Sget_simple_extent_npoints) \
  X(H5Sget_simple_extent_type) X(H5Tclose) X(H5Tcopy) X(H5Tcreate) X(H5Tenum_create) \
  X(H5Tenum_insert) X(H5Tget_array_dims2) X(H5Tget_array_ndims) X(H5Tget_class) X(H5Tget_ebias) X(H5Tget_fields) X(H5Tget_member_name) \
  X(H5Tget_member_offset) X(H5Tget_member_type) X(H5Tget_member_value) X(H5Tget_nmembers) \
  X(H5Tget_offset) X(H5Tget_order) X(H5Tget_precision) X(H5Tget_sign) X(H5Tget_size) \
  X(H5Tget_strpad) X(H5Tget_super) X(H5Tget_tag) X(H5Tinsert) X(H5Tis_variable_str) \
  X(H5Tset_cset) X(H5Tset_ebias) X(H5Tset_fields) X(H5Tset_size) X(H5Tset_tag) \
  X(H5check_version) X(H5dont_atexit) X(H5free_memory) X(H5get_libversion) X(H5open)

// Its variables; they have their values once the library is started.
#define VARIABLES(X) \
  X(H5E_CANTALLOC_g) X(H5E_NOSPACE_g) X(H5P_CLS_ATTRIBUTE_CREATE_ID_g) X(H5P_CLS_DATASET_CREATE_ID_g) X(H5P_CLS_FILE_ACCESS_ID_g) \
  X(H5P_CLS_FILE_CREATE_ID_g) X(H5P_CLS_GROUP_CREATE_ID_g) X(H5P_CLS_LINK_CREATE_ID_g) \
  X(H5T_C_S1_g) X(H5T_IEEE_F32LE_g) X(H5T_IEEE_F64LE_g) X(H5T_STD_I16LE_g) X(H5T_STD_I32LE_g) \
  X(H5T_STD_I64LE_g) X(H5T_STD_I8LE_g) X(H5T_STD_U16LE_g) X(H5T_STD_U32LE_g) X(H5T_STD_U64LE_g) \
  X(H5T_STD_U8LE_g)

void chdf5_built_with(unsigned version[3]) {
  version[0] = H5_VERS_MAJOR;
  version[1] = H5_VERS_MINOR;
  version[2] = H5_VERS_RELEASE;
}

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#include <dlfcn.h>
#include <stddef.h>

// Each function is a jump to where the loaded library has it.
#if defined(__x86_64__)
#define JUMP(name) "jmp *chdf5_at_" #name "(%rip)\n"
#else
#define JUMP(name)                                                                     \
  "adrp x16, chdf5_at_" #name "\nldr x16, [x16, #:lo12:chdf5_at_" #name "]\nbr x16\n"
#endif
#define FUNCTION(name)                                                                  \
  __attribute__((visibility("hidden"))) void *chdf5_at_##name;                          \
  __asm__(".text\n.globl " #name "\n.hidden " #name "\n.type " #name ", %function\n" #name ":\n" JUMP(name) \
          ".size " #name ", . - " #name "\n");
FUNCTIONS(FUNCTION)

// Hidden, so that the library goes on using its own.
#define VARIABLE(name) __attribute__((visibility("hidden"))) hid_t name = -1;
VARIABLES(VARIABLE)

// The names of libhdf5 by the version that this program was built with; only one of the same minor
// version has the same functions and structures.
static const char *const names[] = {
#if H5_VERS_MAJOR == 1 && H5_VERS_MINOR == 10
  "libhdf5_serial.so.103", "libhdf5.so.103", "libhdf5_serial.so.100", "libhdf5.so.101",
#elif H5_VERS_MAJOR == 1 && H5_VERS_MINOR == 12
  "libhdf5_serial.so.200", "libhdf5.so.200",
#elif H5_VERS_MAJOR == 1 && H5_VERS_MINOR == 14
  "libhdf5_serial.so.310", "libhdf5.so.310",
#endif
  "libhdf5_serial.so", "libhdf5.so",
};

int chdf5_load(unsigned found[3]) {
  static int state = -1;
  static unsigned version[3];
  if (state < 0) {
    state = 1;
    for (size_t i = 0; i < sizeof names / sizeof *names && state != 0; i++) {
      void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
      if (!library) continue;
      herr_t (*ask)(unsigned *, unsigned *, unsigned *) =
        (herr_t(*)(unsigned *, unsigned *, unsigned *))dlsym(library, "H5get_libversion");
      herr_t (*start)(void) = (herr_t(*)(void))dlsym(library, "H5open");
      herr_t (*stay)(void) = (herr_t(*)(void))dlsym(library, "H5dont_atexit");
      // Files are closed by their owners, not as the process ends; every other call would start the
      // library, and then it is too late to say so.
      if (stay) stay();
      if (!ask || !start || !stay || ask(&version[0], &version[1], &version[2]) < 0 ||
          version[0] != H5_VERS_MAJOR || version[1] != H5_VERS_MINOR) {
        state = 2;
        dlclose(library);
        continue;
      }
#define FIND(name) chdf5_at_##name = dlsym(library, #name);
      FUNCTIONS(FIND)
      start();
#define TAKE(name)                                  \
  {                                                 \
    const hid_t *value = dlsym(library, #name);     \
    if (value) name = *value;                       \
  }
      VARIABLES(TAKE)
      state = 0;
    }
  }
  for (int i = 0; i < 3; i++) found[i] = version[i];
  return state;
}
#else
// Elsewhere it is bound as usual.
int chdf5_load(unsigned found[3]) {
  return H5get_libversion(&found[0], &found[1], &found[2]) < 0 ? 1 : 0;
}
#endif
