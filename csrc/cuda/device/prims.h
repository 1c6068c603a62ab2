// The words that the kernels are written in: thread numbers, barriers, warp sums, memory that other
// blocks write, and arithmetic. No other file has PTX or built-in functions of CUDA. The tests have
// the same words for a CPU (prims_shim.h), so they run the kernels' text unchanged.
#pragma once

#include "model/philox.h"  // integer types

#if defined(SRNN_SHIM)
#include "prims_shim.h"
#else

#define SRNN_DEVICE static __device__ __forceinline__
#define SRNN_DEVICE_MEMBER __device__ __forceinline__
#define SRNN_CONSTANT extern "C" __constant__
// The second launch bound is the number of blocks on one multiprocessor.
#define SRNN_KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads, 1)
#define SRNN_PARAMETER const __grid_constant__
#define SRNN_PRAGMA(text) _Pragma(#text)
#define SRNN_UNROLL(times) SRNN_PRAGMA(unroll(times))

namespace srnn {

struct alignas(16) Quad {
  uint32_t x, y, z, w;
};

// Threads, shared memory and barriers.

SRNN_DEVICE int thread_id() { return threadIdx.x; }
SRNN_DEVICE int block_id() { return blockIdx.x; }

SRNN_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(256) unsigned char bytes[];
  return bytes;
}

SRNN_DEVICE void block_sync() { __syncthreads(); }
// Barriers 1 to 15 of the block, where `threads` of its threads meet, whole warps.
SRNN_DEVICE void barrier_sync(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
// Returns, in every thread, whether any of them passed true.
SRNN_DEVICE bool barrier_any(int barrier, int threads, bool yes) {
  int32_t any;
  asm volatile(
      "{.reg .pred p, q; setp.ne.s32 p, %3, 0; bar.red.or.pred q, %1, %2, p;"
      " selp.s32 %0, 1, 0, q;}"
      : "=r"(any)
      : "r"(barrier), "r"(threads), "r"(yes ? 1 : 0)
      : "memory");
  return any != 0;
}
// Comes to a barrier where others wait for it, and does not wait itself.
SRNN_DEVICE void barrier_arrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// A barrier of all threads of the cluster: writes before it are visible to all of them after it.
SRNN_DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}

// Functions that all 32 lanes of a warp call together.

constexpr uint32_t kAllLanes = 0xffffffffu;

// A barrier of the warp: what its lanes wrote before is visible to all of them after it.
SRNN_DEVICE void warp_sync() { __syncwarp(); }

