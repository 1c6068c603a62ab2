// The kernels that run on every machine of this architecture.
#define SRNN_ISA baseline
#include "kernels_impl.h"

namespace srnn {
std::unique_ptr<const Kernels> make_kernels_baseline(const std::string& mode) {
  return baseline::make(mode);
}
}  // namespace srnn
