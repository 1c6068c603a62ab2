// Draws and levels of many rows at once, for callers that hold whole arrays.
#pragma once

#include "model/draw.h"

namespace srnn {

// The draws of samples t0, ..., t0 + n - 1 of a stream.
void fill_draws(uint64_t seed, uint32_t stream, uint64_t t0, long n, uint32_t* draws);

// One level a row: logits (rows, q_levels), draws and temperature (rows,). Returns the first row
// whose logits hold a NaN or no finite maximum, where it stops; -1 if there is none.
long sample_rows(const float* logits, long rows, int q_levels, const uint32_t* draws,
                 const float* temperature, const SamplerSettings& settings, int32_t* levels);

}  // namespace srnn
