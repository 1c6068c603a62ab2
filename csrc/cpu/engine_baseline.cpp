// The engine for the instruction set that every machine of this kind has.
#define SRNN_ISA baseline
#include "engine_impl.h"

namespace srnn {
std::unique_ptr<Engine> make_engine_baseline(const ModelDims& dims, const Arrays& arrays,
                                             const EngineOptions& options) {
  return baseline::make(dims, arrays, options);
}
}  // namespace srnn
