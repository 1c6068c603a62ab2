// NVRTC and the CUDA driver for Python: pointers and streams are numbers, arguments are bytes.
#include <pybind11/stl.h>

#include "bindings.h"
#include "cuda/driver.h"
#include "cuda/nvrtc.h"

namespace py = pybind11;

namespace srnn {
namespace {

using cuda::Device, cuda::Driver, cuda::Kernel, cuda::Nvrtc, cuda::Shape;
using NoGil = py::call_guard<py::gil_scoped_release>;

cuda::StreamHandle stream_of(uintptr_t stream) {
  return reinterpret_cast<cuda::StreamHandle>(stream);
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
      .def("archs", &Nvrtc::archs, "Compute capabilities it compiles for: 80 is sm_80.")
      .def("compile", &compile, py::arg("name"), py::arg("text"), py::arg("headers"),
           py::arg("options"),
           "Machine code and the compiler's log. headers: name in #include -> text; options: among "
           "them --gpu-architecture=sm_XX.");
}

void bind_device(py::module_& m) {
  py::class_<Driver, std::shared_ptr<Driver>>(m, "CudaDriver", "The driver's library.")
      .def(py::init<const std::string&>(), py::arg("path") = "", NoGil(),
           "path: of libcuda; '' for the system's.")
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
                             "The most shared memory that a block may ask for.")
      .def_property_readonly("cooperative", number(cuda::kCooperativeLaunch))
      .def_property_readonly("run_time_limit", number(cuda::kRunTimeLimit),
                             "Whether the system ends kernels that run for seconds.")
      .def(
          "synchronize",
          [](const Device& device, uintptr_t stream) { device.synchronize(stream_of(stream)); },
          py::arg("stream"), NoGil(), "Wait for all that was put into the stream.");
}

void bind_kernel(py::module_& m) {
  const auto number = [](cuda::FunctionAttribute attribute) {
    return [attribute](const Kernel& kernel) { return kernel.attribute(attribute); };
  };
  py::class_<Kernel>(m, "CudaKernel", "A function of a cubin, loaded on a device.")
      .def(py::init<std::shared_ptr<Device>, const std::string&, const std::string&>(),
           py::arg("device"), py::arg("cubin"), py::arg("name"), NoGil())
      .def_property_readonly("registers", number(cuda::kRegisters))
      .def_property_readonly("local_bytes", number(cuda::kLocalBytes))
      .def_property_readonly("static_shared_bytes", number(cuda::kStaticSharedBytes))
      .def_property_readonly("max_threads", number(cuda::kMaxThreads))
      .def(
          "blocks_per_multiprocessor",
          [](Kernel& kernel, unsigned threads, unsigned shared_bytes) {
            return kernel.blocks_per_multiprocessor({1, threads, shared_bytes, false});
          },
          py::arg("threads"), py::arg("shared_bytes"), NoGil(),
          "Blocks that one multiprocessor holds at a time; allows the kernel that much memory.")
      .def(
          "launch",
          [](const Kernel& kernel, unsigned blocks, unsigned threads, unsigned shared_bytes,
             bool cooperative, uintptr_t stream, const std::vector<std::string>& arguments) {
            kernel.launch({blocks, threads, shared_bytes, cooperative}, stream_of(stream),
                          arguments);
          },
          py::arg("blocks"), py::arg("threads"), py::arg("shared_bytes"), py::arg("cooperative"),
          py::arg("stream"), py::arg("arguments"), NoGil(),
          "Put a launch into the stream and return; arguments: the bytes of each parameter.");
}

}  // namespace

void bind_cuda(py::module_& m) {
  py::register_exception<cuda::Error>(m, "CudaError", PyExc_RuntimeError);
  bind_nvrtc(m);
  bind_device(m);
  bind_kernel(m);
}

}  // namespace srnn
