// The CPU engine: a packed model that samples, primes and scores any number of streams.
//
// A model is read-only and may be shared between threads; everything that changes is handed in.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/draw.h"
#include "model/layout.h"

namespace srnn {

// What changes while levels are made. Rows are streams; nothing is kept after a call.
struct Streams {
  int count = 0;
  long t = 0;                      // time of the first new sample
  float* const* hidden = nullptr;  // one array (n, B, H) for each tier, advanced in place
  int64_t* levels = nullptr;       // (B, L + steps): L known levels, then forced ones or -1
  long steps = 0;
};

// Some of the streams of a call, from one of its steps on.
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

  // Where what belongs to a step of one of these streams stands in an array (B, steps) of the call.
  long place(int stream, long step) const {
    return (long{first} + stream) * (from + steps) + from + step;
  }

  // The state of one of these streams in one layer.
  float* state(const ModelDims& m, int tier, int layer, int stream) const {
    return hidden[tier] + (long{layer} * total + first + stream) * m.state_width();
  }

  int first, count, total;
  long t, from, steps, row;
  float* const* hidden;
  int64_t* levels;
};

struct Drawing {
  const uint32_t* draws = nullptr;     // (B, steps)
  const float* temperature = nullptr;  // (B, steps)
  SamplerSettings sampler = {};
};

// What an engine was built with, for reports and benchmarks.
struct EngineInfo {
  std::string isa, mode;
  size_t weight_bytes = 0;
  long partings = 0;  // how often a team gave up on a busy machine; one thread then went on
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual const ModelDims& dims() const = 0;
  virtual EngineInfo info() const = 0;
  // Threads that a call with this many streams uses.
  virtual int threads(int streams) const = 0;
  // Fills every level that is -1. Returns false when a logit is not a number.
  virtual bool generate(const Streams& streams, const Drawing& drawing) const = 0;
  // Advances `hidden` over known levels; steps is a multiple of L and t starts a top frame. Fills
  // logits (B, steps, Q) unless it is null.
  virtual void follow(const Streams& streams, float* logits) const = 0;
  // Measured now: bytes a second read from a working set, and multiply-adds a second in registers.
  virtual double read_bandwidth(size_t bytes, int threads) const = 0;
  virtual double peak_rate(int threads) const = 0;
};

using Arrays = std::map<std::string, const float*>;

struct EngineOptions {
  std::string isa;               // empty: the best of this machine
  std::string mode = "float32";  // or bfloat16, int8
  int num_threads = 0;           // 0: by the size of the work
};

// Throws std::invalid_argument when an option is unknown or not to be had here.
std::unique_ptr<Engine> make_engine(const ModelDims& dims, const Arrays& arrays,
                                    const EngineOptions& options);

// Names of the instruction sets that were built and that this machine has, best first.
std::vector<std::string> available_isas();
// Names of all that were built.
std::vector<std::string> built_isas();

}  // namespace srnn
