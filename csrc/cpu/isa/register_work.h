// Work whose time is bound by one thing only: reading memory, or multiply-adds in registers.
#pragma once

#include "modes.h"

namespace srnn {
namespace SRNN_ISA {

inline int32_t fold(Ints value) {
  int32_t sum = 0;
  for (int i = 0; i < kLanes; ++i) sum ^= value[i];
  return sum;
}

// How many loads are in flight at once, and the bytes that they read together.
constexpr int kReadChains = 8;
constexpr long kReadStep = sizeof(Ints) * kReadChains;

// Reads `bytes`, which is a multiple of kReadStep.
inline int32_t read_once(const char* from, size_t bytes) {
  Ints sum[kReadChains] = {};
  for (size_t at = 0; at < bytes; at += kReadStep) {
    for (int i = 0; i < kReadChains; ++i) sum[i] ^= load<Ints>(from + at + i * sizeof(Ints));
  }
  for (int i = 1; i < kReadChains; ++i) sum[0] ^= sum[i];
  return fold(sum[0]);
}

// How many independent sums there are: enough to hide the latency of every instruction.
constexpr int kChains = 10;
constexpr int kRounds = 1000;

// Makes kRounds x kChains times sum = step(sum, a), in registers.
template <class Vector, class Step>
inline int32_t repeat_step(Vector a, const Step& step) {
  Vector sum[kChains] = {};
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kChains; ++i) {
      forget(a);  // otherwise the compiler would compute the product only once
      sum[i] = step(sum[i], a);
    }
  }
  for (int i = 1; i < kChains; ++i) sum[0] += sum[i];
  return fold((Ints)sum[0]);
}

// Each of these makes the multiply-adds of its mode and sets `macs` to their number.
template <class Format>
inline int32_t register_work(const FloatMode<Format>*, long* macs) {
  *macs = long{kRounds} * kChains * kLanes;
  const Floats b = broadcast(0.5f);
  return repeat_step(broadcast(1.0f), [b](Floats sum, Floats a) { return fma(a, b, sum); });
}
inline int32_t register_work(const Int8Mode*, long* macs) {
  // A lane holds two inputs, as two 16-bit codes or as four bytes of which two make an input.
  *macs = long{kRounds} * kChains * kLanes * 2;
  const Ints ones = broadcast_word("\1\1\1\1");
  return repeat_step(ones, [ones](Ints sum, Ints a) {
#if defined(SRNN_PLANES)
    return add_quads(sum, a, ones);
#else
    return sum + multiply_pairs((Shorts)a, (Shorts)ones);
#endif
  });
}

template <class Codes>
inline int32_t register_work(const FourBitMode<Codes>*, long* macs) {
  return register_work(static_cast<const Int8Mode*>(nullptr), macs);
}

#if defined(SRNN_TILES)
inline int32_t register_work(const TileInt8Mode*, long* macs);
#endif
template <class Whole, class OfBlocks>
inline int32_t register_work(const BlockMode<Whole, OfBlocks>*, long* macs) {
  return register_work(static_cast<const Whole*>(nullptr), macs);
}

#if defined(SRNN_TILES)
constexpr int kTileRounds = 20;

// Makes `dots`, four dot products of tiles 4 and 5 into tiles 0 to 3, kTileRounds times.
template <class Dots>
inline int32_t repeat_dots(const Dots& dots, long* macs) {
  SRNN_TILE_ZERO(0);
  SRNN_TILE_ZERO(1);
  SRNN_TILE_ZERO(2);
  SRNN_TILE_ZERO(3);
  SRNN_TILE_ZERO(4);
  SRNN_TILE_ZERO(5);
  for (int round = 0; round < kTileRounds; ++round) dots();
  // Two bytes make one input: its two planes, or one number in bfloat16.
  *macs = long{kTileRounds} * 4 * kTileRows * kTileRows * kTileBytes / 2;
  alignas(64) int32_t sums[kTileRows][kTileBytes / 4];
  SRNN_TILE_STORE(0, sums[0], sizeof(sums[0]));
  return sums[0][0];
}

inline int32_t register_work(const TileInt8Mode*, long* macs) {
  return repeat_dots(
      [] {
        SRNN_TILE_DOT_BYTES(0, 4, 5);
        SRNN_TILE_DOT_BYTES(1, 4, 5);
        SRNN_TILE_DOT_BYTES(2, 4, 5);
        SRNN_TILE_DOT_BYTES(3, 4, 5);
      },
      macs);
}
inline int32_t register_work(const TileBfloat16Mode*, long* macs) {
  return repeat_dots(
      [] {
        SRNN_TILE_DOT_BFLOAT16(0, 4, 5);
        SRNN_TILE_DOT_BFLOAT16(1, 4, 5);
        SRNN_TILE_DOT_BFLOAT16(2, 4, 5);
        SRNN_TILE_DOT_BFLOAT16(3, 4, 5);
      },
      macs);
}
#endif

}  // namespace SRNN_ISA
}  // namespace srnn
