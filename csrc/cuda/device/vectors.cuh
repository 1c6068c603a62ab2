// What exchanges there are, what each carries, and where its buffers lie. How: exchange.cuh.
#pragma once

#include "cuda/device/shape.cuh"

namespace srnn {

// The numbering of cuda_plan.exchange_names.
constexpr int kStatePlace = 0, kInnerPlace = kStatePlace + kTiers * kLayers;
constexpr int kOutPlace = kInnerPlace + kTiers * kLayers, kMlpPlace = kOutPlace + kTiers;
constexpr int kLogitPlace = kMlpPlace + kHidden + 1, kLevelPlace = kLogitPlace + 1;
// Roles: products that helpers make, of each tier and layer, or of each tier.
constexpr int kEarlyPlace = kLevelPlace + 1, kCandidatePlace = kEarlyPlace + kTiers * kLayers;
constexpr int kStackPlace = kCandidatePlace + kTiers * kLayers;
constexpr int kSkipPlace = kStackPlace + kTiers * kLayers, kUpPlace = kSkipPlace + kTiers;
constexpr int kPlaces = kUpPlace + kTiers;
// What the lowest tier gives is made of this.
constexpr int kLowestPlace = kSkips ? kOutPlace : kStatePlace + kLayers - 1;

constexpr int kPayload = 3;  // floats of a packet of 16 bytes; the fourth word is its tag

template <class V>
SRNN_CONSTEXPR int packets() {
  return divide_up(V::kChunk, kPayload);
}
// Bytes of one vector in the buffer of an exchange.
template <class V>
SRNN_CONSTEXPR uint64_t vector_bytes() {
  return in_packets(V::kProtocol) ? uint64_t{16} * V::kGivers * packets<V>()
                                  : round_up(uint64_t{4} * V::kCols, 16);
}
// One copy of one buffer of an exchange.
template <class V>
SRNN_CONSTEXPR uint64_t copy_bytes() {
  return V::kRows * vector_bytes<V>();
}
template <class V>
SRNN_CONSTEXPR uint64_t exchange_bytes() {
  return align(V::kBuffers * V::kCopies * copy_bytes<V>());
}

constexpr uint64_t kCounterBytes = 256;  // of the workspace

// What one exchange carries: kRows vectors of kCols numbers, kChunk of them from each of kGivers
// blocks; kBuffers used in turn: some may be written while others are still read. offset(place): in
// the workspace or in a block's buffers.
struct UnitVectors {
  static constexpr Protocol kProtocol = kExchange;
  static constexpr int kRows = kBatch, kCols = kDim, kChunk = kUnits, kGivers = kBlocks;
  static constexpr int kBuffers = 2, kCopies = kProtocol == Protocol::kTagged ? SRNN_COPIES : 1;
  // Heads tell each other what the lowest tier gives is made of, and the parts of the MLP.
  static constexpr int kSlots = kRoles ? kHidden + 2 : kLogitPlace;
  static constexpr uint64_t kOffset = in_own_memory(kProtocol) ? 0 : kCounterBytes;
  static SRNN_CONSTEXPR uint64_t offset(int place) {
    const int slot = !kRoles ? place : place < kMlpPlace ? 0 : place - kMlpPlace + 1;
    return kOffset + slot * exchange_bytes<UnitVectors>();
  }
};
struct LogitVectors {
  static constexpr Protocol kProtocol = kExchange;
  static constexpr int kRows = kBatch, kCols = kLevels, kChunk = kLogitRows, kGivers = kBlocks;
  static constexpr int kBuffers = 2, kCopies = UnitVectors::kCopies;
  static SRNN_CONSTEXPR uint64_t offset(int) {
    return UnitVectors::kOffset + UnitVectors::kSlots * exchange_bytes<UnitVectors>();
  }
};
struct LevelVector {
  static constexpr Protocol kProtocol = kExchange;
  static constexpr int kRows = 1, kCols = kBatch, kChunk = kDrawStreams, kGivers = kBlocks;
  static constexpr int kBuffers = 2, kCopies = UnitVectors::kCopies;
  static SRNN_CONSTEXPR uint64_t offset(int place) {
    return LogitVectors::offset(place) + exchange_bytes<LogitVectors>();
  }
};
constexpr uint64_t kExchangeBytes = LevelVector::offset(kLevelPlace) - UnitVectors::kOffset +
                                    (kDrawAll ? 0 : exchange_bytes<LevelVector>());
constexpr uint64_t kExchangesEnd = kCounterBytes + (in_own_memory(kExchange) ? 0 : kExchangeBytes);

// Roles: from heads to helpers, everything that a tier's products are made of.
struct TierVectors {
  static constexpr Protocol kProtocol = Protocol::kTagged;
  static constexpr int kRows = kBatch, kCols = kDim, kChunk = kUnits, kGivers = kBlocks;
  static constexpr int kBuffers = 2, kCopies = SRNN_COPIES;
  static SRNN_CONSTEXPR uint64_t offset(int place) {
    return kExchangesEnd + place * exchange_bytes<TierVectors>();
  }
};
// Roles: from helpers to heads, what the lowest tier gives to a sample.
struct InputVectors {
  static constexpr Protocol kProtocol = Protocol::kTagged;
  static constexpr int kRows = kBatch, kCols = kDim, kChunk = kProductUnits, kGivers = kHelpers;
  static constexpr int kBuffers = larger(2, ratio(0)), kCopies = 1;  // of all samples of a frame
  static SRNN_CONSTEXPR uint64_t offset(int) { return TierVectors::offset(kMlpPlace); }
};
// What products of the tiers are made of.
template <bool kApart>
struct Source {
  typedef UnitVectors Vectors;
};
template <>
struct Source<true> {
  typedef TierVectors Vectors;
};
typedef Source<kRoles>::Vectors SourceVectors;

// Roles: from a helper to a head, products of one unit and stream with some rows.
constexpr int kProductPackets = kReaders * divide_up(kGates, kPayload);
constexpr uint64_t kProductsOffset = InputVectors::offset(0) + exchange_bytes<InputVectors>();
SRNN_CONSTEXPR uint64_t product_offset(int place, int stream, int unit) {
  const uint64_t row = uint64_t{1} * (place - kEarlyPlace) * kBatch + stream;
  return kProductsOffset + (row * kDim + unit) * kProductPackets * 16;
}

}  // namespace srnn
