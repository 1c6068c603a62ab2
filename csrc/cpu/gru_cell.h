// One step of a memory cell for B streams, after the products of its input.
// Gate order is torch's: r, z, n for the GRU and i, f, g, o for the LSTM.
#pragma once

#include "activations.h"
#include "panels.h"

namespace srnn {
namespace SRNN_ISA {

// The recurrent matrices of one layer. A GRU keeps that of n apart from those of r and z, because
// the reset gate stands on one side of it or the other.
template <class Mode>
struct CellWeights {
  typename Mode::Matrix first;      // GRU: blocks r, z. LSTM: all four.
  typename Mode::Matrix candidate;  // GRU: n.
  const float* bias_n = nullptr;    // GRU that resets after the product, else null
};

// What a step works on. Arrays are (B, width), width being dim in whole panels; a member of a team
// writes its own units, and the cell meets the others where it reads all of them.
struct CellArrays {
  int streams = 0, panels = 0;
  long width = 0;
  float* gates = nullptr;  // products of the input and biases: a row of blocks for each stream
  long gates_stride = 0;
  const float* h = nullptr;
  float* new_h = nullptr;
  float* cell = nullptr;   // LSTM: updated in place
  float* inner = nullptr;  // GRU scratch

  long first_unit(Share share) const { return long{share.first} * kPanel; }
  long last_unit(Share share) const { return long{share.last} * kPanel; }
};

// The new state: the candidate where the update gate z (before its sigmoid) is shut, h where open.
inline Floats blend(Floats candidate, const float* z, const float* h) {
  return candidate + sigmoid(load<Floats>(z)) * (load<Floats>(h) - candidate);
}

template <class Mode>
void gru_reset_after(const CellWeights<Mode>& w, const Member& member,
                     const typename Mode::Rows& h_rows, const CellArrays& a) {
  const Share share = member.share(a.panels);
  const long first = a.first_unit(share), last = a.last_unit(share);
  Mode::product(w.first, h_rows, a.streams, share, a.gates, a.gates_stride);
  for (int s = 0; s < a.streams; ++s) {
    for (long i = first; i < last; ++i) a.inner[s * a.width + i] = w.bias_n[i];
  }
  Mode::product(w.candidate, h_rows, a.streams, share, a.inner, a.width);
  for (int s = 0; s < a.streams; ++s) {
    const float *r = a.gates + s * a.gates_stride, *z = r + a.width, *n = z + a.width;
    const float *inner = a.inner + s * a.width, *h = a.h + s * a.width;
    float* new_h = a.new_h + s * a.width;
    for (long i = first; i < last; i += kLanes) {
      const Floats reset = sigmoid(load<Floats>(r + i));
      const Floats candidate = tanh_approx(load<Floats>(n + i) + reset * load<Floats>(inner + i));
      store(new_h + i, blend(candidate, z + i, h + i));
    }
  }
}

template <class Mode>
void gru_reset_before(const CellWeights<Mode>& w, const Member& member,
                      const typename Mode::Rows& h_rows, typename Mode::Rows& inner_rows,
                      const CellArrays& a) {
  const Share share = member.share(a.panels);
  const long first = a.first_unit(share), last = a.last_unit(share);
  Mode::product(w.first, h_rows, a.streams, share, a.gates, a.gates_stride);
  for (int s = 0; s < a.streams; ++s) {
    const float *r = a.gates + s * a.gates_stride, *h = a.h + s * a.width;
    float* inner = a.inner + s * a.width;
    for (long i = first; i < last; i += kLanes) {
      store(inner + i, sigmoid(load<Floats>(r + i)) * load<Floats>(h + i));
    }
  }
  member.meet();
  for (int s = 0; s < a.streams; ++s) inner_rows.set(s, a.inner + s * a.width);
  float* candidates = a.gates + 2 * a.width;
  Mode::product(w.candidate, inner_rows, a.streams, share, candidates, a.gates_stride);
  for (int s = 0; s < a.streams; ++s) {
    const float *z = a.gates + s * a.gates_stride + a.width, *n = z + a.width;
    const float* h = a.h + s * a.width;
    float* new_h = a.new_h + s * a.width;
    for (long i = first; i < last; i += kLanes) {
      store(new_h + i, blend(tanh_approx(load<Floats>(n + i)), z + i, h + i));
    }
  }
}

template <class Mode>
void lstm_cell(const CellWeights<Mode>& w, const Member& member, const typename Mode::Rows& h_rows,
               const CellArrays& a) {
  const Share share = member.share(a.panels);
  const long first = a.first_unit(share), last = a.last_unit(share);
  Mode::product(w.first, h_rows, a.streams, share, a.gates, a.gates_stride);
  for (int s = 0; s < a.streams; ++s) {
    const float *in = a.gates + s * a.gates_stride, *forget = in + a.width;
    const float *g = forget + a.width, *out = g + a.width;
    float *cell = a.cell + s * a.width, *new_h = a.new_h + s * a.width;
    for (long i = first; i < last; i += kLanes) {
      const Floats kept = sigmoid(load<Floats>(forget + i)) * load<Floats>(cell + i);
      const Floats added = sigmoid(load<Floats>(in + i)) * tanh_approx(load<Floats>(g + i));
      store(cell + i, kept + added);
      store(new_h + i, sigmoid(load<Floats>(out + i)) * tanh_approx(kept + added));
    }
  }
}

}  // namespace SRNN_ISA
}  // namespace srnn
