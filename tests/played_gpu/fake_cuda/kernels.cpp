// The functions that fake_cuda/libcuda.cpp calls when a kernel is launched. They pass the launch to
// the shim, which copies every array to the end of its own pages and runs the kernel on fibres.
#include <cstdlib>

#include "launches.h"

extern "C" const char* srnn_shim_launch(const srnn::Params* given, const Launch* launches,
                                        int count, unsigned seed, long lose_store);

// Returns the number in an environment variable, or -1. The store of that number is lost, so
// other blocks wait for it in vain.
static long number_of(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? -1 : std::atol(text);
}

static const char* run(void** arguments, const Launch& launch) {
  return srnn_shim_launch(static_cast<const srnn::Params*>(arguments[0]), &launch, 1, 0,
                          number_of("FAKE_LOSE_STORE"));
}

#if SRNN_EXCHANGE == 3
#define SRNN_ENTRY(kernel)                                                            \
  extern "C" const char* kernel(void** arguments, const void*) {                      \
    return run(arguments, {#kernel, *static_cast<const srnn::Stage*>(arguments[1])}); \
  }
SRNN_STAGES(SRNN_ENTRY)
#else
extern "C" const char* srnn_generate(void** arguments, const void*) {
  return run(arguments, {"srnn_generate", {0, 0, 0}});
}
#endif
