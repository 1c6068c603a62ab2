// The kernels for AMX (tiles of bytes and of bfloat16), which also use AVX-512 with VNNI.
#define SRNN_ISA amx
#define SRNN_PLANES
#define SRNN_TILES
#include "kernels_impl.h"

namespace srnn {
bool tiles_work_amx() { return amx::tiles_work(); }

std::unique_ptr<const Kernels> make_kernels_amx(const std::string& mode) { return amx::make(mode); }
}  // namespace srnn
