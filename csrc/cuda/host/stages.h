// The kernels of a model's stages (stages.cuh), launched in the order of a list.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/params.h"
#include "driver.h"

namespace srnn::cuda {

// One launch of a list.
struct StageLaunch {
  std::shared_ptr<const Kernel> kernel;
  Stage stage;
};

// What every call launches: before its first sample, for a sample at each place of a period, and
// after its last.
struct StageLists {
  std::vector<StageLaunch> before;
  std::vector<std::vector<StageLaunch>> period;
  std::vector<StageLaunch> after;
};

// Puts every stage of `steps` samples from time t on into the stream and returns. params: the bytes
// of a Params.
void launch_stages(const StageLists& lists, const Shape& shape, StreamHandle stream,
                   const std::string& params, int64_t t, int32_t steps);

}  // namespace srnn::cuda
