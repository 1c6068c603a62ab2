// Launches of a model's stages for Python: kernels once, then a whole call at a time.
#include <pybind11/stl.h>

#include "bindings.h"
#include "cuda/stages.h"

namespace py = pybind11;

namespace srnn {
namespace {

using cuda::Kernel, cuda::StageLists;
// Of `kernels`, tier, layer, and whether it begins a sample.
using Row = std::tuple<size_t, int32_t, int32_t, bool>;

class Stages {
 public:
  Stages(const std::vector<std::shared_ptr<Kernel>>& kernels, const std::vector<Row>& before,
         const std::vector<std::vector<Row>>& period, const std::vector<Row>& after)
      : lists_{launches(kernels, before), {}, launches(kernels, after)} {
    for (const std::vector<Row>& sample : period) {
      lists_.period.push_back(launches(kernels, sample));
    }
    if (period.empty()) throw std::invalid_argument("CudaStages: period must not be empty");
  }

  void launch(unsigned blocks, unsigned threads, unsigned shared_bytes, uintptr_t stream,
              const std::string& params, int64_t t, int32_t steps) const {
    if (params.size() != sizeof(Params) || t < 0) {
      throw std::invalid_argument(
          "CudaStages: params must be of cuda_params and t 0 or more, got " +
          std::to_string(params.size()) + " bytes and " + std::to_string(t));
    }
    cuda::launch_stages(lists_, {blocks, threads, shared_bytes, false},
                        reinterpret_cast<cuda::StreamHandle>(stream), params, t, steps);
  }

 private:
  static std::vector<cuda::StageLaunch> launches(
      const std::vector<std::shared_ptr<Kernel>>& kernels, const std::vector<Row>& rows) {
    std::vector<cuda::StageLaunch> made;
    for (const auto& [kernel, tier, layer, begins] : rows) {
      made.push_back({kernels.at(kernel), {tier, layer, begins ? 1 : 0}});
    }
    return made;
  }

  StageLists lists_;
};

}  // namespace

void bind_cuda_stages(py::module_& m) {
  py::class_<Stages>(m, "CudaStages", "The launches of a walk, in lists; see cuda_stages.Walk.")
      .def(py::init<const std::vector<std::shared_ptr<Kernel>>&, const std::vector<Row>&,
                    const std::vector<std::vector<Row>>&, const std::vector<Row>&>(),
           py::arg("kernels"), py::arg("before"), py::arg("period"), py::arg("after"),
           "Rows: number of a kernel, tier, layer, whether it begins a sample.")
      .def("launch", &Stages::launch, py::arg("blocks"), py::arg("threads"),
           py::arg("shared_bytes"), py::arg("stream"), py::arg("params"), py::arg("t"),
           py::arg("steps"), py::call_guard<py::gil_scoped_release>(),
           "Put all stages of `steps` samples from time t on into the stream and return.");
}

}  // namespace srnn
