#include "driver.h"

#include <array>

namespace srnn::cuda {

namespace {

// Tells the user what to do about an error of the driver.
const char* advice(Result error) {
  switch (error) {
    case 2:
      return "free memory of the GPU or make fewer streams at once";
    case 3:
      return "a forked process cannot use CUDA: start processes by spawn";
    case 34:
      return "this libcuda is a stub for linking: install the NVIDIA driver";
    case 35:
    case 36:
    case 209:
    case 218:
    case 222:
      return "the driver and the compiled kernel do not fit: update the NVIDIA driver";
    case 46:
    case 802:
    case 805:
      return "the GPU is not ready or held by another process: see nvidia-smi";
    case 100:
    case 101:
      return "no such GPU is visible: see nvidia-smi and CUDA_VISIBLE_DEVICES";
    case 701:
    case kCooperativeLaunchTooLarge:
      return "the kernel does not fit on what is free of the GPU: use another backend";
    case 803:
    case 804:
      return "the driver's library and kernel module differ: restart the machine";
    case 700:
    case 702:
    case 710:
    case 714:
    case 715:
    case 716:
    case 717:
    case 718:
    case 719:
      return "the process must be started again before it can use the GPU; please report this";
    default:
      return "see nvidia-smi, or use another backend";
  }
}

using Attributes = std::array<LaunchAttribute, 2>;

// The launch configuration for a shape. It points into `attributes`, which must outlive it.
LaunchConfig configuration(const Shape& shape, StreamHandle cuda_stream, Attributes& attributes) {
  attributes = {};
  unsigned count = 0;
  if (shape.cooperative) {
    attributes[count].id = kCooperative;
    attributes[count++].value.cooperative = 1;
  }
  if (shape.cluster > 1) {
    attributes[count].id = kClusterDimension;
    attributes[count++].value.cluster = {shape.cluster, 1, 1};
  }
  return {shape.blocks,      1,    1, shape.threads, 1, 1, shape.shared_bytes, cuda_stream,
          attributes.data(), count};
}

}  // namespace

Driver::Driver(const std::string& path)
    : library_(path.empty() ? "libcuda.so.1" : path, "; install the NVIDIA driver") {
#define SRNN_CUDA_FIND(function, parameters) library_.find(api_.function, #function);
  SRNN_CUDA_DRIVER_CALLS(SRNN_CUDA_FIND)
#undef SRNN_CUDA_FIND
  check(api_.cuInit(0), "cuInit");
  check(api_.cuDriverGetVersion(&version_), "cuDriverGetVersion");
}

void Driver::check(Result result, const char* call) const {
  if (result == 0) return;
  const char* name = nullptr;
  const char* text = nullptr;
  if (api_.cuGetErrorName(result, &name) != 0 || name == nullptr) name = "unknown error";
  if (api_.cuGetErrorString(result, &text) != 0 || text == nullptr) text = "no description";
  const std::string message = std::string(call) + " failed: " + name + " (" +
                              std::to_string(result) + "), " + text + "; " + advice(result);
  if (result == kCooperativeLaunchTooLarge) throw TooLarge(message);
  throw Error(message);
}

Device::Device(std::shared_ptr<Driver> driver, int ordinal) : driver_(std::move(driver)) {
  driver_->check(driver_->api().cuDeviceGet(&id_, ordinal), "cuDeviceGet");
}

Device::~Device() {
  if (context_ != nullptr) driver_->api().cuDevicePrimaryCtxRelease_v2(id_);
}

ContextHandle Device::context() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (context_ == nullptr) {
    driver_->check(driver_->api().cuDevicePrimaryCtxRetain(&context_, id_),
                   "cuDevicePrimaryCtxRetain");
  }
  return context_;
}

int Device::attribute(DeviceAttribute attribute) const {
  int value = 0;
  driver_->check(driver_->api().cuDeviceGetAttribute(&value, attribute, id_),
                 "cuDeviceGetAttribute");
  return value;
}

std::string Device::name() const {
  char text[256] = "";
  driver_->check(driver_->api().cuDeviceGetName(text, sizeof(text), id_), "cuDeviceGetName");
  return text;
}

void Device::clear(DevicePointer to, size_t bytes, StreamHandle cuda_stream) const {
  if (bytes == 0) return;  // an empty array has no address
  const CurrentContext current(*this);
  driver_->check(driver_->api().cuMemsetD8Async(to, 0, bytes, cuda_stream), "cuMemsetD8Async");
}

CurrentContext::CurrentContext(const Device& device) : device_(device) {
  const Driver& driver = device.driver();
  driver.check(driver.api().cuCtxPushCurrent_v2(device.context()), "cuCtxPushCurrent");
}

CurrentContext::~CurrentContext() {
  ContextHandle popped = nullptr;
  device_.driver().api().cuCtxPopCurrent_v2(&popped);
}

Module::Module(std::shared_ptr<Device> device, const std::string& cubin)
    : device_(std::move(device)) {
  const CurrentContext current(*device_);
  const Driver& driver = device_->driver();
  driver.check(driver.api().cuModuleLoadData(&handle_, cubin.data()), "cuModuleLoadData");
}

