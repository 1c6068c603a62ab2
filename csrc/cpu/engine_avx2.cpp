// The engine for AVX2 and FMA.
#define SRNN_ISA avx2
#include "engine_impl.h"

namespace srnn {
std::unique_ptr<Engine> make_engine_avx2(const ModelDims& dims, const Arrays& arrays,
                                         const EngineOptions& options) {
  return avx2::make(dims, arrays, options);
}
}  // namespace srnn
