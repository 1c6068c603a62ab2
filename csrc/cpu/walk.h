// The walk over the tiers: which tier runs at which sample, and how it is upsampled (Eq. 1-9).
//
// A team of threads makes one set of streams. Each member owns some units of every vector and
// computes only those; the members meet where a vector must be whole. A member without a team owns
// everything. Sampling goes step by step. Known levels go tier by tier over many frames at once,
// by the same products.
//
// A member must not fail in the middle of a walk, because the others would wait for it forever. So
// the constructors allocate all memory.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "model.h"
#include "team.h"

namespace srnn {

typedef std::chrono::steady_clock Clock;

// The arrays that the members of one team share. A row is a stream or a pair (stream, frame); the
// frames of a stream follow each other.
struct TeamArrays {
  TeamArrays(const Model& model, int streams, int steps);

  Buffer<float> inner;     // (streams, width)
  Buffer<float> gates;     // (streams, gates_width), for layers that do not read the tier's input
  Buffer<float> output;    // (streams, width), of the tier that runs
  Buffer<float> x, other;  // (streams, steps, width), the layers of the MLP by turns
  Buffer<float> logits;    // (streams, steps, logit_width)
  Buffer<float> inputs;    // (streams, frames, input_width), the gates that read the tier's input
  bool parting = false;
  // The states h of every layer, twice: one side is written while others may still read the other.
  std::vector<Buffer<float>> hidden[2];
  std::vector<Buffer<float>> c;  // the memory c of every LSTM layer
};

class Walk {
 public:
  // `streams` are those of this team; `steps` is how many known levels the walk takes at once, 1
  // for sampling.
  Walk(const Kernels& kernels, const Model& model, const Member& member, TeamArrays& team,
       const StreamSlice& streams, int steps);

  // Fills every level that is -1. Returns how many steps were made, which is all of them unless the
  // team parted, or -1 when a logit is not a number.
  long generate(const Drawing& drawing);
  // Advances over known levels, which are whole top frames, and fills logits (B, steps, Q) unless
  // it is null. Returns how many steps were made, which is all of them unless the team parted.
  long follow(float* logits);

 private:
  PanelSlice slice() const { return member_.slice(model_.panels); }
  long first_unit() const { return long{slice().first} * model_.panel; }
  long units() const { return long{slice().last - slice().first} * model_.panel; }
  int index(int tier, int layer) const { return tier * m_.n_rnn + layer; }
  float* hidden(int at) const { return team_.hidden[sides_[at]][at].data(); }
  int64_t& level(int stream, long step) const {
    return levels_[stream * streams_.row + m_.lookback() + step];
  }

  bool parting();
  void start();
  void finish() const;
  void set_hidden_rows(int at);
  bool known(long step) const;

  // walk_tier.cpp
  void run_tier(int tier, long step, int frames);
  void read_input(int tier, long step, int frames);
  void upsample(int tier, long step, int units, float* y, long width) const;
  void run_layer(int tier, int layer, int frame, int frames);
  void copy_bias(const float* bias, int layer, float* gates, long stride) const;
  void run_cell(const CellWeights& w, int at, float* gates, long stride);
  void refresh_output(int tier, int frame, int frames);

  // walk_sample.cpp
  void sample_mlp(long step, int count);
  void read_levels(long step, int count) const;
  void finish_layer(float* x, int rows);
  bool draw(long step, const Drawing& drawing);
  void copy_logits(long step, int count, float* logits) const;

  Clock::time_point began_ = Clock::now();
  double slept_before_ = 0;  // seconds that the team's members slept until all of them ran
  const Kernels& kernels_;
  const Model& model_;
  const ModelDims& m_;
  const Member member_;
  TeamArrays& team_;
  const StreamSlice streams_;
  const int steps_;
  int64_t* levels_;
  std::vector<int64_t> own_levels_;
  std::vector<uint32_t> weights_;
  // This member's own copies of the vectors that products read.
  std::unique_ptr<Rows> inner_rows_, joined_rows_, x_rows_;
  std::vector<std::unique_ptr<Rows>> hidden_rows_, outputs_;
  Buffer<float> joined_;
  std::vector<int> sides_;  // for every layer, the index into team_.hidden of its newest state
};

}  // namespace srnn
