#include "model.h"

#include <cstring>
#include <utility>

namespace srnn {

Model::Model(const ModelDims& dims, const Arrays& arrays, const Kernels& kernels)
    : m(dims),
      panel(kernels.panel()),
      panels(panels_of(dims.dim)),
      width(long{panels} * panel),
      arrays_(&arrays),
      kernels_(&kernels) {
  if (!m.reads_levels) frame_values = copy("frame_values", 1, m.q_levels);
  for (int tier = 0; tier < m.tiers(); ++tier) tiers.push_back(load_tier(tier));
  if (m.taps > 0) mlp.tables = copy("mlp.tables", long{m.taps} * m.q_levels, m.dim);
  mlp.input_bias = copy("mlp.input_bias", m.ratio(0), m.dim);
  for (int layer = 0; layer < m.hidden; ++layer) {
    const std::string name = "mlp.hidden" + std::to_string(layer);
    mlp.hidden.push_back(matrix(name, 0, 1, m.dim, m.dim));
    mlp.hidden_bias.push_back(copy(name + "_bias", 1, m.dim));
  }
  mlp.output = matrix("mlp.output", 0, 1, m.q_levels, m.dim);
  mlp.output_bias = copy("mlp.output_bias", 1, m.q_levels);
  arrays_ = nullptr;
  kernels_ = nullptr;
}

// Copies `count` vectors of `size` floats and pads each to whole panels.
const float* Model::copy(const std::string& name, long count, int size) {
  const long padded = long{panels_of(size)} * panel;
  float* to = arena_.take<float>(count * padded);
  for (long i = 0; i < count; ++i) {
    std::memcpy(to + i * padded, source(name) + i * size, sizeof(float) * size);
  }
  return to;
}

MatrixPointer Model::matrix(const std::string& name, long offset, int gates, int rows, int cols) {
  Source from{source(name) + offset, gates, rows, cols};
  const auto found = arrays_->four_bits.find(name);
  if (found == arrays_->four_bits.end()) return kernels_->pack(from, arena_);
  const FourBits part = found->second.from_row(offset / cols, cols);
  from.four_bits = &part;
  return kernels_->pack(from, arena_);
}

TierWeights Model::load_tier(int tier) {
  const std::string name = "tier" + std::to_string(tier) + ".";
  const long square = long{m.dim} * m.dim, all = m.gates() * square;
  TierWeights w;
  if (m.reads_levels) {
    w.table = copy(name + "table", m.q_levels * gates_read(), m.dim);
  } else {
    w.frame = load_frame(name + "frame", m.frame_sizes[tier]);
  }
  w.input_bias = copy(name + "input_bias", long{m.places(tier)} * m.n_rnn * m.gates(), m.dim);
  for (int layer = 0; layer < m.n_rnn; ++layer) {
    CellWeights cell;
    const int first = m.lstm ? 4 : 2;
    cell.first = matrix(name + "recurrent", layer * all, first, m.dim, m.dim);
    if (!m.lstm) {
      cell.candidate = matrix(name + "recurrent", layer * all + 2 * square, 1, m.dim, m.dim);
    }
    w.cells.push_back(std::move(cell));
    if (layer > 0) {
      w.stack.push_back(matrix(name + "stack", (layer - 1) * all, m.gates(), m.dim, m.dim));
    }
  }
  if (!m.lstm && m.reset_after) {
    const float* bias_n = copy(name + "bias_n", m.n_rnn, m.dim);
    for (int layer = 0; layer < m.n_rnn; ++layer) w.cells[layer].bias_n = bias_n + layer * width;
  }
  if (m.skips) {
    w.skip_out = matrix(name + "skip_out", 0, 1, m.dim, m.n_rnn * m.dim);
    w.skip_bias = copy(name + "skip_bias", 1, m.dim);
  }
  const int below = tier == 0 ? 1 : static_cast<int>(gates_read());
  for (int j = 0; j < m.ratio(tier); ++j) {
    w.upsample.push_back(matrix(name + "up", j * below * square, below, m.dim, m.dim));
  }
  return w;
}

// Transposes (I G D, F) to (F, I G D), so that each sample of a frame adds one row.
const float* Model::load_frame(const std::string& name, int size) {
  float* to = arena_.take<float>(size * input_width());
  for (long gate = 0; gate < gates_read(); ++gate) {
    for (int i = 0; i < m.dim; ++i) {
      for (int at = 0; at < size; ++at) {
        to[at * input_width() + gate * width + i] = source(name)[(gate * m.dim + i) * size + at];
      }
    }
  }
  return to;
}

}  // namespace srnn
