// The kernels for AVX2 with FMA.
#define SRNN_ISA avx2
#include "kernels_impl.h"

namespace srnn {
std::unique_ptr<const Kernels> make_kernels_avx2(const std::string& mode) {
  return avx2::make(mode);
}
}  // namespace srnn
