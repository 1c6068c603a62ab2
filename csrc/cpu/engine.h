// The CPU engine: a packed model that samples, primes and scores any number of streams.
//
// A model is read-only, and threads may share it. Everything that changes belongs to the caller.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "call.h"
#include "kernels.h"

namespace srnn {

// Facts about an engine for reports and benchmarks.
struct EngineInfo {
  std::string isa, mode;
  size_t weight_bytes = 0;
  long partings = 0;  // how often a team parted: the machine was busy and one thread went on alone
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual const ModelDims& dims() const = 0;
  virtual EngineInfo info() const = 0;
  // Returns how many threads a call with this many streams uses.
  virtual int threads(int streams) const = 0;
  // Fills every level that is -1. Returns false when a logit is not a number.
  virtual bool generate(const Streams& streams, const Drawing& drawing) const = 0;
  // Advances `hidden` over known levels; steps is a multiple of L and t starts a top frame. Fills
  // logits (B, steps, Q) unless it is null.
  virtual void follow(const Streams& streams, float* logits) const = 0;
  // These measure when they are called: bytes a second read from a working set, and multiply-adds a
  // second in registers.
  virtual double read_bandwidth(size_t bytes, int threads) const = 0;
  virtual double peak_rate(int threads) const = 0;
};

// The packed tensors, by their names in the layout, and for the mode int4 the matrices of four bits
// that take the place of some of them.
struct Arrays {
  std::map<std::string, const float*> floats;
  std::map<std::string, FourBits> four_bits;
};

struct EngineOptions {
  std::string isa;               // empty for the best one of this machine
  std::string mode = "float32";  // or bfloat16, int8, int4
  int num_threads = 0;           // 0: as many as the work is worth
};

// Throws std::invalid_argument when an option is unknown or not available on this machine.
std::unique_ptr<Engine> make_engine(const ModelDims& dims, const Arrays& arrays,
                                    const EngineOptions& options);

// Returns the names of the instruction sets that were built and that this machine has, best first.
std::vector<std::string> available_isas();
// Returns the names of all instruction sets that were built.
std::vector<std::string> built_isas();

}  // namespace srnn
