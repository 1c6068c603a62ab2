#include "stages.h"

namespace srnn::cuda {

namespace {

// A launch with its arguments, which are the same every time.
struct Prepared {
  const Kernel* kernel;
  std::vector<std::string> arguments;
};

std::vector<Prepared> prepare(const std::vector<StageLaunch>& launches, const std::string& params) {
  std::vector<Prepared> prepared;
  for (const StageLaunch& launch : launches) {
    const char* stage = reinterpret_cast<const char*>(&launch.stage);
    prepared.push_back({launch.kernel.get(), {params, {stage, sizeof(Stage)}}});
  }
  return prepared;
}

}  // namespace

void launch_stages(const StageLists& lists, const Shape& shape, StreamHandle cuda_stream,
                   const std::string& params, int64_t t, int32_t steps) {
  const auto launch = [&](const std::vector<Prepared>& launches) {
    for (const Prepared& one : launches) one.kernel->launch(shape, cuda_stream, one.arguments);
  };
  launch(prepare(lists.before, params));
  std::vector<std::vector<Prepared>> period;
  for (const auto& sample : lists.period) period.push_back(prepare(sample, params));
  for (int64_t now = t; now < t + steps; ++now) launch(period[now % period.size()]);
  launch(prepare(lists.after, params));
}

}  // namespace srnn::cuda
