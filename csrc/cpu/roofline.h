// What the machine could do at best, measured now: how fast a working set is read, and how fast
// multiply-adds run that touch only registers.
#pragma once

#include "kernels.h"

namespace srnn {

// Bytes a second that `threads` threads read together, each its part of `bytes`, over and over.
double read_bandwidth(const Kernels& kernels, size_t bytes, int threads);

// Multiply-adds a second of `threads` threads in the numeric mode.
double peak_rate(const Kernels& kernels, int threads);

}  // namespace srnn
