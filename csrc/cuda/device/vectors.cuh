// Which results blocks exchange, what each exchange carries, and where its buffers lie. How blocks
// exchange them is in exchange.cuh.
#pragma once

#include "cuda/device/shape.cuh"

namespace srnn {

// The place of an exchange says which result it carries, numbered as in constants.exchange_names: h
// of each tier and layer, the reset state that a candidate reads, the output of each tier, the
// inputs of the MLP's layers, the logits, and the levels.
constexpr int kStatePlace = 0, kInnerPlace = kStatePlace + kTiers * kLayers;
constexpr int kOutputPlace = kInnerPlace + kTiers * kLayers, kMlpPlace = kOutputPlace + kTiers;
constexpr int kLogitPlace = kMlpPlace + kHidden + 1, kLevelPlace = kLogitPlace + 1;

// Floats of a packet of 16 bytes; its fourth word is the sequence number.
constexpr int kPayload = 3;
// Buffers of an exchange. They are used in turn, because a slow block may still read one while a
// fast block writes the next.
constexpr int kBuffers = 2;

template <class V>
SRNN_CONSTEXPR int packets() {
  return divide_up(V::kSlice, kPayload);
}
// Bytes of one vector in the buffer of an exchange.
template <class V>
SRNN_CONSTEXPR uint64_t vector_bytes() {
  return in_packets(kExchange) ? uint64_t{16} * V::kWriters * packets<V>()
                               : round_up(uint64_t{4} * V::kCols, 16);
}
// Bytes of one copy of one buffer of an exchange.
template <class V>
SRNN_CONSTEXPR uint64_t copy_bytes() {
  return V::kRows * vector_bytes<V>();
}
template <class V>
SRNN_CONSTEXPR uint64_t exchange_bytes() {
  return align(kBuffers * kCopies * copy_bytes<V>());
}

// The structs below say what an exchange carries: kRows vectors of kCols numbers, of which each of
// kWriters blocks writes a slice of kSlice; kByOwners says whether the numbers were written by the
// threads that own them (each_owned). offset(place) is the offset of the buffers in the
// workspace, or in a block's own memory.

// Vectors of width D, one for each stream.
struct UnitVectors {
  static constexpr int kRows = kBatch, kCols = kDim, kSlice = kUnits, kWriters = kBlocks;
  static constexpr bool kByOwners = true;
  static SRNN_CONSTEXPR uint64_t offset(int place) { return place * exchange_bytes<UnitVectors>(); }
};
// The logits of each stream.
struct LogitVectors {
  static constexpr int kRows = kBatch, kCols = kLevels, kSlice = kLogitRows, kWriters = kBlocks;
  static constexpr bool kByOwners = true;
  static SRNN_CONSTEXPR uint64_t offset(int) { return UnitVectors::offset(kLogitPlace); }
};
// One vector of the levels of all streams, where each block draws some of them.
struct LevelVector {
  static constexpr int kRows = 1, kCols = kBatch, kSlice = kDrawStreams, kWriters = kBlocks;
  static constexpr bool kByOwners = false;
  static SRNN_CONSTEXPR uint64_t offset(int place) {
    return LogitVectors::offset(place) + exchange_bytes<LogitVectors>();
  }
};
constexpr uint64_t kExchangeBytes =
    LevelVector::offset(kLevelPlace) + (kDrawAll ? 0 : exchange_bytes<LevelVector>());

}  // namespace srnn
