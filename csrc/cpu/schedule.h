// The tier walk: which tier runs at which sample, and what it hands down.
// Compiled once for each instruction set, inside namespace SRNN_ISA.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "engine.h"
#include "gru_cell.h"
#include "sample_step.h"
#include "simd.h"

namespace srnn {
namespace SRNN_ISA {

struct TierWeights {
  Matrix frame;                 // (I G D, F)
  const float* bias = nullptr;  // (n, G D)
  std::vector<CellWeights> cells;
  std::vector<Matrix> stack;  // (G D, D) of layers 1, ..., n - 1
  Matrix skip_out;            // (D, n D)
  const float* skip_bias = nullptr;
  std::vector<Matrix> up;          // r of (O, D)
  const float* up_bias = nullptr;  // (r, O)
};

// Buffers of one call.
struct Scratch {
  std::vector<float> values, read, gates, inner, x, other, logits, joined;
  std::vector<std::vector<float>> output;  // (B, D) of each tier, valid until it runs again
  std::vector<uint32_t> weights;
  std::vector<const int64_t*> recent;
};

class CpuEngine final : public Engine {
 public:
  CpuEngine(const ModelDims& dims, const Arrays& arrays) : m_(dims) {
    for (const Field& field : layout(dims)) {
      long count = 1;
      for (long size : field.shape) count *= size;
      const float* source = arrays.at(field.name);
      data_[field.name].assign(source, source + count);
    }
    for (int tier = 0; tier < m_.tiers(); ++tier) tiers_.push_back(load_tier(tier));
    mlp_.tables = at("mlp.tables");
    for (int layer = 0; layer < m_.hidden; ++layer) {
      const std::string name = "mlp.hidden" + std::to_string(layer);
      mlp_.hidden.emplace_back(take(name), m_.dim, m_.dim);
      mlp_.hidden_bias.push_back(at(name + "_bias"));
    }
    mlp_.output = Matrix(take("mlp.output"), m_.q_levels, m_.dim);
    mlp_.output_bias = at("mlp.output_bias");
    for (const std::string& name : packed_) data_.erase(name);
  }

  const ModelDims& dims() const override { return m_; }

  bool generate(const Streams& streams, const Drawing& drawing) const override {
    Scratch scratch = make_scratch(streams.count);
    for (int tier = 0; tier < m_.tiers(); ++tier) refresh_output(tier, streams, scratch);
    const long row = m_.lookback() + streams.steps;
    for (long step = 0; step < streams.steps; ++step) {
      run_frames(streams, step, scratch);
      bool known = true;
      for (int s = 0; s < streams.count; ++s) {
        known = known && streams.levels[s * row + m_.lookback() + step] >= 0;
      }
      if (known) continue;  // what comes next does not depend on the logits
      run_samples(streams, step, scratch, scratch.logits.data());
      for (int s = 0; s < streams.count; ++s) {
        int64_t& level = streams.levels[s * row + m_.lookback() + step];
        if (level >= 0) continue;
        const long at = s * streams.steps + step;
        level = sample_level(scratch.logits.data() + long{s} * m_.q_levels, m_.q_levels,
                             drawing.draws[at], drawing.temperature[at], drawing.sampler,
                             scratch.weights.data());
        if (level < 0) return false;
      }
    }
    return true;
  }

  void prime(const Streams& streams) const override {
    Scratch scratch = make_scratch(streams.count);
    for (long step = 0; step < streams.steps; step += m_.frame_sizes[0]) {
      run_frames(streams, step, scratch);
    }
  }

  void score(const Streams& streams, float* logits) const override {
    Scratch scratch = make_scratch(streams.count);
    for (long step = 0; step < streams.steps; ++step) {
      run_frames(streams, step, scratch);
      run_samples(streams, step, scratch, scratch.logits.data());
      for (int s = 0; s < streams.count; ++s) {
        const float* from = scratch.logits.data() + long{s} * m_.q_levels;
        std::copy(from, from + m_.q_levels, logits + (s * streams.steps + step) * m_.q_levels);
      }
    }
  }

