// A packed model in one numeric mode and one instruction set: read-only, shared by all threads.
//
// Vectors of dim D are padded to `width`, whole panels; what is padded stays 0.
#pragma once

#include <string>
#include <vector>

#include "engine.h"
#include "gru_cell.h"

namespace srnn {
namespace SRNN_ISA {

template <class Mode>
struct TierWeights {
  const float* frame = nullptr;       // (F, I G blocks): what one sample of a frame adds
  const float* input_bias = nullptr;  // (r of the tier above, or 1; I G blocks)
  const float* bias = nullptr;        // (n, G blocks); for layers that read no input
  std::vector<CellWeights<Mode>> cells;
  std::vector<typename Mode::Matrix> stack;  // G blocks of layers 1, ..., n - 1
  typename Mode::Matrix skip_out;
  const float* skip_bias = nullptr;
  std::vector<typename Mode::Matrix> up;  // one for each unit below: I G blocks, or 1
};

template <class Mode>
struct SampleWeights {
  const float* tables = nullptr;   // (taps, Q, width), oldest tap first
  const float* up_bias = nullptr;  // (FS(2), width)
  std::vector<typename Mode::Matrix> hidden;
  std::vector<const float*> hidden_bias;
  typename Mode::Matrix output;
  const float* output_bias = nullptr;
};

template <class Mode>
class Model {
 public:
  Model(const ModelDims& dims, const Arrays& arrays)
      : m(dims), panels(panels_of(dims.dim)), width(long{panels} * kPanel), arrays_(&arrays) {
    frame_values = copy("frame_values", 1, m.q_levels);
    for (int tier = 0; tier < m.tiers(); ++tier) tiers.push_back(load_tier(tier));
    mlp.tables = copy("mlp.tables", long{m.taps} * m.q_levels, m.dim);
    mlp.up_bias = copy("tier0.up_bias", m.ratio(0), m.dim);
    for (int layer = 0; layer < m.hidden; ++layer) {
      const std::string name = "mlp.hidden" + std::to_string(layer);
      mlp.hidden.push_back(matrix(name, 0, 1, m.dim, m.dim));
      mlp.hidden_bias.push_back(copy(name + "_bias", 1, m.dim));
    }
    mlp.output = matrix("mlp.output", 0, 1, m.q_levels, m.dim);
    mlp.output_bias = copy("mlp.output_bias", 1, m.q_levels);
    arrays_ = nullptr;
  }

  long blocks_read() const { return long{m.readers()} * m.gates(); }
  long input_width() const { return blocks_read() * width; }
  long gates_width() const { return m.gates() * width; }
  int logit_panels() const { return panels_of(m.q_levels); }
  long logit_width() const { return long{logit_panels()} * kPanel; }
  size_t bytes() const { return arena_.bytes(); }

  const ModelDims m;
  const int panels;
  const long width;
  const float* frame_values = nullptr;
  std::vector<TierWeights<Mode>> tiers;  // lowest first
  SampleWeights<Mode> mlp;

 private:
  const float* source(const std::string& name) const { return arrays_->at(name); }

  // Blocks of `size` floats, each padded to whole panels.
  const float* copy(const std::string& name, long blocks, int size) {
    const long padded = long{panels_of(size)} * kPanel;
    float* to = arena_.take<float>(blocks * padded);
    for (long block = 0; block < blocks; ++block) {
      std::memcpy(to + block * padded, source(name) + block * size, sizeof(float) * size);
    }
    return to;
  }

  typename Mode::Matrix matrix(const std::string& name, long offset, int blocks, int rows,
                               int cols) {
    return typename Mode::Matrix(Source{source(name) + offset, blocks, rows, cols}, arena_);
  }

  TierWeights<Mode> load_tier(int tier) {
    const std::string name = "tier" + std::to_string(tier) + ".";
    const long square = long{m.dim} * m.dim, all = m.gates() * square;
    TierWeights<Mode> w;
    w.bias = copy(name + "bias", long{m.n_rnn} * m.gates(), m.dim);
    w.frame = load_frame(name + "frame", m.frame_sizes[tier]);
    w.input_bias = load_input_bias(tier, w.bias);
    for (int layer = 0; layer < m.n_rnn; ++layer) {
      CellWeights<Mode> cell;
      const int first = m.lstm ? 4 : 2;
      cell.first = matrix(name + "recurrent", layer * all, first, m.dim, m.dim);
      if (!m.lstm) {
        cell.candidate = matrix(name + "recurrent", layer * all + 2 * square, 1, m.dim, m.dim);
      }
      w.cells.push_back(cell);
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
    const int below = tier == 0 ? 1 : static_cast<int>(blocks_read());
    for (int j = 0; j < m.ratio(tier); ++j) {
      w.up.push_back(matrix(name + "up", j * below * square, below, m.dim, m.dim));
    }
    return w;
  }

  // (I G D, F) turned, so that each sample of a frame adds one row.
  const float* load_frame(const std::string& name, int size) {
    float* to = arena_.take<float>(size * input_width());
    for (long block = 0; block < blocks_read(); ++block) {
      for (int i = 0; i < m.dim; ++i) {
        for (int at = 0; at < size; ++at) {
          to[at * input_width() + block * width + i] =
              source(name)[(block * m.dim + i) * size + at];
        }
      }
    }
    return to;
  }

  // Biases of the layers that read the tier's input, with what the tier above always adds.
  const float* load_input_bias(int tier, const float* bias) {
    const bool top = tier + 1 == m.tiers();
    const int ratio = top ? 1 : m.ratio(tier + 1);
    float* to = arena_.take<float>(ratio * input_width());
    for (int j = 0; j < ratio; ++j) {
      std::memcpy(to + j * input_width(), bias, sizeof(float) * input_width());
      if (top) continue;
      const std::string name = "tier" + std::to_string(tier + 1) + ".up_bias";
      const float* up = source(name) + j * blocks_read() * m.dim;
      for (long block = 0; block < blocks_read(); ++block) {
        for (int i = 0; i < m.dim; ++i) {
          to[j * input_width() + block * width + i] += up[block * m.dim + i];
        }
      }
    }
    return to;
  }

  const Arrays* arrays_;
  Arena arena_;
};

}  // namespace SRNN_ISA
}  // namespace srnn
