// One call of the engine: what the caller hands in, and how its streams are split between threads.
#pragma once

#include <cstdint>
#include <functional>

#include "model/draw.h"
#include "model/layout.h"

namespace srnn {

class Kernels;
class Model;
class Walk;

// The streams of a call, and all that changes while their levels are made. The engine keeps none of
// it after the call. Letters are those of layout.h.
struct Streams {
  int count = 0;
  long t = 0;                      // time of the first new sample
  float* const* hidden = nullptr;  // one array (n, B, H) for each tier, advanced in place
  int64_t* levels = nullptr;       // (B, L + steps): L known levels, then forced ones or -1
  long steps = 0;
};

// Neighbouring streams of a call, from one of its steps on.
struct StreamSlice {
  StreamSlice(const Streams& s, const ModelDims& m, int first_, int count_, long from_)
      : first(first_),
        count(count_),
        total(s.count),
        t(s.t + from_),
        from(from_),
        steps(s.steps - from_),
        row(m.lookback() + s.steps),
        hidden(s.hidden),
        levels(s.levels + first_ * row + from_) {}

  // Returns the number of one of these streams in the call.
  int in_call(int stream) const { return first + stream; }

  // Returns where the value of one step of one of these streams lies in an array (B, steps) of the
  // call.
  long place(int stream, long step) const {
    return (long{first} + stream) * (from + steps) + from + step;
  }

  // Returns the state of one of these streams in one layer.
  float* state(const ModelDims& m, int tier, int layer, int stream) const {
    return hidden[tier] + (long{layer} * total + first + stream) * m.state_width();
  }

  int first, count, total;
  long t, from, steps, row;  // row: levels of one stream in the call's array
  float* const* hidden;
  int64_t* levels;
};

// How levels are drawn. Streams of one call may differ in all of it.
struct Drawing {
  // Every draw depends on these three alone (model/philox.h).
  const uint64_t* seeds = nullptr;     // (B)
  const uint32_t* streams = nullptr;   // (B) their numbers
  const int64_t* times = nullptr;      // (B) a stream's own time at the first step of the call
  const float* temperature = nullptr;  // (B, steps)
  const SamplerSettings* samplers = nullptr;  // (B)
};

// Splits the streams of a call between threads, each of which takes a walk.
struct Call {
  // Runs one walk to its end. Returns the number of steps made, or -1 if a logit is not a number.
  typedef std::function<long(Walk&)> Job;

  // Runs the walks of all streams from the step `from` on. Returns the first step that was not
  // made, or -1 if a logit is not a number.
  long run(long from, int threads, const Job& job) const;

  const Kernels& kernels;
  const Model& model;
  const Streams& streams;
  int steps_at_once;  // known levels that a walk takes at once; 1 for sampling
};

}  // namespace srnn
