// NVRTC and the CUDA driver for Python. Pointers and CUDA streams are numbers, arguments are bytes.
// module.cpp includes it.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>

#include "arrays.h"
#include "cuda/host/driver.h"
#include "cuda/host/nvrtc.h"
#include "cuda/host/stages.h"
#include "cuda/params.h"

namespace srnn {
namespace {

using cuda::Device, cuda::Driver, cuda::Kernel, cuda::Nvrtc, cuda::Readback, cuda::StageLists;
using NoGil = py::call_guard<py::gil_scoped_release>;

// Converts a number from Python to a pointer of the device.
template <typename T>
T* pointer_of(uintptr_t number) {
  return reinterpret_cast<T*>(number);
}

py::bytes params(uintptr_t weights, uintptr_t hidden, uintptr_t new_hidden, uintptr_t history,
                 uintptr_t forced, uintptr_t levels, uintptr_t logits, uintptr_t temperature,
                 uintptr_t drawings, uintptr_t workspace, uintptr_t error, uintptr_t profile,
                 uint32_t first_look, uint64_t time_limit, int64_t t, int32_t steps) {
  Params p = {};
  p.weights = pointer_of<const unsigned char>(weights);
  p.hidden = pointer_of<const float>(hidden);
  p.new_hidden = pointer_of<float>(new_hidden);
  p.history = pointer_of<const int32_t>(history);
  p.forced = pointer_of<const int32_t>(forced);
  p.levels = pointer_of<int32_t>(levels);
  p.logits = pointer_of<float>(logits);
  p.temperature = pointer_of<const float>(temperature);
  p.drawings = pointer_of<const StreamDrawing>(drawings);
  p.workspace = pointer_of<unsigned char>(workspace);
  p.error = pointer_of<uint32_t>(error);
  p.profile = pointer_of<uint64_t>(profile);
  p.first_look = first_look, p.time_limit = time_limit, p.t = t, p.steps = steps;
  return py::bytes(reinterpret_cast<const char*>(&p), sizeof(p));
}

py::array_t<unsigned char> drawings(const py::array& seeds, const py::array& streams,
                                    const py::array& ahead, const py::array& top_k,
                                    const py::array& top_p) {
  const long count = seeds.ndim() == 1 ? seeds.shape(0) : 0;
  const uint64_t* seed = checked_shape<const uint64_t>(seeds, {count}, "seeds");
  const uint32_t* number = checked_shape<const uint32_t>(streams, {count}, "streams");
  const int64_t* later = checked_shape<const int64_t>(ahead, {count}, "ahead");
  const int32_t* k = checked_shape<const int32_t>(top_k, {count}, "top_k");
  const double* share = checked_shape<const double>(top_p, {count}, "top_p");
  py::array_t<unsigned char> bytes({count, static_cast<long>(sizeof(StreamDrawing))});
  for (long s = 0; s < count; ++s) {
    const SamplerSettings sampler = checked_settings(k[s], share[s]);
    const StreamDrawing one = {seed[s],       later[s],          number[s],
                               sampler.top_k, sampler.use_top_p, sampler.top_p_fraction};
    std::memcpy(bytes.mutable_data(s, 0), &one, sizeof(one));
  }
  return bytes;
}

std::map<std::string, uint64_t> sizes(const Kernel& kernel) {
  const std::string bytes = kernel.constant("srnn_sizes");
  uint64_t size[kSizes] = {};
  std::memcpy(size, bytes.data(), std::min(bytes.size(), sizeof(size)));
  if (size[kSizeOfParams] != sizeof(Params)) {
    throw cuda::Error("the kernel takes " + std::to_string(size[kSizeOfParams]) +
                      " bytes of parameters, the host has " + std::to_string(sizeof(Params)) +
                      "; install the package again");
  }
  return {{"weights", size[kWeightBytes]},  {"workspace", size[kWorkspaceBytes]},
          {"shared", size[kSharedBytes]},   {"resident", size[kResidentBytes]},
          {"profile", size[kProfileBytes]}, {"first_look", size[kFirstLookTicks]}};
}

std::map<std::string, int64_t> error_words(const std::string& bytes) {
  uint32_t word[kErrorWords] = {};
  std::memcpy(word, bytes.data(), std::min(bytes.size(), sizeof(word)));
  return {{"code", word[kErrorCode]},
          {"block", word[kErrorBlock]},
          {"place", word[kErrorPlace]},
          {"sequence", word[kErrorSequence]},
          {"step", static_cast<int32_t>(word[kErrorStep])}};
}

cuda::StreamHandle cuda_stream_of(uintptr_t number) {
  return reinterpret_cast<cuda::StreamHandle>(number);
}

py::tuple compile(const Nvrtc& nvrtc, const std::string& name, const std::string& text,
                  const std::map<std::string, std::string>& headers,
                  const std::vector<std::string>& options) {
  cuda::Compiled compiled;
  {
    py::gil_scoped_release no_gil;
    compiled = nvrtc.compile({name, text, headers}, options);
  }
  return py::make_tuple(py::bytes(compiled.cubin), compiled.log);
}

void bind_nvrtc(py::module_& m) {
  py::class_<Nvrtc>(m, "Nvrtc", "CUDA's run-time compiler, opened from a file.")
      .def(py::init<const std::string&>(), py::arg("path"), NoGil())
      .def_property_readonly("path", &Nvrtc::path)
      .def_property_readonly(
          "version", [](const Nvrtc& nvrtc) { return std::pair(nvrtc.major(), nvrtc.minor()); })
      .def("archs", &Nvrtc::archs, "Compute capabilities that it compiles for; 80 is sm_80.")
      .def(
          "compile", &compile, py::arg("name"), py::arg("text"), py::arg("headers"),
          py::arg("options"),
          "Returns machine code and the compiler's log. headers: name in #include -> text; options "
          "must contain --gpu-architecture=sm_XX.");
}

void bind_device(py::module_& m) {
  py::class_<Driver, std::shared_ptr<Driver>>(m, "CudaDriver", "The driver's library.")
      .def(py::init<const std::string&>(), py::arg("path") = "", NoGil(),
           "path: the file of libcuda; '' is the system's.")
      .def_property_readonly("path", &Driver::path)
      .def_property_readonly("version", &Driver::version, "13020 is CUDA 13.2.");
  const auto number = [](cuda::DeviceAttribute attribute) {
    return [attribute](const Device& device) { return device.attribute(attribute); };
  };
  py::class_<Device, std::shared_ptr<Device>>(m, "CudaDevice", "A GPU's primary context.")
      .def(py::init<std::shared_ptr<Driver>, int>(), py::arg("driver"), py::arg("ordinal"), NoGil())
      .def_property_readonly("name", &Device::name)
      .def_property_readonly("capability",
                             [](const Device& device) {
                               return std::pair(device.attribute(cuda::kCapabilityMajor),
                                                device.attribute(cuda::kCapabilityMinor));
                             })
      .def_property_readonly("multiprocessors", number(cuda::kMultiprocessors))
      .def_property_readonly("shared_bytes", number(cuda::kSharedBytesPerBlock),
                             "Limit of the shared memory that a block may ask for, in bytes.")
      .def_property_readonly("cooperative", number(cuda::kCooperativeLaunch))
      .def_property_readonly("clusters", number(cuda::kClusterLaunch),
                             "Whether blocks can be launched in clusters.")
      .def_property_readonly("run_time_limit", number(cuda::kRunTimeLimit),
                             "Whether the system ends kernels that run for seconds.")
      .def(
          "clear",
          [](const Device& device, uintptr_t pointer, size_t bytes, uintptr_t cuda_stream) {
            device.clear(pointer, bytes, cuda_stream_of(cuda_stream));
          },
          py::arg("pointer"), py::arg("bytes"), py::arg("cuda_stream"), NoGil(),
          "Queues a fill of device memory with zeros.");
}

void bind_kernel(py::module_& m) {
  py::class_<Kernel, std::shared_ptr<Kernel>>(m, "CudaKernel",
                                              "A function of a cubin, loaded on a device.")
      .def(py::init<std::shared_ptr<Device>, const std::string&, const std::string&>(),
           py::arg("device"), py::arg("cubin"), py::arg("name"), NoGil())
      .def(py::init<const Kernel&, const std::string&>(), py::arg("other"), py::arg("name"),
           NoGil(), "Another function of the same cubin.")
      .def_property_readonly(
          "registers", [](const Kernel& kernel) { return kernel.attribute(cuda::kRegisters); })
      .def_property_readonly("sizes", &sizes,
                             "Sizes of the buffers in bytes; see csrc/cuda/params.h.")
      .def(
          "blocks_per_multiprocessor",
          [](Kernel& kernel, unsigned threads, unsigned shared_bytes) {
            return kernel.blocks_per_multiprocessor({1, threads, shared_bytes, false, 1});
          },
          py::arg("threads"), py::arg("shared_bytes"), NoGil(),
          "Blocks that one multiprocessor holds at a time; allows the kernel that much memory.")
      .def(
          "active_clusters",
          [](Kernel& kernel, unsigned cluster, unsigned threads, unsigned shared_bytes) {
            return kernel.active_clusters({cluster, threads, shared_bytes, false, cluster});
          },
          py::arg("cluster"), py::arg("threads"), py::arg("shared_bytes"), NoGil(),
          "Clusters of that size that the GPU holds at a time; allows the kernel to have them.")
      .def(
          "launch",
          [](const Kernel& kernel, unsigned blocks, unsigned threads, unsigned shared_bytes,
             bool cooperative, uintptr_t cuda_stream, const std::vector<std::string>& arguments,
             unsigned cluster) {
            kernel.launch({blocks, threads, shared_bytes, cooperative, cluster},
                          cuda_stream_of(cuda_stream), arguments);
          },
          py::arg("blocks"), py::arg("threads"), py::arg("shared_bytes"), py::arg("cooperative"),
          py::arg("cuda_stream"), py::arg("arguments"), py::arg("cluster") = 1, NoGil(),
          "Queues a launch and returns. arguments: the bytes of each parameter; "
          "cluster: blocks of a thread block cluster, 1 for none.");
}

// One launch: the index of a kernel, tier, layer, and whether it begins a sample.
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