// The sum over the lanes, with the same bits in each: a tree whose last step adds neighbours.
SRNN_DEVICE float warp_sum(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
SRNN_DEVICE uint32_t warp_sum(uint32_t x) { return __reduce_add_sync(kAllLanes, x); }
SRNN_DEVICE uint64_t warp_sum(uint64_t x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
SRNN_DEVICE int32_t warp_max(int32_t x) { return __reduce_max_sync(kAllLanes, x); }
// Returns whether all lanes passed true.
SRNN_DEVICE bool warp_all(bool x) { return __all_sync(kAllLanes, x) != 0; }
// The sum over the lanes before this one. Each of three rounds adds the sums of three groups of
// lanes below, which are fetched side by side.
template <class Number>
SRNN_DEVICE Number warp_before(Number x) {
  const int lane = threadIdx.x % 32;
  Number sum = x;
  for (int step = 1; step < 32; step *= 4) {
    Number lower[3];
    for (int k = 0; k < 3; ++k) lower[k] = __shfl_up_sync(kAllLanes, sum, (k + 1) * step % 32);
    for (int k = 0; k < 3; ++k) sum += lane >= (k + 1) * step ? lower[k] : 0;
  }
  return sum - x;
}
// The number that the first lane with a non-negative one passed, or -1.
SRNN_DEVICE int warp_first(int x) {
  const uint32_t found = __ballot_sync(kAllLanes, x >= 0);
  const int from = found != 0 ? __ffs(found) - 1 : 0;
  return __shfl_sync(kAllLanes, x, from);
}

// Four floats of an array that does not change and is too large to be kept in L1.
SRNN_DEVICE Quad read_rarely(const float* from) {
  Quad q;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(q.x), "=r"(q.y), "=r"(q.z), "=r"(q.w)
      : "l"(from));
  return q;
}

// Memory that other blocks write. `relaxed` accesses are not ordered against each other; `gpu` ones
// pass by L1, which other blocks do not see.

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

// A packet's 16 bytes are written and read as a whole: .b128 is one access, but a vector of four
// words is not.
SRNN_DEVICE void put_packet(void* to, Quad q) {
  asm volatile(
      "{.reg .b128 r; .reg .b64 l, h; mov.b64 l, {%1, %2}; mov.b64 h, {%3, %4};"
      " mov.b128 r, {l, h}; st.relaxed.gpu.global.b128 [%0], r;}" ::"l"(to),
      "r"(q.x), "r"(q.y), "r"(q.z), "r"(q.w)
      : "memory");
}
// Reads one into q if it is wanted.
SRNN_DEVICE void get_packet(const void* from, bool wanted, Quad& q) {
  asm volatile(
      "{.reg .pred p; .reg .b128 r; .reg .b64 l, h; setp.ne.s32 p, %5, 0;"
      " mov.b64 l, {%0, %1}; mov.b64 h, {%2, %3}; mov.b128 r, {l, h};"
      " @p ld.relaxed.gpu.global.b128 r, [%4]; mov.b128 {l, h}, r;"
      " mov.b64 {%0, %1}, l; mov.b64 {%2, %3}, h;}"
      : "+r"(q.x), "+r"(q.y), "+r"(q.z), "+r"(q.w)
      : "l"(from), "r"(wanted ? 1 : 0)
      : "memory");
}

// A small packet has 8 bytes: a number and its sequence number.
SRNN_DEVICE void put_small_packet(void* to, uint32_t number, uint32_t sequence) {
  asm volatile("{.reg .b64 r; mov.b64 r, {%1, %2}; st.relaxed.gpu.global.b64 [%0], r;}" ::"l"(to),
               "r"(number), "r"(sequence)
               : "memory");
}
// Reads two neighbouring ones into q if they are wanted. Each of them is an access of its own.
SRNN_DEVICE void get_small_packets(const void* from, bool wanted, Quad& q) {
  asm volatile(
      "{.reg .pred p; .reg .b64 l, h; setp.ne.s32 p, %5, 0;"
      " mov.b64 l, {%0, %1}; mov.b64 h, {%2, %3};"
      " @p ld.relaxed.gpu.global.v2.b64 {l, h}, [%4];"
      " mov.b64 {%0, %1}, l; mov.b64 {%2, %3}, h;}"
      : "+r"(q.x), "+r"(q.y), "+r"(q.z), "+r"(q.w)
      : "l"(from), "r"(wanted ? 1 : 0)
      : "memory");
}

// A packet of 4 bytes is a number whose sign tells its turn.
SRNN_DEVICE void put_word(void* to, uint32_t word) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(word) : "memory");
}
// Reads four neighbouring ones into q if they are wanted. Each of them is an access of its own.
SRNN_DEVICE void get_words(const void* from, bool wanted, Quad& q) {
  asm volatile(
      "{.reg .pred p; setp.ne.s32 p, %5, 0;"
      " @p ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];}"
      : "+r"(q.x), "+r"(q.y), "+r"(q.z), "+r"(q.w)
      : "l"(from), "r"(wanted ? 1 : 0)
      : "memory");
}

