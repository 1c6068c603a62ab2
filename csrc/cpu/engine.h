// The CPU engine: a packed model that samples, primes and scores any number of streams.
//
// A model is read-only and may be shared between threads; everything that changes is handed in.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "layout.h"
#include "sampler.h"

namespace srnn {

// What changes while levels are made. Rows are streams; nothing is kept after a call.
struct Streams {
  int count = 0;
  long t = 0;                      // time of the first new sample
  float* const* hidden = nullptr;  // one array (n, B, H) for each tier, advanced in place
  int64_t* levels = nullptr;       // (B, L + steps): L known levels, then forced ones or -1
  long steps = 0;
};

struct Drawing {
  const uint32_t* draws = nullptr;     // (B, steps)
  const float* temperature = nullptr;  // (B, steps)
  SamplerSettings sampler = {};
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual const ModelDims& dims() const = 0;
  // Fills every level that is -1. Returns false when a logit is not a number.
  virtual bool generate(const Streams& streams, const Drawing& drawing) const = 0;
  // Advances `hidden` over known levels; steps is a multiple of L and t starts a top frame.
  virtual void prime(const Streams& streams) const = 0;
  // The same, with the logits (B, steps, Q) of every step.
  virtual void score(const Streams& streams, float* logits) const = 0;
};

using Arrays = std::map<std::string, const float*>;

// The engine for the best instruction set of this machine, or for the one named `isa`.
// Throws std::invalid_argument when that one is unknown or not to be had.
std::unique_ptr<Engine> make_engine(const ModelDims& dims, const Arrays& arrays,
                                    const std::string& isa);

// Names of the instruction sets that were built and that this machine has, best first.
std::vector<std::string> available_isas();

}  // namespace srnn
