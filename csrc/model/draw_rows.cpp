#include "draw_rows.h"

#include <vector>

namespace srnn {

void fill_draws(uint64_t seed, uint32_t stream, uint64_t t0, long n, uint32_t* draws) {
  for (long i = 0; i < n; ++i) draws[i] = philox_draw(seed, stream, t0 + i);
}

long sample_rows(const float* logits, long rows, int q_levels, const uint32_t* draws,
                 const float* temperature, const SamplerSettings& settings, int32_t* levels) {
  std::vector<uint32_t> weight(q_levels);
  for (long row = 0; row < rows; ++row) {
    levels[row] = sample_level(logits + row * q_levels, q_levels, draws[row], temperature[row],
                               settings, weight.data());
    if (levels[row] < 0) return row;
  }
  return -1;
}

}  // namespace srnn