// The address of a block's own shared memory, as instructions for shared memory take it.
SRNN_DEVICE uint32_t shared_address(const void* own) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(own));
}
// Writes a packet into the shared memory of a block of the cluster, at the offset that `own` has in
// this block's.
SRNN_DEVICE void push_packet(void* own, int block, Quad q) {
  asm volatile(
      "{.reg .b32 to; .reg .b128 r; .reg .b64 l, h; mapa.shared::cluster.u32 to, %0, %1;"
      " mov.b64 l, {%2, %3}; mov.b64 h, {%4, %5}; mov.b128 r, {l, h};"
      " st.relaxed.cluster.shared::cluster.b128 [to], r;}" ::"r"(shared_address(own)),
      "r"(block), "r"(q.x), "r"(q.y), "r"(q.z), "r"(q.w)
      : "memory");
}
SRNN_DEVICE void get_pushed(const void* own, bool wanted, Quad& q) {
  asm volatile(
      "{.reg .pred p; .reg .b128 r; .reg .b64 l, h; setp.ne.s32 p, %5, 0;"
      " mov.b64 l, {%0, %1}; mov.b64 h, {%2, %3}; mov.b128 r, {l, h};"
      " @p ld.relaxed.cluster.shared::cta.b128 r, [%4]; mov.b128 {l, h}, r;"
      " mov.b64 {%0, %1}, l; mov.b64 {%2, %3}, h;}"
      : "+r"(q.x), "+r"(q.y), "+r"(q.z), "+r"(q.w)
      : "r"(shared_address(own)), "r"(wanted ? 1 : 0)
      : "memory");
}

SRNN_DEVICE void push_small_packet(void* own, int block, uint32_t number, uint32_t sequence) {
  asm volatile(
      "{.reg .b32 to; .reg .b64 r; mapa.shared::cluster.u32 to, %0, %1; mov.b64 r, {%2, %3};"
      " st.relaxed.cluster.shared::cluster.b64 [to], r;}" ::"r"(shared_address(own)),
      "r"(block), "r"(number), "r"(sequence)
      : "memory");
}
SRNN_DEVICE void get_small_pushed(const void* own, bool wanted, Quad& q) {
  asm volatile(
      "{.reg .pred p; .reg .b64 l, h; setp.ne.s32 p, %5, 0;"
      " mov.b64 l, {%0, %1}; mov.b64 h, {%2, %3};"
      " @p ld.relaxed.cluster.shared::cta.v2.b64 {l, h}, [%4];"
      " mov.b64 {%0, %1}, l; mov.b64 {%2, %3}, h;}"
      : "+r"(q.x), "+r"(q.y), "+r"(q.z), "+r"(q.w)
      : "r"(shared_address(own)), "r"(wanted ? 1 : 0)
      : "memory");
}

SRNN_DEVICE void push_word(void* own, int block, uint32_t word) {
  asm volatile(
      "{.reg .b32 to; mapa.shared::cluster.u32 to, %0, %1;"
      " st.relaxed.cluster.shared::cluster.u32 [to], %2;}" ::"r"(shared_address(own)),
      "r"(block), "r"(word)
      : "memory");
}
SRNN_DEVICE void get_pushed_words(const void* own, bool wanted, Quad& q) {
  asm volatile(
      "{.reg .pred p; setp.ne.s32 p, %5, 0;"
      " @p ld.relaxed.cluster.shared::cta.v4.u32 {%0, %1, %2, %3}, [%4];}"
      : "+r"(q.x), "+r"(q.y), "+r"(q.z), "+r"(q.w)
      : "r"(shared_address(own)), "r"(wanted ? 1 : 0)
      : "memory");
}

SRNN_DEVICE uint32_t read_word(const uint32_t* from) {
  uint32_t word;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(from) : "memory");
  return word;
}
// Writes a word where 0 was. Returns false, and writes nothing, where another was first.
SRNN_DEVICE bool claim_word(uint32_t* to, uint32_t word) { return atomicCAS(to, 0u, word) == 0; }

