/* The backends of this build, best first, and which of them this machine can run. */
#ifndef FASTRNN_DISPATCH_H
#define FASTRNN_DISPATCH_H

#include "backend.h"

/* index must be valid: below fastrnn_backend_count(). */
const struct backend *dispatch_backend(int index, enum fastrnn_dtype dtype);

#endif
