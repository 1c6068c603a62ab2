// Which results blocks exchange, what each exchange carries, and where its buffers lie. How blocks
// exchange them is in exchange.cuh.
#pragma once

#include "cuda/device/shape.cuh"

namespace srnn {

// The place of an exchange says which result it carries, numbered as in constants.exchange_names: h
// of each tier and layer, the reset state that a candidate reads, the output of each tier, what the
// lowest tier upsamples ahead (kWholeInput), the inputs of the MLP's layers, the logits, and the
// levels.
constexpr int kStatePlace = 0, kResetPlace = kStatePlace + kTiers * kLayers;
constexpr int kOutputPlace = kResetPlace + kTiers * kLayers;
constexpr int kUpsampledPlace = kOutputPlace + kTiers, kMlpPlace = kUpsampledPlace + 1;
constexpr int kLogitPlace = kMlpPlace + kHidden + 1, kLevelPlace = kLogitPlace + 1;

// Packets have 16 bytes: three floats and a sequence number. With one stream they have 8: a float
// and a sequence number. So whichever thread has made a number can send it at once, and a block has
// no barrier between its products and their way to others. More streams would have to read a third
// more for that.
//   Numbers that are never negative have packets of 4 bytes then, whose sign tells their turn
// (turn_of): a buffer holds either the number that is due or the one that lay in it before, so one
// bit tells them apart. Readers get half as many bytes.
constexpr bool kSmallPackets = kInPackets && kBatch == 1;
constexpr int kPayload = 3;  // floats of a packet of 16 bytes
// Buffers of an exchange. They are used in turn, because a slow block may still read one while a
// fast block writes the next.
constexpr int kBuffers = 2;

template <class V>
SRNN_CONSTEXPR int packets() {
  return divide_up(V::kSlice, kPayload);
}
// Small packets: the number of spans of a vector. A span is V::kSpan neighbouring numbers, which
// one thread reads, packets_of_read packets at a time.
template <class V>
SRNN_CONSTEXPR int spans() {
  return divide_up(V::kCols, V::kSpan);
}
// Small packets: how many of them are read at a time, as 16 bytes.
template <class V>
SRNN_CONSTEXPR int packets_of_read() {
  return V::kUnsigned ? 4 : 2;
}
// Where the packet of a number lies. What neighbouring threads read at the same time are neighbours
// in memory.
template <class V>
SRNN_CONSTEXPR uint64_t small_packet_at(int number) {
  constexpr int kRead = packets_of_read<V>();
  const int read = number % V::kSpan / kRead, span = number / V::kSpan;
  return uint64_t{16} * (read * spans<V>() + span) + number % kRead * (16 / kRead);
}
// Bytes of one vector in the buffer of an exchange.
template <class V>
SRNN_CONSTEXPR uint64_t vector_bytes() {
  return kSmallPackets ? uint64_t{16} / packets_of_read<V>() * V::kSpan * spans<V>()
         : kInPackets  ? uint64_t{16} * kBlocks * packets<V>()
                       : round_up(uint64_t{4} * V::kCols, 16);
}
// Bytes of one buffer of an exchange.
template <class V>
SRNN_CONSTEXPR uint64_t buffer_bytes() {
  return V::kRows * vector_bytes<V>();
}
template <class V>
SRNN_CONSTEXPR uint64_t exchange_bytes() {
  return align(kBuffers * buffer_bytes<V>());
}

// Levels of a lane where a warp draws.
constexpr int kLaneLevels = static_cast<int>(round_up(divide_up(kLevels, kWarpSize), 2));
// This says whether the sum of all weights of a draw, which are at most 2^23 each, has 32 bits.
constexpr bool kShortSums = kLevels < 512;
// This says whether the warp that draws a stream reads its logits itself and keeps them in
// registers.
constexpr bool kWarpDraws = kSmallPackets && kShortSums;

// The structs below say what an exchange carries: kRows vectors of kCols numbers, of which each
// block writes a slice of kSlice; kByOwners says whether the numbers were written by the
// threads that own them (each_owned); kUnsigned says whether none of them is negative; kSpan, for
// small packets, is a multiple of packets_of_read. offset(place) is the offset of the buffers in
// the workspace, or in a block's own memory.

// Vectors of width D, one for each stream.
struct UnitVectors {
  static constexpr int kRows = kBatch, kCols = kDim, kSlice = kUnits;
  static constexpr int kSpan = 4;
  static constexpr bool kByOwners = true, kUnsigned = false;
  static SRNN_CONSTEXPR uint64_t offset(int place) { return place * exchange_bytes<UnitVectors>(); }
};
// These carry what the MLP's layers read, so every number has passed a ReLU.
struct InputVectors {
  static constexpr int kRows = kBatch, kCols = kDim, kSlice = kUnits;
  static constexpr int kSpan = 4;
  static constexpr bool kByOwners = true, kUnsigned = true;
  static SRNN_CONSTEXPR uint64_t offset(int place) {
    return UnitVectors::offset(kMlpPlace) + (place - kMlpPlace) * exchange_bytes<InputVectors>();
  }
};
// The logits of each stream.
struct LogitVectors {
  static constexpr int kRows = kBatch, kCols = kLevels, kSlice = kLogitRows;
  static constexpr int kSpan = kWarpDraws ? kLaneLevels : 4;
  static constexpr bool kByOwners = true, kUnsigned = false;
  static SRNN_CONSTEXPR uint64_t offset(int) { return InputVectors::offset(kLogitPlace); }
};
// One vector of the levels of all streams, where each block draws some of them.
struct LevelVector {
  static constexpr int kRows = 1, kCols = kBatch, kSlice = kDrawStreams;
  static constexpr int kSpan = 4;
  static constexpr bool kByOwners = false, kUnsigned = false;
  static SRNN_CONSTEXPR uint64_t offset(int place) {
    return LogitVectors::offset(place) + exchange_bytes<LogitVectors>();
  }
};
constexpr uint64_t kExchangeBytes =
    LevelVector::offset(kLevelPlace) + (kDrawAll ? 0 : exchange_bytes<LevelVector>());

}  // namespace srnn
