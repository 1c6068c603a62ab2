// The kernels for AVX-512 (F, BW, DQ, VL).
#define SRNN_ISA avx512
#include "kernels_impl.h"

namespace srnn {
std::unique_ptr<const Kernels> make_kernels_avx512(const std::string& mode) {
  return avx512::make(mode);
}
}  // namespace srnn
