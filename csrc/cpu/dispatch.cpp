// Chooses the instruction set at run time: one program serves every machine.
#include <algorithm>
#include <stdexcept>

#include "engine.h"
#include "team.h"

namespace srnn {

typedef std::unique_ptr<Engine> MakeEngine(const ModelDims&, const Arrays&, const EngineOptions&);

MakeEngine make_engine_baseline;
#if defined(__x86_64__)
MakeEngine make_engine_avx2, make_engine_avx512, make_engine_avx512_vnni;
#endif

namespace {

struct Isa {
  const char* name;
  bool (*here)();
  MakeEngine* make;
};

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif

const Isa kIsas[] = {
#if defined(__x86_64__)
    {"avx512_vnni", has_vnni, make_engine_avx512_vnni},
    {"avx512", has_avx512, make_engine_avx512},
    {"avx2", has_avx2, make_engine_avx2},
#endif
    {"baseline", [] { return true; }, make_engine_baseline},
};

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas) {
    if (isa.here()) names.push_back(isa.name);
  }
  return names;
}

std::unique_ptr<Engine> make_engine(const ModelDims& dims, const Arrays& arrays,
                                    const EngineOptions& options) {
  if (options.num_threads < 0 || options.num_threads > kMostThreads) {
    throw std::invalid_argument("num_threads must be 0 (chosen) to " +
                                std::to_string(kMostThreads) + ", got " +
                                std::to_string(options.num_threads));
  }
  for (const Isa& candidate : kIsas) {
    if (candidate.here() && (options.isa.empty() || options.isa == candidate.name)) {
      return candidate.make(dims, arrays, options);
    }
  }
  throw std::invalid_argument("instruction set " + options.isa +
                              " is not available on this machine");
}

}  // namespace srnn
