// libhdf5, loaded when the first HDF5 file is opened and not when the program starts: it brings two
// dozen libraries along, whose loading takes longer than most commands, and who never meets an HDF5
// file need not have it.
#pragma once

// Loads the library, once. Returns 0, or 1 when the system has none, or 2 when it has one of another
// version than the one that this program was built with (`found` is then that version's numbers).
// Nothing of libhdf5 may be called before.
int chdf5_load(unsigned found[3]);

// The version that this program was built with.
void chdf5_built_with(unsigned version[3]);
