// The element-wise part of a cell, which follows its products.
#pragma once

#include "activations.h"
#include "cpu/kernels.h"

namespace srnn {
namespace SRNN_ISA {

// Applies the sigmoid to the units of one gate. Each gate gets a pass of its own, because a
// processor overlaps a few short chains of dependent operations, but not long ones.
SRNN_INLINE void sigmoid_units(float* x, const CellUnits& u) {
  for (long i = u.first; i < u.last; i += kLanes) store(x + i, sigmoid(load<Floats>(x + i)));
}

// Returns the new state: the candidate where the update gate z is 0, h where it is 1.
SRNN_INLINE Floats blend(Floats candidate, const float* z, const float* h) {
  return candidate + load<Floats>(z) * (load<Floats>(h) - candidate);
}

inline void gru_cell_after(const CellUnits& u) {
  float *r = u.gates, *z = r + u.width, *n = z + u.width;
  sigmoid_units(r, u);
  sigmoid_units(z, u);
  for (long i = u.first; i < u.last; i += kLanes) {
    const Floats product = load<Floats>(r + i) * load<Floats>(u.inner + i);
    const Floats candidate = tanh_approx(load<Floats>(n + i) + product);
    store(u.new_h + i, blend(candidate, z + i, u.h + i));
  }
}

inline void gru_cell_reset(const CellUnits& u) {
  for (long i = u.first; i < u.last; i += kLanes) {
    store(u.inner + i, sigmoid(load<Floats>(u.gates + i)) * load<Floats>(u.h + i));
  }
}

inline void gru_cell_before(const CellUnits& u) {
  float *z = u.gates + u.width, *n = z + u.width;
  sigmoid_units(z, u);
  for (long i = u.first; i < u.last; i += kLanes) {
    store(u.new_h + i, blend(tanh_approx(load<Floats>(n + i)), z + i, u.h + i));
  }
}

inline void lstm_cell(const CellUnits& u) {
  float *in = u.gates, *forget = in + u.width, *g = forget + u.width, *out = g + u.width;
  sigmoid_units(in, u);
  sigmoid_units(forget, u);
  sigmoid_units(out, u);
  for (long i = u.first; i < u.last; i += kLanes) {
    const Floats kept = load<Floats>(forget + i) * load<Floats>(u.c + i);
    store(u.c + i, kept + load<Floats>(in + i) * tanh_approx(load<Floats>(g + i)));
  }
  for (long i = u.first; i < u.last; i += kLanes) {
    store(u.new_h + i, load<Floats>(out + i) * tanh_approx(load<Floats>(u.c + i)));
  }
}

}  // namespace SRNN_ISA
}  // namespace srnn
