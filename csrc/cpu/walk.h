// The tier walk: which tier runs at which sample, and what it hands down (Eq. 1-9).
//
// Whoever is in the middle of a walk must not fail, since others wait for it: all memory is taken
// by the constructors. A team of threads makes one set of streams: each member owns some units of
// every vector and computes only those; they meet where a vector must be whole. Alone, a member
// owns everything. Sampling goes step by step; known levels go tier by tier over many frames at
// once, by the same products.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include "model.h"

namespace srnn {
namespace SRNN_ISA {

// What the members of one team share. A row is a stream, or (stream, frame) with frames inside.
struct TeamArrays {
  TeamArrays(const ModelDims& m, long width, long input_width, long gates_width, long logit_width,
             int streams, int steps)
      : inner(streams * width),
        gates(streams * gates_width),
        output(streams * width),
        x(size_t{1} * streams * steps * width),
        other(m.hidden > 0 ? size_t{1} * streams * steps * width : 0),
        logits(size_t{1} * streams * steps * logit_width) {
    const int lowest = std::max(1, steps / m.frame_sizes[0]);
    inputs = Buffer<float>(size_t{1} * streams * lowest * input_width);
    const size_t layers = size_t{1} * m.tiers() * m.n_rnn;
    for (size_t i = 0; i < layers; ++i) {
      for (std::vector<Buffer<float>>* side : {&hidden[0], &hidden[1]}) {
        side->emplace_back(streams * width);
      }
      cells.emplace_back(m.lstm ? streams * width : 0);
    }
  }

  Buffer<float> inner, gates, output, x, other, logits, inputs;
  bool parting = false;
  // Of every layer; written to one side while the other may still be read.
  std::vector<Buffer<float>> hidden[2];
  std::vector<Buffer<float>> cells;
};

typedef std::chrono::steady_clock Clock;
inline double seconds_since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

constexpr long kStepsBetweenDoubts = 32;
constexpr double kPartingSeconds = 0.002;  // the start of a team is no sign
constexpr double kPartingShare = 0.25;     // two members gain about a half where nothing disturbs

template <class Mode>
class Walk {
 public:
  typedef typename Mode::Rows Rows;

  // `streams` are this team's; `steps` is how many known levels are taken at once, 1 for sampling.
  Walk(const Model<Mode>& model, const Member& member, TeamArrays& team, const StreamSlice& streams,
       int steps)
      : model_(model),
        m_(model.m),
        member_(member),
        team_(team),
        streams_(streams),
        steps_(steps),
        levels_(streams.levels),
        weights_(m_.q_levels),
        inner_rows_(m_.lstm || m_.reset_after ? 0 : streams.count, m_.dim),
        joined_rows_(m_.skips ? streams.count : 0, m_.n_rnn * m_.dim),
        joined_(m_.skips ? m_.n_rnn * m_.dim : 0),
        x_rows_(streams.count * steps, m_.dim),
        sides_(m_.tiers() * m_.n_rnn, 0) {
    for (int tier = 0; tier < m_.tiers(); ++tier) {
      const int frames = std::max(1, steps / m_.frame_sizes[tier]);
      outputs_.emplace_back(streams.count * frames, m_.dim);
      for (int layer = 0; layer < m_.n_rnn; ++layer)
        hidden_rows_.emplace_back(streams.count, m_.dim);
    }
    if (member.rank > 0) own_levels_.resize(streams.count * streams.row - streams.from);
  }

  // Fills every level that is -1. Returns the steps made: all, or fewer where the team is parting;
  // -1 when a logit is not a number.
  long generate(const Drawing& drawing) {
    if (member_.rank > 0) {  // every member draws the same levels, into an array of its own
      std::copy_n(levels_, own_levels_.size(), own_levels_.data());
      levels_ = own_levels_.data();
    }
    start();
    for (int tier = 0; tier < m_.tiers(); ++tier) {
      refresh_output(tier, 0, 1);
      member_.meet();  // the next tier's output takes the place of this one's
    }
    long step = 0;
    for (; step < streams_.steps; ++step) {
      if (step % kStepsBetweenDoubts == 0 && parting()) break;
      for (int tier = m_.tiers() - 1; tier >= 0; --tier) {
        if ((streams_.t + step) % m_.frame_sizes[tier] == 0) run_tier(tier, step, 1);
      }
      if (known(step)) continue;  // what comes next does not depend on the logits
      run_samples(step, 1);
      if (!draw(step, drawing)) return -1;
    }
    finish();
    return step;
  }

