// What the machine could do at best, measured by the vectors of this instruction set: how fast a
// working set is read, and how fast multiply-adds run that touch only registers.
#pragma once

#include <chrono>

#include "modes.h"

namespace srnn {
namespace SRNN_ISA {

constexpr double kMeasureSeconds = 0.05;

// Times repeated calls of `work`, which returns what must not be optimised away.
template <class Work>
double calls_per_second(const Work& work) {
  typedef std::chrono::steady_clock Clock;
  static std::atomic<int32_t> sink{0};
  work();
  long calls = 0;
  const Clock::time_point began = Clock::now();
  double seconds = 0;
  do {
    sink.store(work(), std::memory_order_relaxed);
    ++calls;
    seconds = std::chrono::duration<double>(Clock::now() - began).count();
  } while (seconds < kMeasureSeconds);
  return calls / seconds;
}

inline int32_t fold(Ints value) {
  int32_t sum = 0;
  for (int i = 0; i < kLanes; ++i) sum ^= value[i];
  return sum;
}

// Bytes a second that `threads` threads read together, each its part of `bytes`, over and over.
inline double read_bandwidth(size_t bytes, int threads) {
  Crew crew(threads);
  constexpr int kStreams = 8;
  const size_t step = sizeof(Ints) * kStreams;
  const size_t part = std::max(step, bytes / crew.size() / step * step);
  Arena arena;
  const char* data = arena.take<char>(part * crew.size());
  std::vector<double> rates(crew.size());
  crew.run([&](int thread) {
    const char* from = data + thread * part;
    rates[thread] = part * calls_per_second([&] {
                      Ints sum[kStreams] = {};
                      for (size_t at = 0; at < part; at += step) {
                        for (int i = 0; i < kStreams; ++i)
                          sum[i] ^= load<Ints>(from + at + i * sizeof(Ints));
                      }
                      for (int i = 1; i < kStreams; ++i) sum[0] ^= sum[i];
                      return fold(sum[0]);
                    });
  });
  double total = 0;
  for (double rate : rates) total += rate;
  return total;
}

constexpr int kChains = 10;  // independent sums: enough to hide every latency
constexpr int kRounds = 1000;
#if defined(SRNN_TILES)
constexpr int kTileRounds = 20;

inline int32_t stored_sum() {
  alignas(64) int32_t sums[kTileRows][kTileBytes / 4];
  SRNN_TILE_STORE(0, sums[0], sizeof(sums[0]));
  return sums[0][0];
}
#endif

// Multiply-adds of one call in each mode, in registers.
inline int32_t register_work(const Float32Mode*, long* macs) {
  Floats sum[kChains] = {};
  Floats a = broadcast(1.0f);
  const Floats b = broadcast(0.5f);
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kChains; ++i) {
      forget(a);  // or the product would be made once
      sum[i] = fma(a, b, sum[i]);
    }
  }
  *macs = long{kRounds} * kChains * kLanes;
  for (int i = 1; i < kChains; ++i) sum[0] += sum[i];
  return fold((Ints)sum[0]);
}
inline int32_t register_work(const FloatMode<Bfloat16>*, long* macs) {
  return register_work(static_cast<const Float32Mode*>(nullptr), macs);
}
inline int32_t register_work(const Int8Mode*, long* macs) {
  Ints sum[kChains] = {};
  Ints a = broadcast_word("\1\1\1\1");
  const Ints b = a;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kChains; ++i) {
      forget(a);
#if defined(SRNN_PLANES)
      sum[i] = add_quads(sum[i], a, b);
#else
      sum[i] += multiply_pairs((Shorts)a, (Shorts)b);
#endif
    }
  }
  // A dot product of bytes does half of a 14-bit input: both ways two inputs a lane.
  *macs = long{kRounds} * kChains * kLanes * 2;
  for (int i = 1; i < kChains; ++i) sum[0] += sum[i];
  return fold(sum[0]);
}

#if defined(SRNN_TILES)
inline int32_t register_work(const TileInt8Mode*, long* macs) {
  SRNN_TILE_ZERO(0);
  SRNN_TILE_ZERO(1);
  SRNN_TILE_ZERO(2);
  SRNN_TILE_ZERO(3);
  SRNN_TILE_ZERO(4);
  SRNN_TILE_ZERO(5);
  for (int round = 0; round < kTileRounds; ++round) {
    SRNN_TILE_DOT_BYTES(0, 4, 5);
    SRNN_TILE_DOT_BYTES(1, 4, 5);
    SRNN_TILE_DOT_BYTES(2, 4, 5);
    SRNN_TILE_DOT_BYTES(3, 4, 5);
  }
  // Two planes make one input.
  *macs = long{kTileRounds} * 4 * kTileRows * kTileRows * kTileBytes / 2;
  return stored_sum();
}
inline int32_t register_work(const TileBfloat16Mode*, long* macs) {
  SRNN_TILE_ZERO(0);
  SRNN_TILE_ZERO(1);
  SRNN_TILE_ZERO(2);
  SRNN_TILE_ZERO(3);
  SRNN_TILE_ZERO(4);
  SRNN_TILE_ZERO(5);
  for (int round = 0; round < kTileRounds; ++round) {
    SRNN_TILE_DOT_BFLOAT16(0, 4, 5);
    SRNN_TILE_DOT_BFLOAT16(1, 4, 5);
    SRNN_TILE_DOT_BFLOAT16(2, 4, 5);
    SRNN_TILE_DOT_BFLOAT16(3, 4, 5);
  }
  *macs = long{kTileRounds} * 4 * kTileRows * kTileRows * kTileBytes / 2;
  return stored_sum();
}
#endif

// Multiply-adds a second of `threads` threads in this mode.
template <class Mode>
double peak_rate(int threads) {
  Crew crew(threads);
  std::vector<double> rates(crew.size());
  crew.run([&](int thread) {
    const TileScope tiles;
    long macs = 0;
    const double calls =
        calls_per_second([&] { return register_work(static_cast<const Mode*>(nullptr), &macs); });
    rates[thread] = macs * calls;
  });
  double total = 0;
  for (double rate : rates) total += rate;
  return total;
}

}  // namespace SRNN_ISA
}  // namespace srnn
