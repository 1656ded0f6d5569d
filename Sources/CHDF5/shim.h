// libhdf5 for Swift. Macros that Swift cannot import become `static inline` functions here.
#pragma once
#include <hdf5.h>