SRNN_DEVICE uint64_t clock_ns() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}
// Returns the low half of what clock_ticks returns.
SRNN_DEVICE uint32_t clock_low() {
  uint32_t ticks;
  asm volatile("mov.u32 %0, %clock;" : "=r"(ticks)::"memory");
  return ticks;
}
// Returns once `ticks` have gone by since clock_low() returned `begin`.
SRNN_DEVICE void wait_since(uint32_t begin, uint32_t ticks) {
  while (clock_low() - begin < ticks) {
  }
}
SRNN_DEVICE uint64_t clock_ticks() { return static_cast<uint64_t>(clock64()); }
// Adds to a number of which one thread keeps count. The thread does not wait for the result.
SRNN_DEVICE void add_up(uint64_t* to, uint64_t x) {
  asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(to), "l"(x) : "memory");
}
// Is called between two reads of what another block has to write. The shim lets other threads run
// here; a GPU needs nothing.
SRNN_DEVICE void pause() {}

// Makes the compiler compute an address here, and not where it is wanted.
template <class T>
SRNN_DEVICE T* computed(T* x) {
  asm volatile("" : "+l"(x));
  return x;
}

// Arithmetic.

SRNN_DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
SRNN_DEVICE float float_of(uint32_t bits) { return __uint_as_float(bits); }
SRNN_DEVICE float magnitude(float x) { return fabsf(x); }
// The larger of two floats, or the NaN without a sign where one of them is a NaN.
SRNN_DEVICE float max_or_nan(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}
SRNN_DEVICE float fma_rn(float a, float b, float c) { return __fmaf_rn(a, b, c); }
// a / b, rounded, for a from 1 to 2^24 and b from 1e-30 on. It takes the steps of the compiler's
// own division, without its branch for other numbers: both are made smaller by 2^24, which changes
// no bit, so that the approximation of 1 / b and what is left to correct are no subnormal numbers.
SRNN_DEVICE float divide_rn(float a, float b) {
  constexpr float kSmaller = 1.0f / 16777216.0f;
  a *= kSmaller, b *= kSmaller;
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(b));
  y = __fmaf_rn(y, __fmaf_rn(-b, y, 1.0f), y);
  const float near = a * y;
  return __fmaf_rn(__fmaf_rn(-b, near, a), y, near);
}
// a + b, rounded towards zero.
SRNN_DEVICE float add_rz(float a, float b) { return __fadd_rz(a, b); }
// 1 / x, rounded, for x from 1 to below 2^126 or NaN: an approximation and one step of Newton's
// method, as in the compiler's own division, but without its branch for other numbers.
SRNN_DEVICE float reciprocal_rn(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return __fmaf_rn(y, __fmaf_rn(-x, y, 1.0f), y);
}
// These approximate 1 / x to 1 ulp, for x from 1 on, and 2^x to 2 ulp, each in one instruction. A
// number too large for a float becomes infinity, of which the reciprocal is 0. NaN stays NaN.
SRNN_DEVICE float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
SRNN_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
SRNN_DEVICE float float_rn(int32_t x) { return __int2float_rn(x); }
// The nearest bfloat16 of two numbers, ties to even, `low` in the lower half of the word. NaN stays
// NaN.
SRNN_DEVICE uint32_t bfloat16_pair(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
// Returns four of the eight bytes of a (0 to 3) and b (4 to 7). Each digit of `which` is the number
// of one, and the lowest digit is for the lowest byte.
SRNN_DEVICE uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t which) {
  return __byte_perm(a, b, which);
}
// `sum` plus the four products of the signed bytes of a and b.
SRNN_DEVICE int32_t add_bytes(uint32_t a, uint32_t b, int32_t sum) {
  int32_t result;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

// Tensor cores: d += A B by all lanes of a warp, with A of 16 rows and B of 8 columns. Lane l
// passes rows l / 4 and l / 4 + 8 of A and column l / 4 of B; a0, a1 and b0 hold the first half of
// the inputs, a2, a3 and b1 the second half. It receives columns l % 4 * 2 and l % 4 * 2 + 1 of row
// l / 4 (d[0], d[1]) and of row l / 4 + 8 (d[2], d[3]).
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

#endif
