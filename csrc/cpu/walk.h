// The tier walk: which tier runs at which sample, and what it hands down (Eq. 1-9).
//
// Whoever is in the middle of a walk must not fail, since others wait for it: all memory is taken
// by the constructors. A team of threads makes one set of streams: each member owns some units of
// every vector and computes only those; they meet where a vector must be whole. Alone, a member
// owns everything. Sampling goes step by step; known levels go tier by tier over many frames at
// once, by the same products.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "model.h"
#include "team.h"

namespace srnn {

typedef std::chrono::steady_clock Clock;

// What the members of one team share. A row is a stream, or (stream, frame) with frames inside.
struct TeamArrays {
  TeamArrays(const Model& model, int streams, int steps);

  Buffer<float> inner, gates, output, x, other, logits, inputs;
  bool parting = false;
  // Of every layer; written to one side while the other may still be read.
  std::vector<Buffer<float>> hidden[2];
  std::vector<Buffer<float>> cells;
};

class Walk {
 public:
  // `streams` are this team's; `steps` is how many known levels are taken at once, 1 for sampling.
  Walk(const Kernels& kernels, const Model& model, const Member& member, TeamArrays& team,
       const StreamSlice& streams, int steps);

  // Fills every level that is -1. Returns the steps made: all, or fewer where the team is parting;
  // -1 when a logit is not a number.
  long generate(const Drawing& drawing);
  // Advances over known levels, whole top frames; fills logits (B, steps, Q) unless it is null.
  // Returns the steps made, as `generate` does.
  long follow(float* logits);

 private:
  Share share() const { return member_.share(model_.panels); }
  long first_unit() const { return long{share().first} * model_.panel; }
  long units() const { return long{share().last - share().first} * model_.panel; }
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
  void condition(int tier, long step, int units, float* y, long width) const;
  void run_layer(int tier, int layer, int frame, int frames);
  void copy_bias(const float* bias, int layer, float* gates, long stride) const;
  void run_cell(const CellWeights& w, int at, float* gates, long stride);
  void refresh_output(int tier, int frame, int frames);

  // walk_sample.cpp
  void run_samples(long step, int count);
  void read_levels(long step, int count) const;
  void finish_layer(float* x, int rows);
  bool draw(long step, const Drawing& drawing);
  void copy_logits(long step, int count, float* logits) const;

  const Clock::time_point began_ = Clock::now();
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
  // This member's copies of what the products read.
  std::unique_ptr<Rows> inner_rows_, joined_rows_, x_rows_;
  std::vector<std::unique_ptr<Rows>> hidden_rows_, outputs_;
  Buffer<float> joined_;
  std::vector<int> sides_;  // of every layer: where in team_.hidden its state is
};

}  // namespace srnn
