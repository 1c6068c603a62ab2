// The only file with PTX, thread numbers and barriers. Kernels are written in these words; the
// tests have a second set of them, with which the same text runs on a CPU.
#pragma once

#include "model/philox.h"

#define SRNN_DEVICE static __device__ __forceinline__
#define SRNN_DEVICE_MEMBER __device__ __forceinline__
#define SRNN_CONSTANT extern "C" __constant__
// The second number of the launch bounds is blocks on one multiprocessor.
#define SRNN_KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads, 1)
#define SRNN_PARAMETER const __grid_constant__
#define SRNN_PRAGMA(text) _Pragma(#text)
#define SRNN_UNROLL(times) SRNN_PRAGMA(unroll(times))

namespace srnn {

struct alignas(16) Quad {
  uint32_t x, y, z, w;
};

// --- place and barriers -----------------------------------------------------------------------

SRNN_DEVICE int thread_id() { return threadIdx.x; }
SRNN_DEVICE int block_id() { return blockIdx.x; }

SRNN_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(256) unsigned char bytes[];
  return bytes;
}

SRNN_DEVICE void block_sync() { __syncthreads(); }
// A barrier, after which every thread knows whether one of them said yes.
SRNN_DEVICE bool block_any(bool yes) { return __syncthreads_or(yes); }

// A barrier of all threads of the cluster: what was written before it, others read after it.
SRNN_DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}

// --- one warp, all of its lanes ---------------------------------------------------------------

constexpr uint32_t kAllLanes = 0xffffffffu;

// The sum over the lanes, the same bits in each: a tree, neighbours last.
SRNN_DEVICE float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
SRNN_DEVICE uint32_t warp_sum(uint32_t x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
SRNN_DEVICE uint64_t warp_sum(uint64_t x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
SRNN_DEVICE int32_t warp_max(int32_t x) { return __reduce_max_sync(kAllLanes, x); }
// The sum over the lanes before this one.
SRNN_DEVICE uint64_t warp_before(uint64_t x) {
  const int lane = threadIdx.x % 32;
  uint64_t sum = x;
  for (int step = 1; step < 32; step *= 2) {
    const uint64_t lower = __shfl_up_sync(kAllLanes, sum, step);
    if (lane >= step) sum += lower;
  }
  return sum - x;
}
// The number of the first lane whose number is not negative, or -1.
SRNN_DEVICE int warp_first(int x) {
  const uint32_t found = __ballot_sync(kAllLanes, x >= 0);
  const int from = found != 0 ? __ffs(found) - 1 : 0;
  return __shfl_sync(kAllLanes, x, from);
}

// --- memory that other blocks write -----------------------------------------------------------

// Neither ordered nor cached in L1.
SRNN_DEVICE void put_float(float* to, float x) {
  asm volatile("st.relaxed.gpu.global.f32 [%0], %1;" ::"l"(to), "f"(x) : "memory");
}
SRNN_DEVICE Quad get_quad(const void* from) {
  Quad q;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(q.x), "=r"(q.y), "=r"(q.z), "=r"(q.w)
               : "l"(from)
               : "memory");
  return q;
}

// All 16 bytes at once: .b128 is one access, which a vector of four words is not.
SRNN_DEVICE void put_packet(void* to, Quad q) {
  asm volatile(
      "{.reg .b128 r; .reg .b64 l, h; mov.b64 l, {%1, %2}; mov.b64 h, {%3, %4};"
      " mov.b128 r, {l, h}; st.relaxed.gpu.global.b128 [%0], r;}" ::"l"(to),
      "r"(q.x), "r"(q.y), "r"(q.z), "r"(q.w)
      : "memory");
}
SRNN_DEVICE Quad get_packet(const void* from) {
  Quad q;
  asm volatile(
      "{.reg .b128 r; .reg .b64 l, h; ld.relaxed.gpu.global.b128 r, [%4]; mov.b128 {l, h}, r;"
      " mov.b64 {%0, %1}, l; mov.b64 {%2, %3}, h;}"
      : "=r"(q.x), "=r"(q.y), "=r"(q.z), "=r"(q.w)
      : "l"(from)
      : "memory");
  return q;
}

// The shared memory of a block, in the window of addresses that its cluster shares.
SRNN_DEVICE uint32_t shared_address(const void* own) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(own));
}
// Puts 16 bytes at once to where `own` is in the shared memory of a block of the cluster.
SRNN_DEVICE void push_packet(void* own, int block, Quad q) {
  asm volatile(
      "{.reg .b32 to; .reg .b128 r; .reg .b64 l, h; mapa.shared::cluster.u32 to, %0, %1;"
      " mov.b64 l, {%2, %3}; mov.b64 h, {%4, %5}; mov.b128 r, {l, h};"
      " st.relaxed.cluster.shared::cluster.b128 [to], r;}" ::"r"(shared_address(own)),
      "r"(block), "r"(q.x), "r"(q.y), "r"(q.z), "r"(q.w)
      : "memory");
}
SRNN_DEVICE Quad get_pushed(const void* own) {
  Quad q;
  asm volatile(
      "{.reg .b128 r; .reg .b64 l, h; ld.relaxed.cluster.shared::cta.b128 r, [%4];"
      " mov.b128 {l, h}, r; mov.b64 {%0, %1}, l; mov.b64 {%2, %3}, h;}"
      : "=r"(q.x), "=r"(q.y), "=r"(q.z), "=r"(q.w)
      : "r"(shared_address(own))
      : "memory");
  return q;
}