  // Advances over known levels, whole top frames; fills logits (B, steps, Q) unless it is null.
  // Returns the steps made, as `generate` does.
  long follow(float* logits) {
    start();
    long step = 0;
    for (int count; step < streams_.steps && !parting(); step += count) {
      count = static_cast<int>(std::min<long>(steps_, streams_.steps - step));
      for (int tier = m_.tiers() - 1; tier >= 0; --tier) {
        run_tier(tier, step, count / m_.frame_sizes[tier]);
      }
      if (logits == nullptr) continue;
      run_samples(step, count);
      if (member_.rank == 0) copy_logits(step, count, logits);
    }
    finish();
    return std::min(step, streams_.steps);
  }

 private:
  Share share() const { return member_.share(model_.panels); }
  long first_unit() const { return long{share().first} * kPanel; }
  long units() const { return long{share().last - share().first} * kPanel; }
  int index(int tier, int layer) const { return tier * m_.n_rnn + layer; }
  float* hidden(int at) const { return team_.hidden[sides_[at]][at].data(); }

  // Whether the team gives up, which all members decide alike: on a busy machine they wait for each
  // other's turns, and one is faster alone.
  bool parting() {
    if (member_.size == 1) return false;
    if (member_.rank == 0) {
      const double slept = member_.barrier->slept();
      const double most = (member_.size - 1) * seconds_since(began_);  // somebody always works
      team_.parting = slept > kPartingSeconds && slept > kPartingShare * most;
    }
    member_.meet();
    const bool decided = team_.parting;
    member_.meet();  // before it is written again
    return decided;
  }

  void start() {
    for (int at = 0; at < static_cast<int>(sides_.size()) && member_.rank == 0; ++at) {
      for (int s = 0; s < streams_.count; ++s) {
        const float* from = streams_.state(m_, at / m_.n_rnn, at % m_.n_rnn, s);
        std::copy(from, from + m_.dim, hidden(at) + s * model_.width);
        if (!m_.lstm) continue;
        std::copy(from + m_.dim, from + 2 * m_.dim, team_.cells[at].data() + s * model_.width);
      }
    }
    member_.meet();
    for (int at = 0; at < static_cast<int>(sides_.size()); ++at) set_hidden_rows(at);
  }

  void finish() const {
    for (int at = 0; at < static_cast<int>(sides_.size()) && member_.rank == 0; ++at) {
      for (int s = 0; s < streams_.count; ++s) {
        float* to = streams_.state(m_, at / m_.n_rnn, at % m_.n_rnn, s);
        const float* from = hidden(at) + s * model_.width;
        std::copy(from, from + m_.dim, to);
        if (!m_.lstm) continue;
        const float* cell = team_.cells[at].data() + s * model_.width;
        std::copy(cell, cell + m_.dim, to + m_.dim);
      }
    }
  }

  void set_hidden_rows(int at) {
    for (int s = 0; s < streams_.count; ++s) {
      hidden_rows_[at].set(s, hidden(at) + s * model_.width);
    }
  }

  bool known(long step) const {
    for (int s = 0; s < streams_.count; ++s) {
      if (level(s, step) < 0) return false;
    }
    return true;
  }
  int64_t& level(int stream, long step) const {
    return levels_[stream * streams_.row + m_.lookback() + step];
  }

  // Eq. 4-5: `frames` steps of a tier, the first at `step`.
  void run_tier(int tier, long step, int frames) {
    read_input(tier, step, frames);
    for (int frame = 0; frame < frames; ++frame) {
      for (int layer = 0; layer < m_.n_rnn; ++layer) run_layer(tier, layer, frame, frames);
      refresh_output(tier, frame, frames);
    }
  }