 private:
  const float* at(const std::string& name) const { return data_.at(name).data(); }

  // A field that a Matrix copies into its own layout; the plain copy is dropped afterwards.
  const float* take(const std::string& name) {
    packed_.push_back(name);
    return at(name);
  }

  TierWeights load_tier(int tier) {
    const std::string name = "tier" + std::to_string(tier) + ".";
    const long dim = m_.dim, width = m_.gates() * dim;
    TierWeights w;
    w.frame = Matrix(take(name + "frame"), m_.read_width(), m_.frame_sizes[tier]);
    w.bias = at(name + "bias");
    const float* recurrent = take(name + "recurrent");
    for (int layer = 0; layer < m_.n_rnn; ++layer) {
      const float* matrix = recurrent + layer * width * dim;
      CellWeights cell;
      cell.first = Matrix(matrix, static_cast<int>(m_.lstm ? width : 2 * dim), m_.dim);
      if (!m_.lstm) cell.candidate = Matrix(matrix + 2 * dim * dim, m_.dim, m_.dim);
      if (!m_.lstm && m_.reset_after) cell.bias_n = at(name + "bias_n") + layer * dim;
      w.cells.push_back(std::move(cell));
      if (layer > 0) {
        const float* below = take(name + "stack") + (layer - 1) * width * dim;
        w.stack.emplace_back(below, static_cast<int>(width), m_.dim);
      }
    }
    if (m_.skips) {
      w.skip_out = Matrix(take(name + "skip_out"), m_.dim, m_.n_rnn * m_.dim);
      w.skip_bias = at(name + "skip_bias");
    }
    const long below = m_.below_width(tier);
    const float* up = take(name + "up");
    for (int j = 0; j < m_.ratio(tier); ++j) {
      w.up.emplace_back(up + j * below * dim, static_cast<int>(below), m_.dim);
    }
    w.up_bias = at(name + "up_bias");
    return w;
  }

  Scratch make_scratch(int streams) const {
    Scratch s;
    const size_t rows = streams, dim = m_.dim;
    s.values.resize(rows * m_.lookback());
    s.read.resize(rows * m_.read_width());
    s.gates.resize(rows * m_.gates() * dim);
    for (std::vector<float>* buffer : {&s.inner, &s.x, &s.other}) buffer->resize(rows * dim);
    s.logits.resize(rows * m_.q_levels);
    s.joined.resize(m_.skips ? rows * m_.n_rnn * dim : 0);
    s.output.assign(m_.tiers(), std::vector<float>(rows * dim));
    s.weights.resize(m_.q_levels);
    s.recent.resize(rows);
    return s;
  }

  // Eq. 4-5: every tier whose frame starts at this step, from the top down.
  void run_frames(const Streams& streams, long step, Scratch& scratch) const {
    const long t = streams.t + step, row = m_.lookback() + streams.steps;
    const float* value_of = at("frame_values");
    for (int tier = m_.tiers() - 1; tier >= 0; --tier) {
      const int size = m_.frame_sizes[tier];
      if (t % size != 0) continue;
      if (tier + 1 < m_.tiers()) {
        condition(tier + 1, t, streams.count, scratch, scratch.read.data(), m_.read_width());
      } else {
        std::fill(scratch.read.begin(), scratch.read.end(), 0.0f);
      }
      for (int s = 0; s < streams.count; ++s) {
        const int64_t* frame = streams.levels + s * row + m_.lookback() + step - size;
        for (int i = 0; i < size; ++i) scratch.values[long{s} * size + i] = value_of[frame[i]];
      }
      product(tiers_[tier].frame, streams.count, scratch.values.data(), size, scratch.read.data(),
              m_.read_width());
      run_layers(tier, streams, scratch);
      refresh_output(tier, streams, scratch);
    }
  }

