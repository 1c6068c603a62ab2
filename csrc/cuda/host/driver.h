// The CUDA driver: a GPU's primary context (the one torch uses), modules of machine code, launches.
//
// Every call that fails throws Error with one line. What an object holds in the driver goes with
// the object; a parent lives until its last child has gone.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "driver_api.h"
#include "library.h"

namespace srnn::cuda {

// A cooperative launch that the driver refuses, because its blocks cannot all run at the same time.
class TooLarge : public Error {
 public:
  using Error::Error;
};

class Driver {
 public:
  // path: of libcuda, empty for the system's. Throws Error without a driver or a GPU.
  explicit Driver(const std::string& path);

  const DriverApi& api() const { return api_; }
  const std::string& path() const { return library_.path(); }
  // The newest CUDA that the driver runs: 13020 is 13.2.
  int version() const { return version_; }
  void check(Result result, const char* call) const;

 private:
  Library library_;
  DriverApi api_;
  int version_ = 0;
};

class Device {
 public:
  // ordinal: counted as torch counts its cuda devices. Asking for attributes costs nothing; the
  // context is made, or found where torch made it, when it is first needed.
  Device(std::shared_ptr<Driver> driver, int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Driver& driver() const { return *driver_; }
  int attribute(DeviceAttribute attribute) const;
  std::string name() const;
  // Puts zeros into device memory, in the stream's turn.
  void clear(DevicePointer to, size_t bytes, StreamHandle stream) const;
  // Waits until the stream has done all that was put into it: where a kernel's failure shows.
  void synchronize(StreamHandle stream) const;

 private:
  friend class CurrentContext;
  ContextHandle context() const;

  std::shared_ptr<Driver> driver_;
  DeviceId id_ = 0;
  mutable std::mutex mutex_;
  mutable ContextHandle context_ = nullptr;
};

// Makes a device's context current in this thread, and the one before current again.
class CurrentContext {
 public:
  explicit CurrentContext(const Device& device);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

 private:
  const Device& device_;
};

// How a kernel is started.
struct Shape {
  unsigned blocks = 1, threads = 1, shared_bytes = 0;
  bool cooperative = false;  // all blocks run at the same time, or the launch fails
  unsigned cluster = 1;      // blocks of a cluster, which run at the same time; 1: no clusters
};

// A cubin, loaded into a device's context.
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
  // The function `name` of a cubin.
  Kernel(std::shared_ptr<Device> device, const std::string& cubin, const std::string& name);
  // Another function of the same cubin.
  Kernel(const Kernel& other, const std::string& name);

  const Device& device() const { return module_->device(); }
  int attribute(FunctionAttribute attribute) const;
  // The bytes of a constant that the cubin exports.
  std::string constant(const std::string& name) const;
  // Blocks of this shape that one multiprocessor holds at a time. Raises the kernel's limit of
  // shared memory where the shape needs it.
  int blocks_per_multiprocessor(const Shape& shape);
  // Clusters of this shape that the GPU holds at a time. Allows the kernel that much shared memory
  // and clusters of that size.
  int active_clusters(const Shape& shape);
  // Puts a launch into the stream and returns. arguments: the bytes of each parameter.
  void launch(const Shape& shape, StreamHandle stream,
              const std::vector<std::string>& arguments) const;

 private:
  Kernel(std::shared_ptr<Module> module, const std::string& name);
  // In the context that is current.
  void allow(FunctionAttribute attribute, int value);

  std::shared_ptr<Module> module_;
  FunctionHandle function_ = nullptr;
};

// Copies results to the host while the GPU goes on, into memory that the GPU writes itself.
class Readback {
 public:
  Readback(std::shared_ptr<Device> device, size_t bytes);
  ~Readback();
  Readback(const Readback&) = delete;
  Readback& operator=(const Readback&) = delete;

  size_t bytes() const { return bytes_; }
  // Puts the copy into the stream and returns. The copy before must have been waited for.
  void start(DevicePointer from, size_t bytes, StreamHandle stream);
  // Waits for the copy, and for all that was put into the stream before it.
  const void* wait() const;

 private:
  std::shared_ptr<Device> device_;
  size_t bytes_;
  void* memory_ = nullptr;
  EventHandle event_ = nullptr;
};

}  // namespace srnn::cuda
