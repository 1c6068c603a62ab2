// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// C++ and CUDA compile this text, so it calls no library and uses unsigned arithmetic only.
#pragma once

#ifdef __CUDACC_RTC__  // NVRTC has no system headers
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
#else
#include <stdint.h>
#endif

// Marks a function of the CPU, or of the GPU when nvcc or NVRTC compiles it. It is static, because
// each source that is compiled for another instruction set needs its own copy.
#ifdef __CUDACC__
#define SRNN_HD static __device__ inline
#else
#define SRNN_HD static inline
#endif

namespace srnn {

struct PhiloxBlock {
  uint32_t word[4];
};

// Returns the block of four random words for a counter (c0, c1, c2, c3) and a key (k0, k1).
SRNN_HD PhiloxBlock philox_block(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                                 uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Returns the draw of sample t of a stream. It depends on nothing else, so any batch size, thread
// block or restart gives the same draws.
SRNN_HD uint32_t philox_draw(uint64_t seed, uint32_t stream, uint64_t t) {
  return philox_block(static_cast<uint32_t>(t), static_cast<uint32_t>(t >> 32), stream, 0,
                      static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32))
      .word[0];
}

}  // namespace srnn
