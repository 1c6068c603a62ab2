// Launches the stages of every sample, which are the kernels of device/stages.cuh, in their order.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cuda/params.h"
#include "driver.h"

namespace srnn::cuda {

struct StageLaunch {
  std::shared_ptr<const Kernel> kernel;
  Stage stage;
};

// The launches of a call: before its first sample, for each sample of a top frame (the lists repeat
// with that period), and after its last sample.
struct StageLists {
  std::vector<StageLaunch> before;
  std::vector<std::vector<StageLaunch>> period;
  std::vector<StageLaunch> after;
};

// Queues every stage of `steps` samples from time t on, and returns. params: the bytes of a Params.
void launch_stages(const StageLists& lists, const Shape& shape, StreamHandle cuda_stream,
                   const std::string& params, int64_t t, int32_t steps);

}  // namespace srnn::cuda
