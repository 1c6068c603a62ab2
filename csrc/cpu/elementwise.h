// What a memory cell does to its units once the products are made.
#pragma once

#include "activations.h"
#include "kernels.h"

namespace srnn {
namespace SRNN_ISA {

// The new state: the candidate where the update gate z (before its sigmoid) is shut, h where open.
SRNN_INLINE Floats blend(Floats candidate, const float* z, const float* h) {
  return candidate + sigmoid(load<Floats>(z)) * (load<Floats>(h) - candidate);
}

inline void gru_after(const CellUnits& u) {
  const float *r = u.gates, *z = r + u.width, *n = z + u.width;
  for (long i = u.first; i < u.last; i += kLanes) {
    const Floats reset = sigmoid(load<Floats>(r + i));
    const Floats candidate = tanh_approx(load<Floats>(n + i) + reset * load<Floats>(u.inner + i));
    store(u.new_h + i, blend(candidate, z + i, u.h + i));
  }
}

inline void gru_reset(const CellUnits& u) {
  for (long i = u.first; i < u.last; i += kLanes) {
    store(u.inner + i, sigmoid(load<Floats>(u.gates + i)) * load<Floats>(u.h + i));
  }
}

inline void gru_before(const CellUnits& u) {
  const float *z = u.gates + u.width, *n = z + u.width;
  for (long i = u.first; i < u.last; i += kLanes) {
    store(u.new_h + i, blend(tanh_approx(load<Floats>(n + i)), z + i, u.h + i));
  }
}

inline void lstm(const CellUnits& u) {
  const float *in = u.gates, *forget = in + u.width, *g = forget + u.width, *out = g + u.width;
  for (long i = u.first; i < u.last; i += kLanes) {
    const Floats kept = sigmoid(load<Floats>(forget + i)) * load<Floats>(u.cell + i);
    const Floats added = sigmoid(load<Floats>(in + i)) * tanh_approx(load<Floats>(g + i));
    store(u.cell + i, kept + added);
    store(u.new_h + i, sigmoid(load<Floats>(out + i)) * tanh_approx(kept + added));
  }
}

}  // namespace SRNN_ISA
}  // namespace srnn
