// The sample-level MLP (Eq. 7-9): table rows and conditioning, hidden layers, logits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "simd.h"

namespace srnn {
namespace SRNN_ISA {

struct SampleWeights {
  const float* tables = nullptr;  // (taps, Q, D), oldest tap first
  std::vector<Matrix> hidden;
  std::vector<const float*> hidden_bias;
  Matrix output;
  const float* output_bias = nullptr;
};

// x (B, D) comes in as the conditioning; recent[s] points behind the newest level of stream s.
// other: (B, D) scratch. Fills logits (B, Q).
inline void sample_logits(const SampleWeights& w, int dim, int q_levels, int taps, int streams,
                          const int64_t* const* recent, float* x, float* other, float* logits) {
  for (int s = 0; s < streams; ++s) {
    float* row = x + long{s} * dim;
    for (int tap = 0; tap < taps; ++tap) {
      const long level = recent[s][tap - taps];
      const float* add = w.tables + (long{tap} * q_levels + level) * dim;
      for (int i = 0; i < dim; ++i) row[i] += add[i];
    }
    for (int i = 0; i < dim; ++i) row[i] = row[i] > 0.0f ? row[i] : 0.0f;
  }
  for (size_t layer = 0; layer < w.hidden.size(); ++layer) {
    for (int s = 0; s < streams; ++s) {
      std::copy(w.hidden_bias[layer], w.hidden_bias[layer] + dim, other + long{s} * dim);
    }
    product(w.hidden[layer], streams, x, dim, other, dim);
    for (long i = 0; i < long{streams} * dim; ++i) other[i] = other[i] > 0.0f ? other[i] : 0.0f;
    std::swap(x, other);
  }
  for (int s = 0; s < streams; ++s) {
    std::copy(w.output_bias, w.output_bias + q_levels, logits + long{s} * q_levels);
  }
  product(w.output, streams, x, dim, logits, q_levels);
}

}  // namespace SRNN_ISA
}  // namespace srnn
