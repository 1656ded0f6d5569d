// OpenBLAS's C interface for Swift.
#pragma once
#include <cblas.h>