  // What every layer that reads the tier's input gets from it, into team_.inputs.
  void read_input(int tier, long step, int frames) {
    const TierWeights<Mode>& w = model_.tiers[tier];
    const long width = model_.input_width(), first = first_unit(), count = units();
    const int size = m_.frame_sizes[tier];
    const bool top = tier + 1 == m_.tiers();
    const int above = top ? size : m_.frame_sizes[tier + 1];
    for (int s = 0; s < streams_.count; ++s) {
      for (int frame = 0; frame < frames; ++frame) {
        const long at = step + long{frame} * size;
        const int64_t* samples = &level(s, at - size);
        const float* bias = w.input_bias + (streams_.t + at) % above / size * width;
        float* row = team_.inputs.data() + (long{s} * frames + frame) * width + first;
        for (long block = 0; block < width; block += model_.width) {
          std::copy_n(bias + block + first, count, row + block);
          for (int i = 0; i < size; ++i) {
            const float value = model_.frame_values[samples[i]];
            const float* add = w.frame + i * width + block + first;
            float* to = row + block;
#pragma GCC ivdep
            for (long unit = 0; unit < count; ++unit) to[unit] += value * add[unit];
          }
        }
      }
    }
    if (!top) condition(tier + 1, step, frames, team_.inputs.data(), width);
  }

  // Eq. 6: adds what `tier` gives to `units` units below it, the first at `step`.
  void condition(int tier, long step, int units, float* y, long width) const {
    const TierWeights<Mode>& w = model_.tiers[tier];
    const int unit = tier == 0 ? 1 : m_.frame_sizes[tier - 1], ratio = m_.ratio(tier);
    if (units == 1) {
      const long j = (streams_.t + step) % m_.frame_sizes[tier] / unit;
      Mode::product(w.up[j], outputs_[tier], streams_.count, share(), y, width);
      return;
    }
    const int rows = streams_.count * units / ratio;
    for (int j = 0; j < ratio; ++j) {
      Mode::product(w.up[j], outputs_[tier], rows, share(), y + j * width, ratio * width);
    }
  }

  void run_layer(int tier, int layer, int frame, int frames) {
    const TierWeights<Mode>& w = model_.tiers[tier];
    const int at = index(tier, layer);
    CellArrays a;
    a.streams = streams_.count, a.panels = model_.panels, a.width = model_.width;
    if (layer < m_.readers()) {
      a.gates = team_.inputs.data() + frame * model_.input_width() + layer * model_.gates_width();
      a.gates_stride = frames * model_.input_width();
    } else {
      a.gates = team_.gates.data();
      a.gates_stride = model_.gates_width();
      const float* bias = w.bias + layer * model_.gates_width() + first_unit();
      for (int s = 0; s < streams_.count; ++s) {
        float* row = a.gates + s * a.gates_stride + first_unit();
        for (long block = 0; block < a.gates_stride; block += model_.width) {
          std::copy_n(bias + block, units(), row + block);
        }
      }
    }
    if (layer > 0) {
      Mode::product(w.stack[layer - 1], hidden_rows_[at - 1], a.streams, share(), a.gates,
                    a.gates_stride);
    }
    a.h = hidden(at);
    sides_[at] ^= 1;
    a.new_h = hidden(at);
    a.cell = team_.cells[at].data();
    a.inner = team_.inner.data();
    if (m_.lstm) {
      lstm_cell(w.cells[layer], member_, hidden_rows_[at], a);
    } else if (m_.reset_after) {
      gru_reset_after(w.cells[layer], member_, hidden_rows_[at], a);
    } else {
      gru_reset_before(w.cells[layer], member_, hidden_rows_[at], inner_rows_, a);
    }
    member_.meet();
    set_hidden_rows(at);
  }

  // What the tier hands to its upsampling: the last layer's h, or the sum of maps of all of them.
  void refresh_output(int tier, int frame, int frames) {
    if (!m_.skips) {
      for (int s = 0; s < streams_.count; ++s) {
        outputs_[tier].copy(s * frames + frame, hidden_rows_[index(tier, m_.n_rnn - 1)], s);
      }
      return;
    }
    const TierWeights<Mode>& w = model_.tiers[tier];
    for (int s = 0; s < streams_.count; ++s) {
      for (int layer = 0; layer < m_.n_rnn; ++layer) {
        const float* h = hidden(index(tier, layer)) + s * model_.width;
        std::copy(h, h + m_.dim, joined_.data() + layer * m_.dim);
      }
      joined_rows_.set(s, joined_.data());
      std::copy_n(w.skip_bias + first_unit(), units(),
                  team_.output.data() + s * model_.width + first_unit());
    }
    Mode::product(w.skip_out, joined_rows_, streams_.count, share(), team_.output.data(),
                  model_.width);
    member_.meet();
    for (int s = 0; s < streams_.count; ++s) {
      outputs_[tier].set(s * frames + frame, team_.output.data() + s * model_.width);
    }
  }