  void launch(unsigned blocks, unsigned threads, unsigned shared_bytes, uintptr_t cuda_stream,
              const std::string& params, int64_t t, int32_t steps) const {
    if (params.size() != sizeof(Params) || t < 0) {
      throw std::invalid_argument(
          "CudaStages: params must be of cuda_params and t 0 or more, got " +
          std::to_string(params.size()) + " bytes and " + std::to_string(t));
    }
    cuda::launch_stages(lists_, {blocks, threads, shared_bytes, false}, cuda_stream_of(cuda_stream),
                        params, t, steps);
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

void bind_stages(py::module_& m) {
  py::class_<Stages>(m, "CudaStages", "The lists of launches of a walk; see stages.Walk.")
      .def(py::init<const std::vector<std::shared_ptr<Kernel>>&, const std::vector<Row>&,
                    const std::vector<std::vector<Row>>&, const std::vector<Row>&>(),
           py::arg("kernels"), py::arg("before"), py::arg("period"), py::arg("after"),
           "A launch is (index of a kernel, tier, layer, whether it begins a sample).")
      .def("launch", &Stages::launch, py::arg("blocks"), py::arg("threads"),
           py::arg("shared_bytes"), py::arg("cuda_stream"), py::arg("params"), py::arg("t"),
           py::arg("steps"), NoGil(),
           "Queues all stages of `steps` samples from time t on, and returns.");
}

void bind_readback(py::module_& m) {
  py::class_<Readback>(m, "CudaReadback", "Copies results to the host while the GPU goes on.")
      .def(py::init<std::shared_ptr<Device>, size_t>(), py::arg("device"), py::arg("bytes"),
           NoGil())
      .def_property_readonly("bytes", &Readback::bytes, "Limit of a copy, in bytes.")
      .def(
          "start",
          [](Readback& readback, uintptr_t from, size_t bytes, uintptr_t cuda_stream) {
            if (bytes > readback.bytes())
              throw std::invalid_argument("CudaReadback: too many bytes");
            readback.start(from, bytes, cuda_stream_of(cuda_stream));
          },
          py::arg("from_pointer"), py::arg("bytes"), py::arg("cuda_stream"), NoGil(),
          "Queues a copy and returns.")
      .def(
          "wait",
          [](const Readback& readback, size_t bytes) {
            const void* memory;
            {
              py::gil_scoped_release no_gil;
              memory = readback.wait();
            }
            return py::bytes(static_cast<const char*>(memory), std::min(bytes, readback.bytes()));
          },
          py::arg("bytes"), "Waits for the copy and returns its first bytes.");
}

void bind_params(py::module_& m) {
  m.def("cuda_params", &params, py::kw_only(), py::arg("weights"), py::arg("hidden"),
        py::arg("new_hidden"), py::arg("history"), py::arg("forced"), py::arg("levels"),
        py::arg("logits"), py::arg("temperature"), py::arg("drawings"), py::arg("workspace"),
        py::arg("error"), py::arg("profile"), py::arg("first_look"), py::arg("time_limit"),
        py::arg("t"), py::arg("steps"),
        "The kernels' argument, Params of csrc/cuda/params.h; 0 is no array.");
  m.def("cuda_drawings", &drawings, py::arg("seeds"), py::arg("streams"), py::arg("ahead"),
        py::arg("top_k"), py::arg("top_p"),
        "The rows of Params::drawings, (B, bytes) uint8, from arrays (B,): seeds uint64, streams\n"
        "uint32, ahead int64, top_k int32 with 0 for off, top_p float64 with 1 for off.");
  m.def("cuda_error", &error_words, py::arg("words"),
        "The error words of a launch by their names; code 0 is no error.");
  m.attr("CUDA_ERROR_BYTES") = kErrorWords * sizeof(uint32_t);
  m.attr("CUDA_TIMED_OUT") = static_cast<int>(kTimedOut);
  m.attr("CUDA_NOT_FINITE") = static_cast<int>(kNotFinite);
}

}  // namespace

inline void bind_cuda(py::module_& m) {
  const auto& error = py::register_exception<cuda::Error>(m, "CudaError", PyExc_RuntimeError);
  py::register_exception<cuda::TooLarge>(m, "CudaTooLargeError", error.ptr());
  bind_nvrtc(m);
  bind_device(m);
  bind_kernel(m);
  bind_stages(m);
  bind_readback(m);
  bind_params(m);
}

}  // namespace srnn
