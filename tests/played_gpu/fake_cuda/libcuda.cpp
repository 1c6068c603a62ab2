// A stand-in for libcuda.so: the functions of csrc/cuda/host/driver_api.h on the CPU. It counts the
// objects that are held, records every call, and fails when a test tells it to. Device memory is
// host memory.
//
// A module is an ELF file. A module for GPUs has every function whose name occurs in it, and
// launches of them do nothing. A module for this machine is loaded, and a launch calls its function
// `extern "C" const char* <name>(void** arguments, const LaunchConfig* config)`, which returns null
// or an error.
#include <dlfcn.h>
#include <elf.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "cuda/host/driver_api.h"

namespace api = srnn::cuda;

namespace srnn::cuda {
struct ContextObject {};
struct EventObject {};
struct FunctionObject {
  ModuleObject* module;
  std::string name;
  int dynamic_shared_bytes;
  bool any_cluster_size;
};
struct ModuleObject {
  void* library;  // null for a module for GPUs
  std::string image;
  std::deque<FunctionObject> functions;
};
}  // namespace srnn::cuda

namespace {

struct Failure {
  int error, after;
};

std::mutex mutex;
std::ostringstream calls;
std::map<std::string, Failure> failures;
std::map<int, int> device_attributes;
int version, registers, most_threads, blocks_per_multiprocessor, held_by_others, largest_cluster,
    most_clusters, side_by_side;
int contexts, modules, host_memory, events;
api::ContextObject primary;
thread_local std::vector<api::ContextObject*> stack;

constexpr int kInvalidValue = 1, kNoDevice = 101, kInvalidImage = 200, kNoContext = 201,
              kNotFound = 500, kLaunchFailed = 719, kTooLarge = 720;

// Records a call and returns its result.
int enter(const char* call, bool needs_context = false) {
  const std::lock_guard<std::mutex> lock(mutex);
  calls << call << '\n';
  const auto found = failures.find(call);
  if (found != failures.end() && found->second.after-- <= 0) return found->second.error;
  return needs_context && stack.empty() ? kNoContext : 0;
}

size_t elf_bytes(const void* image) {
  const auto* header = static_cast<const Elf64_Ehdr*>(image);
  if (std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return 0;
  return header->e_shoff + size_t{header->e_shnum} * header->e_shentsize;
}

// Loads a library from a file with a new name, because dlopen recognizes libraries by their names.
void* load(const std::string& image) {
  char path[] = "/tmp/fake-kernel-XXXXXX";
  const int file = mkstemp(path);
  void* library = nullptr;
  if (write(file, image.data(), image.size()) == static_cast<ssize_t>(image.size())) {
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) std::fprintf(stderr, "%s\n", dlerror());
  }
  close(file);
  unlink(path);
  return library;
}

}  // namespace

