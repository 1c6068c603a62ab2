// The engine for AVX-512 with VNNI: dot products of bytes.
#define SRNN_ISA avx512_vnni
#define SRNN_PLANES
#include "engine_impl.h"

namespace srnn {
std::unique_ptr<Engine> make_engine_avx512_vnni(const ModelDims& dims, const Arrays& arrays,
                                                const EngineOptions& options) {
  return avx512_vnni::make(dims, arrays, options);
}
}  // namespace srnn
