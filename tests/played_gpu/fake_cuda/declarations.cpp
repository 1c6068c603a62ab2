// Compiles only if csrc/cuda/host/driver_api.h agrees with the headers of the CUDA toolkit.
#include <cuda.h>
#include <nvrtc.h>

#include <cstddef>
#include <type_traits>

#include "cuda/host/driver_api.h"

namespace api = srnn::cuda;

// Whether two functions have results and parameters of the same sizes, one by one.
template <typename A, typename B>
struct Same : std::false_type {};
template <typename A, typename... As, typename B, typename... Bs>
struct Same<A (*)(As...), B (*)(Bs...)> {
  static constexpr bool value = [] {
    if constexpr (sizeof...(As) == sizeof...(Bs) && sizeof(A) == sizeof(B)) {
      return ((sizeof(As) == sizeof(Bs) && std::is_pointer_v<As> == std::is_pointer_v<Bs>) && ...);
    }
    return false;
  }();
};

#define SRNN_SAME_DRIVER(function, parameters) \
  static_assert(Same<decltype(api::DriverApi::function), decltype(&::function)>::value, #function);
SRNN_CUDA_DRIVER_CALLS(SRNN_SAME_DRIVER)
#define SRNN_SAME_NVRTC(function, parameters) \
  static_assert(Same<decltype(api::NvrtcApi::function), decltype(&::function)>::value, #function);
SRNN_NVRTC_CALLS(SRNN_SAME_NVRTC)

static_assert(int{api::kMultiprocessors} == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
static_assert(int{api::kRunTimeLimit} == CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT);
static_assert(int{api::kCapabilityMajor} == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
static_assert(int{api::kCapabilityMinor} == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
static_assert(int{api::kCooperativeLaunch} == CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH);
static_assert(int{api::kSharedBytesPerBlock} ==
              CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
static_assert(int{api::kClusterLaunch} == CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH);
static_assert(int{api::kRegisters} == CU_FUNC_ATTRIBUTE_NUM_REGS);
static_assert(int{api::kDynamicSharedBytes} == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
static_assert(int{api::kNonPortableClusterSize} ==
              CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED);
static_assert(int{api::kClusterDimension} == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
static_assert(sizeof(api::Dimension) == sizeof(CUlaunchAttributeValue{}.clusterDim));
static_assert(sizeof(api::LaunchAttributeValue) == sizeof(CUlaunchAttributeValue));
static_assert(int{api::kCooperative} == CU_LAUNCH_ATTRIBUTE_COOPERATIVE);
static_assert(api::kInvalidClusterSize == CUDA_ERROR_INVALID_CLUSTER_SIZE);
static_assert(api::kCooperativeLaunchTooLarge == CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
static_assert(api::kNoTiming == CU_EVENT_DISABLE_TIMING);
static_assert(sizeof(api::DevicePointer) == sizeof(CUdeviceptr));

static_assert(sizeof(api::LaunchAttribute) == sizeof(CUlaunchAttribute));
static_assert(offsetof(api::LaunchAttribute, value) == offsetof(CUlaunchAttribute, value));
static_assert(sizeof(api::LaunchConfig) == sizeof(CUlaunchConfig));
static_assert(offsetof(api::LaunchConfig, grid_x) == offsetof(CUlaunchConfig, gridDimX));
static_assert(offsetof(api::LaunchConfig, block_x) == offsetof(CUlaunchConfig, blockDimX));
static_assert(offsetof(api::LaunchConfig, shared_bytes) ==
              offsetof(CUlaunchConfig, sharedMemBytes));
static_assert(offsetof(api::LaunchConfig, cuda_stream) == offsetof(CUlaunchConfig, hStream));
static_assert(offsetof(api::LaunchConfig, attributes) == offsetof(CUlaunchConfig, attrs));
static_assert(offsetof(api::LaunchConfig, attribute_count) == offsetof(CUlaunchConfig, numAttrs));
