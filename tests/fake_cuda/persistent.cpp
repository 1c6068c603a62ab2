// The entry point that fake_cuda/libcuda.cpp calls when the persistent kernel is launched: the
// shim's, which copies every array to the end of pages of its own and runs the kernel's text by
// fibres.
#include <cstdlib>

#include "cuda/params.h"

extern "C" const char* srnn_shim_launch(const srnn::Params* given, unsigned seed, long lose_store,
                                        long lose_count);

// A store or count of that number is lost where the variable is set, so that other blocks wait for
// it in vain.
static long number_of(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? -1 : std::atol(text);
}

extern "C" const char* srnn_generate(void** arguments, const void*) {
  return srnn_shim_launch(static_cast<const srnn::Params*>(arguments[0]), 0,
                          number_of("FAKE_LOSE_STORE"), number_of("FAKE_LOSE_COUNT"));
}
