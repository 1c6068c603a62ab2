// Work whose time is known to be bound by one thing: reading memory, or multiply-adds in registers.
#pragma once

#include "modes.h"

namespace srnn {
namespace SRNN_ISA {

inline int32_t fold(Ints value) {
  int32_t sum = 0;
  for (int i = 0; i < kLanes; ++i) sum ^= value[i];
  return sum;
}

constexpr int kReadChains = 8;
constexpr long kReadStep = sizeof(Ints) * kReadChains;

// All of `bytes`, whole steps.
inline int32_t read_once(const char* from, size_t bytes) {
  Ints sum[kReadChains] = {};
  for (size_t at = 0; at < bytes; at += kReadStep) {
    for (int i = 0; i < kReadChains; ++i) sum[i] ^= load<Ints>(from + at + i * sizeof(Ints));
  }
  for (int i = 1; i < kReadChains; ++i) sum[0] ^= sum[i];
  return fold(sum[0]);
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
// Tile numbers are part of an instruction, so the loop is one text for two instructions.
#define SRNN_TILE_WORK(DOT, macs)                                           \
  SRNN_TILE_ZERO(0);                                                        \
  SRNN_TILE_ZERO(1);                                                        \
  SRNN_TILE_ZERO(2);                                                        \
  SRNN_TILE_ZERO(3);                                                        \
  SRNN_TILE_ZERO(4);                                                        \
  SRNN_TILE_ZERO(5);                                                        \
  for (int round = 0; round < kTileRounds; ++round) {                       \
    DOT(0, 4, 5);                                                           \
    DOT(1, 4, 5);                                                           \
    DOT(2, 4, 5);                                                           \
    DOT(3, 4, 5);                                                           \
  }                                                                         \
  *(macs) = long{kTileRounds} * 4 * kTileRows * kTileRows * kTileBytes / 2; \
  return stored_sum()

// Bytes: two planes make one input. bfloat16: two bytes are one.
inline int32_t register_work(const TileInt8Mode*, long* macs) {
  SRNN_TILE_WORK(SRNN_TILE_DOT_BYTES, macs);
}
inline int32_t register_work(const TileBfloat16Mode*, long* macs) {
  SRNN_TILE_WORK(SRNN_TILE_DOT_BFLOAT16, macs);
}
#endif

}  // namespace SRNN_ISA
}  // namespace srnn
