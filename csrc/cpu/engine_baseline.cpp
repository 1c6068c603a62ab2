// The CPU engine, compiled for this file's instruction set (flags: ISA_FLAGS in setup.py).
#define SRNN_ISA baseline
#include "schedule.h"

namespace srnn {

std::unique_ptr<Engine> make_engine_baseline(const ModelDims& dims, const Arrays& arrays) {
  return std::make_unique<baseline::CpuEngine>(dims, arrays);
}

}  // namespace srnn
