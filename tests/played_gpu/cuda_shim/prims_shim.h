// The words of csrc/cuda/device/prims.h for a CPU, where fibres.h runs the threads.
#pragma once

#include <algorithm>
#include <cmath>

#include "fibres.h"
#include "model/philox.h"

#define SRNN_DEVICE static inline
#define SRNN_DEVICE_MEMBER inline
#define SRNN_CONSTANT
#define SRNN_KERNEL(threads) static void
#define SRNN_PARAMETER const
#define SRNN_UNROLL(times) static_assert((times) > 0, "see prims.h");
#define SRNN_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace srnn {

struct alignas(16) Quad {
  uint32_t x, y, z, w;
};

// Threads, shared memory and barriers.

SRNN_DEVICE int thread_id() { return simt::current().thread; }
SRNN_DEVICE int block_id() { return simt::current().block; }
SRNN_DEVICE unsigned char* shared_memory() { return simt::runtime->shared[simt::current().block]; }

SRNN_DEVICE void block_sync(SRNN_HERE) {
  simt::meet(simt::runtime->barriers[block_id()], thread_id(), {}, {file, line});
}
SRNN_DEVICE void barrier_sync(int barrier, int threads, SRNN_HERE) {
  simt::meet_some(barrier, threads, false, {file, line});
}
SRNN_DEVICE bool barrier_any(int barrier, int threads, bool yes, SRNN_HERE) {
  return simt::meet_some(barrier, threads, yes, {file, line});
}
SRNN_DEVICE void barrier_arrive(int barrier, int threads) { simt::arrive_at(barrier, threads); }
SRNN_DEVICE void cluster_sync(SRNN_HERE) {
  simt::release();
  const int first = simt::first_of_cluster(block_id());
  const int threads = static_cast<int>(simt::runtime->barriers[first].members.size());
  const int slot = (block_id() - first) * threads + thread_id();
  simt::meet(simt::runtime->clusters[block_id() / simt::runtime->cluster_size], slot, {},
             {file, line});
}

// Functions that all 32 lanes of a warp call together.

SRNN_DEVICE simt::Meeting& all_lanes(const simt::Given& given, const char* file, int line) {
  simt::Meeting& warp = simt::runtime->warps[simt::runtime->current / simt::kWarp];
  return simt::meet(warp, thread_id() % simt::kWarp, given, {file, line});
}

SRNN_DEVICE void warp_sync(SRNN_HERE) { all_lanes({}, file, line); }

SRNN_DEVICE Quad read_rarely(const float* from) { return *reinterpret_cast<const Quad*>(from); }

SRNN_DEVICE uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
SRNN_DEVICE float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// Adds in the order of the tree on the device, so that the sum has the same bits.
SRNN_DEVICE float tree_sum(const std::vector<simt::Given>& given) {
  float sum[simt::kWarp], next[simt::kWarp];
  for (int lane = 0; lane < simt::kWarp; ++lane)
    sum[lane] = float_of(static_cast<uint32_t>(given[lane][0]));
  for (int step = 16; step > 0; step /= 2) {
    for (int lane = 0; lane < simt::kWarp; ++lane) next[lane] = sum[lane] + sum[lane ^ step];
    std::memcpy(sum, next, sizeof(sum));
  }
  return sum[0];
}
SRNN_DEVICE float warp_sum(float x, SRNN_HERE) {
  const auto sum = [](const auto& given) { return bits_of(tree_sum(given)); };
  const uint64_t bits = all_lanes({bits_of(x)}, file, line).together_of(sum);
  return float_of(static_cast<uint32_t>(bits));
}
SRNN_DEVICE uint64_t warp_sum(uint64_t x, SRNN_HERE) {
  const auto sum = [](const auto& given) {
    uint64_t all = 0;
    for (const simt::Given& one : given) all += one[0];
    return all;
  };
  return all_lanes({x}, file, line).together_of(sum);
}
SRNN_DEVICE uint32_t warp_sum(uint32_t x, SRNN_HERE) {
  return static_cast<uint32_t>(warp_sum(uint64_t{x}, file, line));
}
SRNN_DEVICE int32_t warp_max(int32_t x, SRNN_HERE) {
  const auto largest = [](const auto& given) {
    int32_t most = static_cast<int32_t>(given[0][0]);
    for (const simt::Given& one : given) most = std::max(most, static_cast<int32_t>(one[0]));
    return static_cast<uint32_t>(most);
  };
  const uint64_t most = all_lanes({static_cast<uint32_t>(x)}, file, line).together_of(largest);
  return static_cast<int32_t>(most);
}
SRNN_DEVICE bool warp_all(bool x, SRNN_HERE) {
  const auto all = [](const auto& given) {
    for (const simt::Given& one : given) {
      if (one[0] == 0) return 0;
    }
    return 1;
  };
  return all_lanes({x ? 1u : 0u}, file, line).together_of(all) != 0;
}
template <class Number>
SRNN_DEVICE Number warp_before(Number x, SRNN_HERE) {
  const std::vector<simt::Given>& given = all_lanes({x}, file, line).seen;
  Number sum = 0;
  for (int lane = 0; lane < thread_id() % simt::kWarp; ++lane)
    sum += static_cast<Number>(given[lane][0]);
  return sum;
}
SRNN_DEVICE int warp_first(int x, SRNN_HERE) {
  for (const simt::Given& given : all_lanes({static_cast<uint32_t>(x)}, file, line).seen) {
    if (static_cast<int32_t>(given[0]) >= 0) return static_cast<int32_t>(given[0]);
  }
  return x;
}