extern "C" {

// Returns to the state at the start: nothing is held, nothing fails.
void fake_reset() {
  contexts = modules = host_memory = events = 0;
  stack.clear();
  calls.str("");
  failures.clear();
  device_attributes = {{api::kMultiprocessors, 4},   {api::kRunTimeLimit, 0},
                       {api::kCapabilityMajor, 9},   {api::kCapabilityMinor, 0},
                       {api::kCooperativeLaunch, 1}, {api::kSharedBytesPerBlock, 232448},
                       {api::kClusterLaunch, 1}};
  registers = 64, most_threads = 1024;
  version = 13000;
  blocks_per_multiprocessor = 1;
  largest_cluster = 16, most_clusters = 1000, side_by_side = 1 << 20;
  held_by_others = 0;
}

// Makes `call` return `error` after it has succeeded `after` more times.
void fake_fail(const char* call, int error, int after) { failures[call] = {error, after}; }
void fake_succeed() { failures.clear(); }
void fake_forget_calls() { calls.str(""); }
void fake_set_version(int value) { version = value; }
void fake_set_blocks(int value) { blocks_per_multiprocessor = value; }
// Sets the blocks of the largest cluster, the limit of clusters at a time, and how many
// multiprocessors lie side by side. A cluster needs neighbours, so fewer clusters may fit than all
// multiprocessors together have room for.
void fake_set_clusters(int largest, int most, int together) {
  largest_cluster = largest, most_clusters = most, side_by_side = together;
}
// Sets how many blocks of other programs take up room that a cooperative launch cannot have.
void fake_set_held_by_others(int value) { held_by_others = value; }
void fake_set_device(int attribute, int value) { device_attributes[attribute] = value; }
// Sets the registers of a thread of every kernel, and the largest number of threads of its blocks.
void fake_set_kernel(int each, int threads) { registers = each, most_threads = threads; }

const char* fake_calls() {
  static std::string text;
  text = calls.str();
  return text.c_str();
}

// Returns the number of objects that are held; 0 if nothing leaks.
int fake_held() {
  return contexts + modules + host_memory + events + static_cast<int>(stack.size());
}

int cuInit(unsigned) { return enter("cuInit"); }

int cuDriverGetVersion(int* value) {
  *value = version;
  return enter("cuDriverGetVersion");
}

int cuGetErrorName(int error, const char** name) {
  static const std::map<int, const char*> names = {
      {2, "CUDA_ERROR_OUT_OF_MEMORY"},
      {100, "CUDA_ERROR_NO_DEVICE"},
      {200, "CUDA_ERROR_INVALID_IMAGE"},
      {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
      {500, "CUDA_ERROR_NOT_FOUND"},
      {719, "CUDA_ERROR_LAUNCH_FAILED"},
      {720, "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE"}};
  const auto found = names.find(error);
  *name = found == names.end() ? nullptr : found->second;
  return *name == nullptr ? kInvalidValue : 0;
}

int cuGetErrorString(int error, const char** text) {
  *text = error == 2 ? "out of memory" : nullptr;
  return *text == nullptr ? kInvalidValue : 0;
}

int cuDeviceGet(api::DeviceId* device, int ordinal) {
  *device = ordinal;
  const int result = enter("cuDeviceGet");
  return result == 0 && ordinal != 0 ? kNoDevice : result;
}

int cuDeviceGetName(char* name, int length, api::DeviceId) {
  std::strncpy(name, "Fake GPU", length);
  return enter("cuDeviceGetName");
}

int cuDeviceGetAttribute(int* value, api::DeviceAttribute attribute, api::DeviceId) {
  *value = device_attributes.at(attribute);
  return enter("cuDeviceGetAttribute");
}

int cuDevicePrimaryCtxRetain(api::ContextHandle* context, api::DeviceId) {
  const int result = enter("cuDevicePrimaryCtxRetain");
  if (result == 0) ++contexts, *context = &primary;
  return result;
}

int cuDevicePrimaryCtxRelease_v2(api::DeviceId) {
  --contexts;
  return enter("cuDevicePrimaryCtxRelease");
}

int cuCtxPushCurrent_v2(api::ContextHandle context) {
  const int result = enter("cuCtxPushCurrent");
  if (result == 0) stack.push_back(context);
  return result;
}

int cuCtxPopCurrent_v2(api::ContextHandle* context) {
  *context = stack.back();
  stack.pop_back();
  return enter("cuCtxPopCurrent");
}

int cuModuleLoadData(api::ModuleHandle* module, const void* image) {
  if (const int result = enter("cuModuleLoadData", true)) return result;
  const std::string file(static_cast<const char*>(image), elf_bytes(image));
  if (file.empty()) return kInvalidImage;
  void* library = nullptr;
  if (reinterpret_cast<const Elf64_Ehdr*>(file.data())->e_machine != EM_CUDA) {
    library = load(file);
    if (library == nullptr) return kInvalidImage;
  }
  ++modules;
  *module = new api::ModuleObject{library, file, {}};
  return 0;
}

int cuModuleUnload(api::ModuleHandle module) {
  const int result = enter("cuModuleUnload", true);
  if (result != 0) return result;
  if (module->library != nullptr) dlclose(module->library);
  delete module;
  --modules;
  return 0;
}

int cuModuleGetFunction(api::FunctionHandle* function, api::ModuleHandle module, const char* name) {
  if (const int result = enter("cuModuleGetFunction", true)) return result;
  const bool found = module->library != nullptr ? dlsym(module->library, name) != nullptr
                                                : module->image.find(name) != std::string::npos;
  if (!found) return kNotFound;
  module->functions.push_back({module, name, 0, false});
  *function = &module->functions.back();
  return 0;
}

int cuModuleGetGlobal_v2(api::DevicePointer* pointer, size_t* bytes, api::ModuleHandle module,
                         const char* name) {
  if (const int result = enter("cuModuleGetGlobal", true)) return result;
  void* found = module->library != nullptr ? dlsym(module->library, name) : nullptr;
  const Elf64_Sym* symbol = nullptr;
  Dl_info info;
  if (found == nullptr ||
      dladdr1(found, &info, const_cast<void**>(reinterpret_cast<const void**>(&symbol)),
              RTLD_DL_SYMENT) == 0) {
    return kNotFound;
  }
  *pointer = reinterpret_cast<api::DevicePointer>(found);
  *bytes = symbol->st_size;
  return 0;
}

int cuFuncGetAttribute(int* value, api::FunctionAttribute attribute, api::FunctionHandle) {
  if (attribute != api::kRegisters) return kInvalidValue;
  *value = registers;
  return enter("cuFuncGetAttribute", true);
}

int cuFuncSetAttribute(api::FunctionHandle function, api::FunctionAttribute attribute, int value) {
  if (const int result = enter("cuFuncSetAttribute", true)) return result;
  if (attribute == api::kNonPortableClusterSize) {
    function->any_cluster_size = value != 0;
    return 0;
  }
  if (attribute != api::kDynamicSharedBytes || value > device_attributes[api::kSharedBytesPerBlock])
    return kInvalidValue;
  function->dynamic_shared_bytes = value;
  return 0;
}

int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, api::FunctionHandle function,
                                                int threads, size_t bytes) {
  *blocks = threads <= most_threads && bytes <= static_cast<size_t>(function->dynamic_shared_bytes)
                ? blocks_per_multiprocessor
                : 0;
  return enter("cuOccupancyMaxActiveBlocksPerMultiprocessor", true);
}

// Returns how many clusters of a launch fit at a time, or -1 if a GPU would refuse these clusters.
static int room_for_clusters(const api::LaunchConfig* config, api::FunctionHandle function,
                             const api::Dimension& cluster) {
  const int size = static_cast<int>(cluster.x);
  if (!device_attributes[api::kClusterLaunch] || size < 2 || cluster.y != 1 || cluster.z != 1 ||
      config->grid_x % cluster.x != 0 || size > (function->any_cluster_size ? 16 : 8)) {
    return -1;
  }
  const int all = device_attributes[api::kMultiprocessors];
  const int together = all < side_by_side ? all : side_by_side;
  const int room = all / together * (together * blocks_per_multiprocessor / size);
  return size > largest_cluster ? 0 : room < most_clusters ? room : most_clusters;
}

int cuOccupancyMaxActiveClusters(int* clusters, api::FunctionHandle function,
                                 const api::LaunchConfig* config) {
  if (const int result = enter("cuOccupancyMaxActiveClusters", true)) return result;
  if (config->attribute_count != 1 || config->attributes[0].id != api::kClusterDimension ||
      config->shared_bytes > static_cast<unsigned>(function->dynamic_shared_bytes)) {
    return kInvalidValue;
  }
  *clusters = room_for_clusters(config, function, config->attributes[0].value.cluster);
  return *clusters < 0 ? api::kInvalidClusterSize : 0;
}

int cuLaunchKernelEx(const api::LaunchConfig* config, api::FunctionHandle function,
                     void** arguments, void** extra) {
  if (const int result = enter("cuLaunchKernelEx", true)) return result;
  if (extra != nullptr || config->block_x == 0 ||
      config->grid_y * config->grid_z * config->block_y * config->block_z != 1 ||
      config->shared_bytes > static_cast<unsigned>(function->dynamic_shared_bytes)) {
    return kInvalidValue;
  }
  for (unsigned i = 0; i < config->attribute_count; ++i) {
    const api::LaunchAttribute& attribute = config->attributes[i];
    if (attribute.id == api::kClusterDimension) {
      const int room = room_for_clusters(config, function, attribute.value.cluster);
      calls << "clusters:" << attribute.value.cluster.x << '\n';
      if (room <= 0) return api::kInvalidClusterSize;
      continue;
    }
    if (attribute.id != api::kCooperative || attribute.value.cooperative != 1) return kInvalidValue;
    const int room =
        device_attributes[api::kMultiprocessors] * blocks_per_multiprocessor - held_by_others;
    if (static_cast<int>(config->grid_x) > room) return kTooLarge;
    calls << "cooperative\n";
  }
  if (function->module->library == nullptr) return 0;
  using Run = const char*(void**, const api::LaunchConfig*);
  void* run = dlsym(function->module->library, function->name.c_str());
  static std::mutex one_kernel;  // a kernel has the whole GPU for itself
  const std::lock_guard<std::mutex> lock(one_kernel);
  const char* problem = reinterpret_cast<Run*>(run)(arguments, config);
  if (problem != nullptr) std::fprintf(stderr, "%s: %s\n", function->name.c_str(), problem);
  return problem == nullptr ? 0 : kLaunchFailed;
}

int cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  const int result = enter("cuMemHostAlloc", true);
  if (result == 0) ++host_memory, *pointer = std::malloc(bytes);
  return result;
}

