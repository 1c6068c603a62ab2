// One step of a memory cell for B streams, after the matrix products of its input.
// Gate order is torch's: r, z, n for the GRU and i, f, g, o for the LSTM.
#pragma once

#include <vector>

#include "activations.h"
#include "simd.h"

namespace srnn {
namespace SRNN_ISA {

// The recurrent matrices of one layer. A GRU keeps those of r and z apart from that of n, because
// one of its two forms applies r between them.
struct CellWeights {
  Matrix first;                   // GRU: (2D, D) of r and z. LSTM: (4D, D).
  Matrix candidate;               // GRU: (D, D) of n.
  const float* bias_n = nullptr;  // GRU that resets after the product: (D,), else null
};

// gates (B, 3D) hold input products and biases; h (B, D) becomes the new state. inner: (B, D)
// scratch.
inline void gru_cell(const CellWeights& w, int dim, int streams, float* gates, float* h,
                     float* inner) {
  const long stride = 3L * dim;
  product(w.first, streams, h, dim, gates, stride);
  for (int s = 0; s < streams; ++s) {
    float* rz = gates + s * stride;
    for (int i = 0; i < 2 * dim; ++i) rz[i] = sigmoid(rz[i]);
    for (int i = 0; i < dim; ++i) {
      inner[s * dim + i] = w.bias_n != nullptr ? w.bias_n[i] : rz[i] * h[s * dim + i];
    }
  }
  if (w.bias_n != nullptr) {
    product(w.candidate, streams, h, dim, inner, dim);
    for (int s = 0; s < streams; ++s) {
      float* g = gates + s * stride;
      for (int i = 0; i < dim; ++i) g[2 * dim + i] += g[i] * inner[s * dim + i];
    }
  } else {
    product(w.candidate, streams, inner, dim, gates + 2 * dim, stride);
  }
  for (int s = 0; s < streams; ++s) {
    const float* g = gates + s * stride;
    float* state = h + s * dim;
    for (int i = 0; i < dim; ++i) {
      const float n = tanh_approx(g[2 * dim + i]);
      state[i] = n + g[dim + i] * (state[i] - n);
    }
  }
}

// gates (B, 4D) hold input products and bias; state (B, 2D) = [h | c] becomes the new state.
inline void lstm_cell(const CellWeights& w, int dim, int streams, float* gates, float* state) {
  const long stride = 4L * dim;
  product(w.first, streams, state, 2L * dim, gates, stride);
  for (int s = 0; s < streams; ++s) {
    const float* g = gates + s * stride;
    float *h = state + 2L * s * dim, *c = h + dim;
    for (int i = 0; i < dim; ++i) {
      const float cell = sigmoid(g[dim + i]) * c[i] + sigmoid(g[i]) * tanh_approx(g[2 * dim + i]);
      c[i] = cell;
      h[i] = sigmoid(g[3 * dim + i]) * tanh_approx(cell);
    }
  }
}

}  // namespace SRNN_ISA
}  // namespace srnn