Module::~Module() {
  // At the end of the process the driver may already be gone. Then there is nothing left to free.
  const DriverApi& api = device_->driver().api();
  try {
    const CurrentContext current(*device_);
    api.cuModuleUnload(handle_);
  } catch (const Error&) {
  }
}

Kernel::Kernel(std::shared_ptr<Device> device, const std::string& cubin, const std::string& name)
    : Kernel(std::make_shared<Module>(std::move(device), cubin), name) {}

Kernel::Kernel(const Kernel& other, const std::string& name) : Kernel(other.module_, name) {}

Kernel::Kernel(std::shared_ptr<Module> module, const std::string& name)
    : module_(std::move(module)) {
  const CurrentContext current(device());
  const Driver& driver = device().driver();
  driver.check(driver.api().cuModuleGetFunction(&function_, module_->handle(), name.c_str()),
               "cuModuleGetFunction");
}

int Kernel::attribute(FunctionAttribute attribute) const {
  int value = 0;
  const Driver& driver = device().driver();
  const CurrentContext current(device());
  driver.check(driver.api().cuFuncGetAttribute(&value, attribute, function_), "cuFuncGetAttribute");
  return value;
}

std::string Kernel::constant(const std::string& name) const {
  const Driver& driver = device().driver();
  const CurrentContext current(device());
  DevicePointer pointer = 0;
  size_t bytes = 0;
  driver.check(driver.api().cuModuleGetGlobal_v2(&pointer, &bytes, module_->handle(), name.c_str()),
               "cuModuleGetGlobal");
  std::string value(bytes, '\0');
  driver.check(driver.api().cuMemcpyDtoH_v2(&value[0], pointer, bytes), "cuMemcpyDtoH");
  return value;
}

void Kernel::allow(FunctionAttribute attribute, int value) {
  const Driver& driver = device().driver();
  driver.check(driver.api().cuFuncSetAttribute(function_, attribute, value), "cuFuncSetAttribute");
}

int Kernel::blocks_per_multiprocessor(const Shape& shape) {
  const Driver& driver = device().driver();
  const CurrentContext current(device());
  allow(kDynamicSharedBytes, static_cast<int>(shape.shared_bytes));
  int blocks = 0;
  driver.check(driver.api().cuOccupancyMaxActiveBlocksPerMultiprocessor(
                   &blocks, function_, static_cast<int>(shape.threads), shape.shared_bytes),
               "cuOccupancyMaxActiveBlocksPerMultiprocessor");
  return blocks;
}

int Kernel::active_clusters(const Shape& shape) {
  const Driver& driver = device().driver();
  const CurrentContext current(device());
  allow(kDynamicSharedBytes, static_cast<int>(shape.shared_bytes));
  allow(kNonPortableClusterSize, 1);
  Attributes attributes;
  const LaunchConfig config = configuration(shape, nullptr, attributes);
  int clusters = 0;
  const Result result = driver.api().cuOccupancyMaxActiveClusters(&clusters, function_, &config);
  if (result == kInvalidClusterSize) return 0;  // this kind of GPU has no clusters of that size
  driver.check(result, "cuOccupancyMaxActiveClusters");
  return clusters;
}

void Kernel::launch(const Shape& shape, StreamHandle cuda_stream,
                    const std::vector<std::string>& arguments) const {
  std::vector<void*> pointers;
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.data()));  // the driver only reads them
  }
  Attributes attributes;
  const LaunchConfig config = configuration(shape, cuda_stream, attributes);
  const Driver& driver = device().driver();
  const CurrentContext current(device());
  driver.check(driver.api().cuLaunchKernelEx(&config, function_, pointers.data(), nullptr),
               "cuLaunchKernelEx");
}

Readback::Readback(std::shared_ptr<Device> device, size_t bytes)
    : device_(std::move(device)), bytes_(bytes) {
  const Driver& driver = device_->driver();
  const CurrentContext current(*device_);
  driver.check(driver.api().cuMemHostAlloc(&memory_, bytes, 0), "cuMemHostAlloc");
  const Result made = driver.api().cuEventCreate(&event_, kNoTiming);
  if (made != 0) driver.api().cuMemFreeHost(memory_);
  driver.check(made, "cuEventCreate");
}

Readback::~Readback() {
  const DriverApi& api = device_->driver().api();
  try {  // the driver may be gone, as in ~Module
    const CurrentContext current(*device_);
    api.cuEventSynchronize(event_);  // a copy may still write into the memory
    api.cuEventDestroy_v2(event_);
    api.cuMemFreeHost(memory_);
  } catch (const Error&) {
  }
}

void Readback::start(DevicePointer from, size_t bytes, StreamHandle cuda_stream) {
  const Driver& driver = device_->driver();
  const CurrentContext current(*device_);
  driver.check(driver.api().cuMemcpyDtoHAsync_v2(memory_, from, bytes, cuda_stream),
               "cuMemcpyDtoHAsync");
  driver.check(driver.api().cuEventRecord(event_, cuda_stream), "cuEventRecord");
}

const void* Readback::wait() const {
  const Driver& driver = device_->driver();
  const CurrentContext current(*device_);
  driver.check(driver.api().cuEventSynchronize(event_), "cuEventSynchronize");
  return memory_;
}

}  // namespace srnn::cuda