int cuMemFreeHost(void* pointer) {
  const int result = enter("cuMemFreeHost", true);
  if (result == 0) --host_memory, std::free(pointer);
  return result;
}

int cuMemsetD8Async(api::DevicePointer to, unsigned char value, size_t bytes, api::StreamHandle) {
  const int result = enter("cuMemsetD8Async", true);
  if (result == 0) std::memset(reinterpret_cast<void*>(to), value, bytes);
  return result;
}

int cuMemcpyDtoH_v2(void* to, api::DevicePointer from, size_t bytes) {
  const int result = enter("cuMemcpyDtoH", true);
  if (result == 0) std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return result;
}

int cuMemcpyDtoHAsync_v2(void* to, api::DevicePointer from, size_t bytes, api::StreamHandle) {
  const int result = enter("cuMemcpyDtoHAsync", true);
  if (result == 0) std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return result;
}

int cuEventCreate(api::EventHandle* event, unsigned) {
  const int result = enter("cuEventCreate", true);
  if (result == 0) ++events, *event = new api::EventObject;
  return result;
}

int cuEventRecord(api::EventHandle, api::StreamHandle) { return enter("cuEventRecord", true); }
int cuEventSynchronize(api::EventHandle) { return enter("cuEventSynchronize", true); }

int cuEventDestroy_v2(api::EventHandle event) {
  const int result = enter("cuEventDestroy", true);
  if (result == 0) --events, delete event;
  return result;
}

}  // extern "C"

// Checks that every function is here, with the parameters of driver_api.h.
#define SRNN_LISTED(function, parameters) ::function,
[[maybe_unused]] static const api::DriverApi all = {SRNN_CUDA_DRIVER_CALLS(SRNN_LISTED)};
[[maybe_unused]] static const bool ready = (fake_reset(), true);
