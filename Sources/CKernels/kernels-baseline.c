#include "include/kernels.h"

#define LEVEL baseline
#include "kernels-level.h"
#include "casts-level.h"
