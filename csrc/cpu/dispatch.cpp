// Chooses the instruction set at run time: one program serves every machine.
#include <stdexcept>

#include "engine.h"

namespace srnn {

std::unique_ptr<Engine> make_engine_baseline(const ModelDims& dims, const Arrays& arrays);
#if defined(__x86_64__)
std::unique_ptr<Engine> make_engine_avx2(const ModelDims& dims, const Arrays& arrays);
std::unique_ptr<Engine> make_engine_avx512(const ModelDims& dims, const Arrays& arrays);
#endif

namespace {

struct Isa {
  const char* name;
  bool (*here)();
  std::unique_ptr<Engine> (*make)(const ModelDims&, const Arrays&);
};

const Isa kIsas[] = {
#if defined(__x86_64__)
    {"avx512", [] { return __builtin_cpu_supports("avx512f") != 0; }, make_engine_avx512},
    {"avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); },
     make_engine_avx2},
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
                                    const std::string& isa) {
  for (const Isa& candidate : kIsas) {
    if (candidate.here() && (isa.empty() || isa == candidate.name)) {
      return candidate.make(dims, arrays);
    }
  }
  throw std::invalid_argument("instruction set " + isa + " is not available on this machine");
}

}  // namespace srnn
