// Draws for callers that hold arrays of many rows.
#pragma once

#include "model/draw.h"

namespace srnn {

// Fills draws (n,) with the random bits of samples t0, ..., t0 + n - 1 of a stream.
void fill_draws(uint64_t seed, uint32_t stream, uint64_t t0, long n, uint32_t* draws);

// Draws one level for each row: logits (rows, q_levels); draws, temperature and levels (rows,).
// Returns -1, or stops at the first row whose logits hold a NaN or no finite maximum and returns
// its number.
long sample_rows(const float* logits, long rows, int q_levels, const uint32_t* draws,
                 const float* temperature, const SamplerSettings& settings, int32_t* levels);

}  // namespace srnn