  // Eq. 7-9: logits of `count` samples from `step` on, into team_.logits.
  void run_samples(long step, int count) {
    const SampleWeights<Mode>& w = model_.mlp;
    const int rows = streams_.count * count;
    read_levels(step, count);
    condition(0, step, count, team_.x.data(), model_.width);
    float *x = team_.x.data(), *other = team_.other.data();
    finish_layer(x, rows);
    for (size_t layer = 0; layer < w.hidden.size(); ++layer) {
      const float* bias = w.hidden_bias[layer] + first_unit();
      for (int row = 0; row < rows; ++row) {
        std::copy_n(bias, units(), other + row * model_.width + first_unit());
      }
      Mode::product(w.hidden[layer], x_rows_, rows, share(), other, model_.width);
      finish_layer(other, rows);
      std::swap(x, other);
    }
    const Share part = member_.share(model_.logit_panels());
    const long first = long{part.first} * kPanel, last = long{part.last} * kPanel;
    const long width = model_.logit_width();
    for (int row = 0; row < rows; ++row) {
      std::copy_n(w.output_bias + first, last - first, team_.logits.data() + row * width + first);
    }
    Mode::product(w.output, x_rows_, rows, part, team_.logits.data(), width);
    member_.meet();
  }

  // The folded embeddings of the last taps levels, and the upsampling's bias.
  void read_levels(long step, int count) const {
    const SampleWeights<Mode>& w = model_.mlp;
    const long width = model_.width, first = first_unit(), own = units();
    for (int s = 0; s < streams_.count; ++s) {
      for (int i = 0; i < count; ++i) {
        const long j = (streams_.t + step + i) % m_.frame_sizes[0];
        const int64_t* recent = &level(s, step + i - m_.taps);
        float* row = team_.x.data() + (long{s} * count + i) * width + first;
        std::copy_n(w.up_bias + j * width + first, own, row);
        for (int tap = 0; tap < m_.taps; ++tap) {
          const float* add = w.tables + (long{tap} * m_.q_levels + recent[tap]) * width + first;
#pragma GCC ivdep
          for (long unit = 0; unit < own; ++unit) row[unit] += add[unit];
        }
      }
    }
  }

  // ReLU of this member's units; then the whole rows become the next product's input.
  void finish_layer(float* x, int rows) {
    for (int row = 0; row < rows; ++row) {
      float* own = x + row * model_.width + first_unit();
      for (long i = 0; i < units(); i += kLanes) store(own + i, relu(load<Floats>(own + i)));
    }
    member_.meet();
    for (int row = 0; row < rows; ++row) x_rows_.set(row, x + row * model_.width);
  }

  bool draw(long step, const Drawing& drawing) {
    for (int s = 0; s < streams_.count; ++s) {
      if (level(s, step) >= 0) continue;
      const long at = streams_.place(s, step);
      const float* logits = team_.logits.data() + s * model_.logit_width();
      const int drawn = sample_level(logits, m_.q_levels, drawing.draws[at],
                                     drawing.temperature[at], drawing.sampler, weights_.data());
      if (drawn < 0) return false;
      level(s, step) = drawn;
    }
    return true;
  }

  void copy_logits(long step, int count, float* logits) const {
    for (int s = 0; s < streams_.count; ++s) {
      for (int i = 0; i < count; ++i) {
        const float* from = team_.logits.data() + (long{s} * count + i) * model_.logit_width();
        const long at = streams_.place(s, step + i);
        std::copy_n(from, m_.q_levels, logits + at * m_.q_levels);
      }
    }
  }

  const Clock::time_point began_ = Clock::now();
  const Model<Mode>& model_;
  const ModelDims& m_;
  const Member member_;
  TeamArrays& team_;
  const StreamSlice streams_;
  const int steps_;
  int64_t* levels_;
  std::vector<int64_t> own_levels_;
  std::vector<uint32_t> weights_;
  // This member's copies of what the products read.
  Rows inner_rows_, joined_rows_;
  Buffer<float> joined_;
  Rows x_rows_;
  std::vector<Rows> hidden_rows_, outputs_;
  std::vector<int> sides_;  // of every layer: where in team_.hidden its state is
};

}  // namespace SRNN_ISA
}  // namespace srnn