  // One step of a tier's RNN layers, whose gates the tier's input has reached in scratch.read.
  void run_layers(int tier, const Streams& streams, Scratch& scratch) const {
    const TierWeights& w = tiers_[tier];
    const long dim = m_.dim, width = m_.gates() * dim, state = m_.state_width();
    for (int layer = 0; layer < m_.n_rnn; ++layer) {
      float* gates = scratch.gates.data();
      for (int s = 0; s < streams.count; ++s) {
        const float* bias = w.bias + layer * width;
        float* target = gates + s * width;
        if (layer < m_.readers()) {
          const float* read = scratch.read.data() + long{s} * m_.read_width() + layer * width;
          for (long i = 0; i < width; ++i) target[i] = bias[i] + read[i];
        } else {
          std::copy(bias, bias + width, target);
        }
      }
      float* h = streams.hidden[tier] + layer * streams.count * state;
      if (layer > 0) {
        const float* below = h - streams.count * state;
        product(w.stack[layer - 1], streams.count, below, state, gates, width);
      }
      if (m_.lstm) {
        lstm_cell(w.cells[layer], m_.dim, streams.count, gates, h);
      } else {
        gru_cell(w.cells[layer], m_.dim, streams.count, gates, h, scratch.inner.data());
      }
    }
  }

  // What the tier hands to its upsampling: the last layer's h, or the sum of maps of all of them.
  void refresh_output(int tier, const Streams& streams, Scratch& scratch) const {
    const long dim = m_.dim, state = m_.state_width();
    const float* hidden = streams.hidden[tier];
    for (int s = 0; s < streams.count; ++s) {
      float* out = scratch.output[tier].data() + s * dim;
      if (m_.skips) {
        std::copy(tiers_[tier].skip_bias, tiers_[tier].skip_bias + dim, out);
        for (int layer = 0; layer < m_.n_rnn; ++layer) {
          const float* h = hidden + (long{layer} * streams.count + s) * state;
          std::copy(h, h + dim, scratch.joined.data() + (long{s} * m_.n_rnn + layer) * dim);
        }
      } else {
        const float* h = hidden + ((m_.n_rnn - 1L) * streams.count + s) * state;
        std::copy(h, h + dim, out);
      }
    }
    if (m_.skips) {
      product(tiers_[tier].skip_out, streams.count, scratch.joined.data(), m_.n_rnn * dim,
              scratch.output[tier].data(), dim);
    }
  }

  // Eq. 6: what `tier` gives to the unit below that starts at time t, (B, O).
  void condition(int tier, long t, int streams, Scratch& scratch, float* out, long stride) const {
    const int unit = tier == 0 ? 1 : m_.frame_sizes[tier - 1];
    const long j = t % m_.frame_sizes[tier] / unit;
    const float* bias = tiers_[tier].up_bias + j * stride;
    for (int s = 0; s < streams; ++s) std::copy(bias, bias + stride, out + s * stride);
    product(tiers_[tier].up[j], streams, scratch.output[tier].data(), m_.dim, out, stride);
  }

  void run_samples(const Streams& streams, long step, Scratch& scratch, float* logits) const {
    const long row = m_.lookback() + streams.steps;
    condition(0, streams.t + step, streams.count, scratch, scratch.x.data(), m_.dim);
    for (int s = 0; s < streams.count; ++s) {
      scratch.recent[s] = streams.levels + s * row + m_.lookback() + step;
    }
    sample_logits(mlp_, m_.dim, m_.q_levels, m_.taps, streams.count, scratch.recent.data(),
                  scratch.x.data(), scratch.other.data(), logits);
  }

  ModelDims m_;
  std::map<std::string, std::vector<float>> data_;
  std::vector<std::string> packed_;
  std::vector<TierWeights> tiers_;
  SampleWeights mlp_;
};

}  // namespace SRNN_ISA
}  // namespace srnn
