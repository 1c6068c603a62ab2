// The CPU engine, compiled for this file's instruction set (flags: ISA_FLAGS in setup.py).
#define SRNN_ISA avx512
#include "schedule.h"

namespace srnn {

std::unique_ptr<Engine> make_engine_avx512(const ModelDims& dims, const Arrays& arrays) {
  return std::make_unique<avx512::CpuEngine>(dims, arrays);
}

}  // namespace srnn
