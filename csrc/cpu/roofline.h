// Measures the limits of this machine: how fast it reads a working set, and how fast it makes
// multiply-adds that touch only registers.
#pragma once

#include "kernels.h"

namespace srnn {

// Returns how many bytes a second `threads` threads read together. Each reads its own part of
// `bytes` over and over.
double read_bandwidth(const Kernels& kernels, size_t bytes, int threads);

// Returns how many multiply-adds a second `threads` threads make in the numeric mode.
double peak_rate(const Kernels& kernels, int threads);

}  // namespace srnn
