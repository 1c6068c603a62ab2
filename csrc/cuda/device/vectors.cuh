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
// Roles: products that helpers compute, for each tier and layer or for each tier.
constexpr int kRecurrentPlace = kLevelPlace + 1;
constexpr int kCandidatePlace = kRecurrentPlace + kTiers * kLayers;
constexpr int kStackPlace = kCandidatePlace + kTiers * kLayers;
constexpr int kSkipPlace = kStackPlace + kTiers * kLayers, kUpPlace = kSkipPlace + kTiers;
constexpr int kPlaces = kUpPlace + kTiers;
// The output of the lowest tier, which it upsamples for samples.
constexpr int kLowestPlace = kSkips ? kOutputPlace : kStatePlace + kLayers - 1;

// Floats of a packet of 16 bytes; its fourth word is the sequence number.
constexpr int kPayload = 3;

template <class V>
SRNN_CONSTEXPR int packets() {
  return divide_up(V::kSlice, kPayload);
}
// Bytes of one vector in the buffer of an exchange.
template <class V>
SRNN_CONSTEXPR uint64_t vector_bytes() {
  return in_packets(V::kProtocol) ? uint64_t{16} * V::kWriters * packets<V>()
                                  : round_up(uint64_t{4} * V::kCols, 16);
}
// Bytes of one copy of one buffer of an exchange.
template <class V>
SRNN_CONSTEXPR uint64_t copy_bytes() {
  return V::kRows * vector_bytes<V>();
}
template <class V>
SRNN_CONSTEXPR uint64_t exchange_bytes() {
  return align(V::kBuffers * V::kCopies * copy_bytes<V>());
}

// Bytes at the start of the workspace that the counter of exchanges has for itself.
constexpr uint64_t kCounterBytes = 256;

// The structs below say what an exchange carries: kRows vectors of kCols numbers, of which each of
// kWriters blocks writes a slice of kSlice. Its kBuffers are used in turn, because a slow block may
// still read one while a fast block writes the next. offset(place) is the offset of the buffers in
// the workspace, or in a block's own memory.

// Vectors of width D, one for each stream.
struct UnitVectors {
  static constexpr Protocol kProtocol = kExchange;
  static constexpr int kRows = kBatch, kCols = kDim, kSlice = kUnits, kWriters = kBlocks;
  static constexpr int kBuffers = 2, kCopies = kProtocol == Protocol::kTagged ? SRNN_COPIES : 1;
  // Heads exchange only the output of the lowest tier and the inputs of the MLP's layers.
  static constexpr int kSlots = kRoles ? kHidden + 2 : kLogitPlace;
  static constexpr uint64_t kOffset = in_own_memory(kProtocol) ? 0 : kCounterBytes;
  static SRNN_CONSTEXPR uint64_t offset(int place) {
    const int slot = !kRoles ? place : place < kMlpPlace ? 0 : place - kMlpPlace + 1;
    return kOffset + slot * exchange_bytes<UnitVectors>();
  }
};
// The logits of each stream.
struct LogitVectors {
  static constexpr Protocol kProtocol = kExchange;
  static constexpr int kRows = kBatch, kCols = kLevels, kSlice = kLogitRows, kWriters = kBlocks;
  static constexpr int kBuffers = 2, kCopies = UnitVectors::kCopies;
  static SRNN_CONSTEXPR uint64_t offset(int) {
    return UnitVectors::kOffset + UnitVectors::kSlots * exchange_bytes<UnitVectors>();
  }
};
// One vector of the levels of all streams, where each block draws some of them.
struct LevelVector {
  static constexpr Protocol kProtocol = kExchange;
  static constexpr int kRows = 1, kCols = kBatch, kSlice = kDrawStreams, kWriters = kBlocks;
  static constexpr int kBuffers = 2, kCopies = UnitVectors::kCopies;
  static SRNN_CONSTEXPR uint64_t offset(int place) {
    return LogitVectors::offset(place) + exchange_bytes<LogitVectors>();
  }
};
constexpr uint64_t kExchangeBytes = LevelVector::offset(kLevelPlace) - UnitVectors::kOffset +
                                    (kDrawAll ? 0 : exchange_bytes<LevelVector>());
constexpr uint64_t kExchangesEnd = kCounterBytes + (in_own_memory(kExchange) ? 0 : kExchangeBytes);

// Roles: the vectors that heads send to helpers, which multiply the tiers' matrices with them.
struct TierVectors {
  static constexpr Protocol kProtocol = Protocol::kTagged;
  static constexpr int kRows = kBatch, kCols = kDim, kSlice = kUnits, kWriters = kBlocks;
  static constexpr int kBuffers = 2, kCopies = SRNN_COPIES;
  static SRNN_CONSTEXPR uint64_t offset(int place) {
    return kExchangesEnd + place * exchange_bytes<TierVectors>();
  }
};
// Roles: what helpers upsample for a sample from the lowest tier, with a buffer for each sample of
// a frame.
struct InputVectors {
  static constexpr Protocol kProtocol = Protocol::kTagged;
  static constexpr int kRows = kBatch, kCols = kDim, kSlice = kProductUnits, kWriters = kHelpers;
  static constexpr int kBuffers = larger(2, ratio(0)), kCopies = 1;
  static SRNN_CONSTEXPR uint64_t offset(int) { return TierVectors::offset(kMlpPlace); }
};
// The vectors that the tiers' matrices are multiplied with.
template <bool kApart>
struct Source {
  typedef UnitVectors Vectors;
};
template <>
struct Source<true> {
  typedef TierVectors Vectors;
};
typedef Source<kRoles>::Vectors SourceVectors;

// Roles: packets with the products of one unit and stream, from a helper to a head.
constexpr int kProductPackets = kReaders * divide_up(kGates, kPayload);
constexpr uint64_t kProductsOffset = InputVectors::offset(0) + exchange_bytes<InputVectors>();
SRNN_CONSTEXPR uint64_t product_offset(int place, int stream, int unit) {
  const uint64_t row = uint64_t{1} * (place - kRecurrentPlace) * kBatch + stream;
  return kProductsOffset + (row * kDim + unit) * kProductPackets * 16;
}

}  // namespace srnn