// Memory that other blocks write.

// Other threads may run before each access.
using simt::pause_sometimes;

SRNN_DEVICE void put_float(float* to, float x) {
  pause_sometimes();
  simt::send(to, &x, sizeof(x));
}
SRNN_DEVICE void put_packet(void* to, Quad q) {
  pause_sometimes();
  simt::send(to, &q, sizeof(q));
}
SRNN_DEVICE Quad get_quad(const void* from) {
  pause_sometimes();
  Quad q;
  std::memcpy(&q, from, sizeof(q));
  return q;
}
SRNN_DEVICE void get_packet(const void* from, bool wanted, Quad& q) {
  if (wanted) q = get_quad(from);
}

// Sends something to another block of the cluster, where it lies as `own` does in this one.
template <class T>
static inline void push(void* own, int block, const T& sent) {
  pause_sometimes();
  const int target = simt::first_of_cluster(block_id()) + block;
  const auto offset = static_cast<unsigned char*>(own) - shared_memory();
  simt::send(simt::runtime->shared[target] + offset, &sent, sizeof(sent), target);
}
SRNN_DEVICE void push_packet(void* own, int block, Quad q) { push(own, block, q); }
SRNN_DEVICE void get_pushed(const void* own, bool wanted, Quad& q) { get_packet(own, wanted, q); }

// The small packets of a read are accesses of their own: others may write between them.
SRNN_DEVICE void put_small_packet(void* to, uint32_t number, uint32_t sequence) {
  pause_sometimes();
  const uint32_t packet[2] = {number, sequence};
  simt::send(to, packet, sizeof(packet));
}
SRNN_DEVICE void get_small_packets(const void* from, bool wanted, Quad& q) {
  if (!wanted) return;
  pause_sometimes();
  std::memcpy(&q.x, from, 8);
  pause_sometimes();
  std::memcpy(&q.z, static_cast<const unsigned char*>(from) + 8, 8);
}
SRNN_DEVICE void push_small_packet(void* own, int block, uint32_t number, uint32_t sequence) {
  const uint32_t packet[2] = {number, sequence};
  push(own, block, packet);
}
SRNN_DEVICE void get_small_pushed(const void* own, bool wanted, Quad& q) {
  get_small_packets(own, wanted, q);
}

SRNN_DEVICE void put_word(void* to, uint32_t word) {
  pause_sometimes();
  simt::send(to, &word, sizeof(word));
}
SRNN_DEVICE void get_words(const void* from, bool wanted, Quad& q) {
  if (!wanted) return;
  uint32_t words[4];
  for (int i = 0; i < 4; ++i) {
    pause_sometimes();
    std::memcpy(words + i, static_cast<const unsigned char*>(from) + 4 * i, 4);
  }
  q = {words[0], words[1], words[2], words[3]};
}
SRNN_DEVICE void push_word(void* own, int block, uint32_t word) { push(own, block, word); }
SRNN_DEVICE void get_pushed_words(const void* own, bool wanted, Quad& q) {
  get_words(own, wanted, q);
}

SRNN_DEVICE uint32_t read_word(const uint32_t* from) { return *from; }
SRNN_DEVICE bool claim_word(uint32_t* to, uint32_t word) {
  const bool first = *to == 0;
  if (first) *to = word;
  return first;
}
SRNN_DEVICE uint64_t clock_ns() { return simt::runtime->clock; }
SRNN_DEVICE uint64_t clock_ticks() { return simt::runtime->clock; }
SRNN_DEVICE uint32_t clock_low() { return static_cast<uint32_t>(clock_ticks()); }
// No thread has to wait for the clock to be right, so this only lets others run.
SRNN_DEVICE void wait_since(uint32_t, uint32_t) { pause_sometimes(); }
SRNN_DEVICE void add_up(uint64_t* to, uint64_t x) { *to += x; }
SRNN_DEVICE void pause() { simt::pause(); }
template <class T>
SRNN_DEVICE T* computed(T* x) {
  return x;
}

