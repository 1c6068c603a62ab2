// The CUDA driver: a GPU's primary context (which torch uses too), machine code, and launches.
//
// Every function throws Error when a call of the driver fails. An object frees what it holds in the
// driver, and it keeps alive the objects that it was made from.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "driver_api.h"
#include "library.h"

namespace srnn::cuda {

// The driver refuses a cooperative launch, because its blocks cannot all run at the same time.
class TooLarge : public Error {
 public:
  using Error::Error;
};

class Driver {
 public:
  // path: the file of libcuda; if it is empty, the system's is opened. Throws Error without a
  // driver or a GPU.
  explicit Driver(const std::string& path);

  const DriverApi& api() const { return api_; }
  const std::string& path() const { return library_.path(); }
  // The newest CUDA version that the driver supports; 13020 is 13.2.
  int version() const { return version_; }
  void check(Result result, const char* call) const;

 private:
  Library library_;
  DriverApi api_;
  int version_ = 0;
};

class Device {
 public:
  // ordinal: number of the GPU, as torch counts its cuda devices. Reading attributes needs no
  // context. The first function that needs one creates it, or joins the one that torch has created.
  Device(std::shared_ptr<Driver> driver, int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Driver& driver() const { return *driver_; }
  int attribute(DeviceAttribute attribute) const;
  std::string name() const;
  // Queues a fill of device memory with zeros.
  void clear(DevicePointer to, size_t bytes, StreamHandle cuda_stream) const;

 private:
  friend class CurrentContext;
  ContextHandle context() const;

  std::shared_ptr<Driver> driver_;
  DeviceId id_ = 0;
  mutable std::mutex mutex_;
  mutable ContextHandle context_ = nullptr;
};

// Makes a device's context current in this thread. The destructor restores the one before.
class CurrentContext {
 public:
  explicit CurrentContext(const Device& device);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

 private:
  const Device& device_;
};

// The grid of a launch.
struct Shape {
  unsigned blocks = 1, threads = 1, shared_bytes = 0;
  bool cooperative = false;  // true: all blocks run at the same time, or the launch fails
  unsigned cluster = 1;      // blocks of a thread block cluster; 1: there are no clusters
};

// A cubin that is loaded into a device's context.
class Module {
 public:
  Module(std::shared_ptr<Device> device, const std::string& cubin);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  const Device& device() const { return *device_; }
  ModuleHandle handle() const { return handle_; }

 private:
  std::shared_ptr<Device> device_;
  ModuleHandle handle_ = nullptr;
};

class Kernel {
 public:
  // Loads a cubin and finds its function `name`.
  Kernel(std::shared_ptr<Device> device, const std::string& cubin, const std::string& name);
  // Finds another function of the same cubin.
  Kernel(const Kernel& other, const std::string& name);

  const Device& device() const { return module_->device(); }
  int attribute(FunctionAttribute attribute) const;
  // Returns the bytes of a constant that the cubin exports.
  std::string constant(const std::string& name) const;
  // Returns how many blocks of this shape one multiprocessor holds at a time. Sets the kernel's
  // limit of dynamic shared memory to what the shape needs.
  int blocks_per_multiprocessor(const Shape& shape);
  // Returns how many clusters of this shape the GPU holds at a time. Sets the kernel's limit of
  // dynamic shared memory, and allows clusters of that size.
  int active_clusters(const Shape& shape);
  // Queues a launch and returns. arguments: the bytes of each parameter.
  void launch(const Shape& shape, StreamHandle cuda_stream,
              const std::vector<std::string>& arguments) const;

 private:
  Kernel(std::shared_ptr<Module> module, const std::string& name);
  // Sets an attribute of the kernel. The context must be current.
  void allow(FunctionAttribute attribute, int value);

  std::shared_ptr<Module> module_;
  FunctionHandle function_ = nullptr;
};

// Copies results into pinned host memory while the GPU goes on.
class Readback {
 public:
  Readback(std::shared_ptr<Device> device, size_t bytes);
  ~Readback();
  Readback(const Readback&) = delete;
  Readback& operator=(const Readback&) = delete;

  size_t bytes() const { return bytes_; }
  // Queues a copy and returns. The caller has waited for the copy before.
  void start(DevicePointer from, size_t bytes, StreamHandle cuda_stream);
  // Waits for the copy, and so for everything queued before it. Returns the host memory.
  const void* wait() const;

 private:
  std::shared_ptr<Device> device_;
  size_t bytes_;
  void* memory_ = nullptr;
  EventHandle event_ = nullptr;
};

}  // namespace srnn::cuda
