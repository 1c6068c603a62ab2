// The engine for AVX-512 (F, BW).
#define SRNN_ISA avx512
#include "engine_impl.h"

namespace srnn {
std::unique_ptr<Engine> make_engine_avx512(const ModelDims& dims, const Arrays& arrays,
                                           const EngineOptions& options) {
  return avx512::make(dims, arrays, options);
}
}  // namespace srnn
