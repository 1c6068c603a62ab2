// Declares what we use of the CUDA driver API and of NVRTC, so that building needs no CUDA header.
// Names, numbers and layouts are those of cuda.h and nvrtc.h; a test compares them where a CUDA
// toolkit is installed.
#pragma once

#include <cstddef>

namespace srnn::cuda {

using Result = int;  // CUresult or nvrtcResult; 0 is success
constexpr Result kCooperativeLaunchTooLarge = 720;
using DeviceId = int;
using DevicePointer = unsigned long long;
using ContextHandle = struct ContextObject*;
using ModuleHandle = struct ModuleObject*;
using FunctionHandle = struct FunctionObject*;
using StreamHandle = struct StreamObject*;
using EventHandle = struct EventObject*;
using ProgramHandle = struct ProgramObject*;

enum DeviceAttribute : int {
  kMultiprocessors = 16,
  kRunTimeLimit = 17,  // 1: the watchdog of a display ends long kernels
  kCapabilityMajor = 75,
  kCapabilityMinor = 76,
  kCooperativeLaunch = 95,
  kSharedBytesPerBlock = 97,  // limit of what a kernel may ask for
  kClusterLaunch = 120,
};

enum FunctionAttribute : int {
  kRegisters = 4,
  kDynamicSharedBytes = 8,
  kNonPortableClusterSize = 14,  // 1: clusters may have more than 8 blocks
};

enum LaunchAttributeId : int { kCooperative = 2, kClusterDimension = 4 };

struct Dimension {
  unsigned x, y, z;
};

union LaunchAttributeValue {
  char pad[64];
  int cooperative;
  Dimension cluster;  // blocks of one cluster
};

struct LaunchAttribute {
  LaunchAttributeId id;
  char pad[4];
  LaunchAttributeValue value;
};

struct LaunchConfig {
  unsigned grid_x, grid_y, grid_z;
  unsigned block_x, block_y, block_z;
  unsigned shared_bytes;
  StreamHandle cuda_stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};

constexpr Result kInvalidClusterSize = 912;  // CUDA_ERROR_INVALID_CLUSTER_SIZE
constexpr unsigned kNoTiming = 2;            // CU_EVENT_DISABLE_TIMING

// Applies X(function, parameters) to every entry point of the driver. The names are the symbols of
// the library, with their version suffixes.
#define SRNN_CUDA_DRIVER_CALLS(X)                                                                 \
  X(cuInit, (unsigned flags))                                                                     \
  X(cuDriverGetVersion, (int* version))                                                           \
  X(cuGetErrorName, (Result error, const char** name))                                            \
  X(cuGetErrorString, (Result error, const char** text))                                          \
  X(cuDeviceGet, (DeviceId * device, int ordinal))                                                \
  X(cuDeviceGetName, (char* name, int length, DeviceId device))                                   \
  X(cuDeviceGetAttribute, (int* value, DeviceAttribute attribute, DeviceId device))               \
  X(cuDevicePrimaryCtxRetain, (ContextHandle * context, DeviceId device))                         \
  X(cuDevicePrimaryCtxRelease_v2, (DeviceId device))                                              \
  X(cuCtxPushCurrent_v2, (ContextHandle context))                                                 \
  X(cuCtxPopCurrent_v2, (ContextHandle * context))                                                \
  X(cuModuleLoadData, (ModuleHandle * module, const void* image))                                 \
  X(cuModuleUnload, (ModuleHandle module))                                                        \
  X(cuModuleGetFunction, (FunctionHandle * function, ModuleHandle module, const char* name))      \
  X(cuModuleGetGlobal_v2,                                                                         \
    (DevicePointer * pointer, size_t* bytes, ModuleHandle module, const char* name))              \
  X(cuFuncGetAttribute, (int* value, FunctionAttribute attribute, FunctionHandle function))       \
  X(cuFuncSetAttribute, (FunctionHandle function, FunctionAttribute attribute, int value))        \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor,                                                  \
    (int* blocks, FunctionHandle function, int threads, size_t dynamic_shared_bytes))             \
  X(cuOccupancyMaxActiveClusters,                                                                 \
    (int* clusters, FunctionHandle function, const LaunchConfig* config))                         \
  X(cuLaunchKernelEx,                                                                             \
    (const LaunchConfig* config, FunctionHandle function, void** arguments, void** extra))        \
  X(cuMemHostAlloc, (void** pointer, size_t bytes, unsigned flags))                               \
  X(cuMemFreeHost, (void* pointer))                                                               \
  X(cuMemsetD8Async,                                                                              \
    (DevicePointer to, unsigned char value, size_t bytes, StreamHandle cuda_stream))              \
  X(cuMemcpyDtoH_v2, (void* to, DevicePointer from, size_t bytes))                                \
  X(cuMemcpyDtoHAsync_v2, (void* to, DevicePointer from, size_t bytes, StreamHandle cuda_stream)) \
  X(cuEventCreate, (EventHandle * event, unsigned flags))                                         \
  X(cuEventRecord, (EventHandle event, StreamHandle cuda_stream))                                 \
  X(cuEventSynchronize, (EventHandle event))                                                      \
  X(cuEventDestroy_v2, (EventHandle event))

// Applies X to every entry point of NVRTC that returns a Result.
#define SRNN_NVRTC_CALLS(X)                                                                \
  X(nvrtcVersion, (int* major, int* minor))                                                \
  X(nvrtcGetNumSupportedArchs, (int* count))                                               \
  X(nvrtcGetSupportedArchs, (int* archs))                                                  \
  X(nvrtcCreateProgram, (ProgramHandle * program, const char* source, const char* name,    \
                         int headers, const char* const* texts, const char* const* names)) \
  X(nvrtcCompileProgram, (ProgramHandle program, int count, const char* const* options))   \
  X(nvrtcGetProgramLogSize, (ProgramHandle program, size_t* bytes))                        \
  X(nvrtcGetProgramLog, (ProgramHandle program, char* log))                                \
  X(nvrtcGetCUBINSize, (ProgramHandle program, size_t* bytes))                             \
  X(nvrtcGetCUBIN, (ProgramHandle program, char* cubin))                                   \
  X(nvrtcDestroyProgram, (ProgramHandle * program))

#define SRNN_CUDA_MEMBER(function, parameters) Result(*function) parameters = nullptr;
struct DriverApi {
  SRNN_CUDA_DRIVER_CALLS(SRNN_CUDA_MEMBER)
};
struct NvrtcApi {
  SRNN_NVRTC_CALLS(SRNN_CUDA_MEMBER)
  const char* (*nvrtcGetErrorString)(Result) = nullptr;
};
#undef SRNN_CUDA_MEMBER

}  // namespace srnn::cuda