// Adds 1, after everything that this block's threads wrote before their last barrier.
SRNN_DEVICE void count_up(uint32_t* counter) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
// What is read next is at least as new as the count.
SRNN_DEVICE uint32_t read_count(const uint32_t* counter) {
  uint32_t count;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(count) : "l"(counter) : "memory");
  return count;
}

SRNN_DEVICE uint32_t read_word(const uint32_t* from) {
  uint32_t word;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(from) : "memory");
  return word;
}
// Writes where there is 0; whether this was the first.
SRNN_DEVICE bool claim_word(uint32_t* to, uint32_t word) { return atomicCAS(to, 0u, word) == 0; }

SRNN_DEVICE uint64_t clock_ns() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}
SRNN_DEVICE uint64_t clock_ticks() { return static_cast<uint64_t>(clock64()); }
// By one thread alone, which does not wait for it.
SRNN_DEVICE void add_up(uint64_t* to, uint64_t x) {
  asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(to), "l"(x) : "memory");
}
// Between two looks at what another block has to write.
SRNN_DEVICE void pause() {}

// --- arithmetic -------------------------------------------------------------------------------

SRNN_DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
SRNN_DEVICE float float_of(uint32_t bits) { return __uint_as_float(bits); }
SRNN_DEVICE float fma_rn(float a, float b, float c) { return __fmaf_rn(a, b, c); }
SRNN_DEVICE float divide_rn(float a, float b) { return __fdiv_rn(a, b); }
SRNN_DEVICE float float_rn(int32_t x) { return __int2float_rn(x); }
// sum + the four products of signed bytes.
SRNN_DEVICE int32_t add_bytes(uint32_t a, uint32_t b, int32_t sum) {
  int32_t result;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

// --- tensor cores -----------------------------------------------------------------------------

// d += A B of a warp: A (16 rows), B (8 columns). Lane l has of A rows l / 4 and l / 4 + 8, of B
// column l / 4; a0, a1 and b0 belong to the first half of the inputs, a2, a3 and b1 to the second.
// d: rows l / 4 (d[0], d[1]) and l / 4 + 8, columns l % 4 * 2 and the next.
SRNN_DEVICE void multiply_tile(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                               uint32_t b0, uint32_t b1) {  // 16 inputs in bfloat16
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7},"
      " {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
SRNN_DEVICE void multiply_tile(int32_t (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                               uint32_t b0, uint32_t b1) {  // 32 signed bytes
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7},"
      " {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

}  // namespace srnn
