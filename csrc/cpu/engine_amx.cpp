// The engine for AMX: tiles of bytes and of bfloat16, beside AVX-512 with VNNI.
#define SRNN_ISA amx
#define SRNN_PLANES
#define SRNN_TILES
#include "engine_impl.h"

namespace srnn {
bool tiles_work_amx() { return amx::tiles_work(); }

std::unique_ptr<Engine> make_engine_amx(const ModelDims& dims, const Arrays& arrays,
                                        const EngineOptions& options) {
  return amx::make(dims, arrays, options);
}
}  // namespace srnn