// Arithmetic.

SRNN_DEVICE float fma_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
SRNN_DEVICE float divide_rn(float a, float b) { return a / b; }
SRNN_DEVICE float magnitude(float x) { return std::fabs(x); }
SRNN_DEVICE float max_or_nan(float a, float b) {
  return std::isnan(a) || std::isnan(b) ? float_of(0x7fffffffu) : std::fmax(a, b);
}
SRNN_DEVICE float reciprocal_rn(float x) { return 1.0f / x; }
SRNN_DEVICE float reciprocal_approx(float x) { return 1.0f / x; }
SRNN_DEVICE float exp2_approx(float x) { return std::exp2(x); }
SRNN_DEVICE float add_rz(float a, float b) {
  const double exact = static_cast<double>(a) + b;
  const float near = static_cast<float>(exact);
  return std::fabs(near) > std::fabs(exact) ? std::nextafter(near, 0.0f) : near;
}
SRNN_DEVICE float float_rn(int32_t x) { return static_cast<float>(x); }
SRNN_DEVICE uint32_t bfloat16_pair(float low, float high) {
  const auto nearest = [](float x) {
    const uint32_t bits = bits_of(x);
    return std::isnan(x) ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  };
  return nearest(low) | nearest(high) << 16;
}
SRNN_DEVICE uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t which) {
  const uint64_t both = uint64_t{b} << 32 | a;
  uint32_t picked = 0;
  for (int k = 0; k < 4; ++k) {
    const uint64_t byte = both >> (8 * (which >> (4 * k) & 7)) & 255;
    picked |= static_cast<uint32_t>(byte) << (8 * k);
  }
  return picked;
}
SRNN_DEVICE int32_t add_bytes(uint32_t a, uint32_t b, int32_t sum) {
  uint32_t total = static_cast<uint32_t>(sum);
  for (int shift = 0; shift < 32; shift += 8) {
    const int x = static_cast<signed char>(a >> shift), y = static_cast<signed char>(b >> shift);
    total += static_cast<uint32_t>(x * y);
  }
  return static_cast<int32_t>(total);
}

// Tensor cores.

// The matrices of a tile, read from the words that each lane holds. So the tests notice words in a
// wrong lane.
struct Fragments {
  const std::vector<simt::Given>& lanes;
  uint32_t word(int lane, int index) const {
    return static_cast<uint32_t>(lanes[lane][index / 2] >> (32 * (index % 2)));
  }
  // Returns the word with element k of a row of A or a column of B; a word has per_word elements.
  uint32_t a(int row, int k, int per_word) const {
    const int half = k / (4 * per_word);
    return word(row % 8 * 4 + k % (4 * per_word) / per_word, row / 8 + 2 * half);
  }
  uint32_t b(int column, int k, int per_word) const {
    return word(column * 4 + k % (4 * per_word) / per_word, 4 + k / (4 * per_word));
  }
};
static inline simt::Given join(uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                               uint32_t b1) {
  return {a0 | uint64_t{a1} << 32, a2 | uint64_t{a3} << 32, b0 | uint64_t{b1} << 32};
}
static inline float half_of(uint32_t word, int k) {
  return float_of(k % 2 == 0 ? word << 16 : word & 0xffff0000u);
}
SRNN_DEVICE void multiply_tile(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                               uint32_t b0, uint32_t b1, SRNN_HERE) {
  const Fragments all = {all_lanes(join(a0, a1, a2, a3, b0, b1), file, line).seen};
  for (int i = 0; i < 4; ++i) {
    const int lane = thread_id() % simt::kWarp, row = lane / 4 + i / 2 * 8;
    const int column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 16; ++k) {
      d[i] = std::fmaf(half_of(all.a(row, k, 2), k), half_of(all.b(column, k, 2), k), d[i]);
    }
  }
}
SRNN_DEVICE void multiply_tile(int32_t (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                               uint32_t b0, uint32_t b1, SRNN_HERE) {
  const Fragments all = {all_lanes(join(a0, a1, a2, a3, b0, b1), file, line).seen};
  for (int i = 0; i < 4; ++i) {
    const int lane = thread_id() % simt::kWarp, row = lane / 4 + i / 2 * 8;
    const int column = lane % 4 * 2 + i % 2;
    for (int k = 0; k < 32; k += 4) d[i] = add_bytes(all.a(row, k, 4), all.b(column, k, 4), d[i]);
  }
}

}  // namespace srnn
