// The kernels for AVX-512 with VNNI (dot products of bytes).
#define SRNN_ISA avx512_vnni
#define SRNN_PLANES
#include "kernels_impl.h"

namespace srnn {
std::unique_ptr<const Kernels> make_kernels_avx512_vnni(const std::string& mode) {
  return avx512_vnni::make(mode);
}
}  // namespace srnn
