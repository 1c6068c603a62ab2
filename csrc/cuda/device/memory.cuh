// The memory that a block has for itself: what it works on, what it keeps, and which rows of
// matrices stay in shared memory; and the workspace, where the rest of it is.
#pragma once

#include "cuda/device/vectors.cuh"

namespace srnn {

// Products with the last hidden state that wait for the next frame: all gates of an LSTM and of a
// GRU that resets after the product; r and z of the other.
constexpr int kEarlyGates = kLstm || kResetAfter ? kGates : 2;
constexpr int kMostCols = kSkips ? kLayers * kDim : kDim;
constexpr int kRawCols =
    static_cast<int>(round_up(kBfloat16 ? kLevels : larger(kMostCols, kLevels), 16));
constexpr int kWeightCols = static_cast<int>(round_up(kLevels, 16));
// A staged row in the format of the weights; rows of tensor products begin 16 banks apart.
constexpr int kCodeBytes =
    static_cast<int>(round_up(row_bytes(kMostCols), 128)) + (kTensor ? 64 : 0);
constexpr int kMostRows = larger(kRoles ? kUnits : 0, larger(kGates* kProductUnits, kLogitRows));
constexpr int kCellFloats = kUnits * kBatch;  // a number for each own unit and stream

SRNN_CONSTEXPR int conditioning_floats() {
  int blocks = 0;
  for (int tier = 0; tier < kTiers; ++tier) blocks += below_blocks(tier);
  return blocks * kCellFloats;
}

// How one sample of one stream is to be made.
struct Draw {
  int32_t forced;  // the level, or -1
  uint32_t draw;
  float temperature;
};

// Places of staged vectors of a tile: the one that products work with, and of few streams one for
// what each tier gives from, which stays there for all products of its frame.
constexpr int kRowBytes = kInt8 || kBfloat16 ? kCodeBytes : 4 * kRawCols;
constexpr uint64_t kStagedBytes = uint64_t{1} * (kInt8 ? 2 : 1) * kTile * kRowBytes;
constexpr uint64_t kOutputBytes = kStagedBytes + round_up(kTile * 4, 16);  // and scales
constexpr uint64_t kMostOutputBytes = SRNN_SHARED_BYTES / 3;
constexpr bool kKeepOutputs =
    !kLaunched && kBatch <= kTile && kTiers * kOutputBytes <= kMostOutputBytes;

// Arrays that only one block uses. What it works on at the moment comes first into shared memory,
// then what it keeps from one sample to a later one; what does not fit is in the workspace.
struct BlockArrays {
  uint64_t scales, peaks, draws, raw, codes, outputs, partial, products, own, exchange, weights,
      end;
};
SRNN_CONSTEXPR BlockArrays make_block_arrays() {
  BlockArrays to = {};
  uint64_t at = 0;
  to.scales = at, at += round_up(kTile * 4, 16);
  to.peaks = at, at += kInt8 ? round_up(uint64_t{4} * kTile * kWarpsOfRow, 16) : 0;
  to.draws = at, at += round_up(uint64_t{2} * kBatch * sizeof(Draw), 16);
  to.raw = at, at += uint64_t{4} * kTile * kRawCols;
  to.codes = at, at += uint64_t{1} * (kInt8 ? 2 : kBfloat16 ? 1 : 0) * kTile * kCodeBytes;
  to.outputs = at, at += kKeepOutputs ? kTiers * kOutputBytes : 0;
  to.partial = at;
  at += kTensor ? uint64_t{4} * kWarps * kTensorRows * kTensorStreams : 0;
  to.products = at, at += kTensor ? uint64_t{4} * kMostRows * kTensorStreams : 0;
  constexpr int kMostUnits = larger(kProductUnits, larger(kUnits, kLogitRows));
  to.own = at, at += round_up(uint64_t{4} * kBatch * kMostUnits, 16);
  to.exchange = at, at += in_own_memory(kExchange) ? kExchangeBytes : 0;
  to.weights = at, at += uint64_t{4} * kTile * kWeightCols;
  to.end = at;
  return to;
}
constexpr BlockArrays kArrays = make_block_arrays();

struct KeptArrays {
  uint64_t input, state, early, conditioning, kept, levels, end;
};
SRNN_CONSTEXPR KeptArrays make_kept_arrays() {
  KeptArrays to = {};
  uint64_t at = 0;
  to.input = at, at += kWholeInput ? round_up(uint64_t{4} * kBatch * kDim, 16) : 0;
  to.state = at, at += round_up(uint64_t{4} * kTiers * kLayers * (kLstm ? 2 : 1) * kCellFloats, 16);
  to.early = at, at += round_up(uint64_t{4} * kTiers * kLayers * kEarlyGates * kCellFloats, 16);
  to.conditioning = at, at += round_up(uint64_t{4} * conditioning_floats(), 16);
  to.kept = at, at += round_up(uint64_t{8} * kCellFloats, 16);
  to.levels = at, at += round_up(uint64_t{4} * kBatch * kLookback, 16);
  to.end = at;
  return to;
}
constexpr KeptArrays kKept = make_kept_arrays();

// Other blocks of a cluster reach shared memory only. The host takes no kernel that needs more of
// it than there is.
constexpr bool kArraysShared = kCluster || kArrays.end <= SRNN_SHARED_BYTES;
constexpr bool kKeptShared =
    kRoles || (!kLaunched && kArraysShared && kArrays.end + kKept.end <= SRNN_SHARED_BYTES);
constexpr uint64_t kArraysBytes = (kArraysShared ? kArrays.end : 0) + (kKeptShared ? kKept.end : 0);

// Some of the blocks of rows of a matrix, of which own rows may stay in shared memory.
struct Resident {
  bool on;          // whether they do
  uint64_t offset;  // in shared memory
  int first, blocks;
};
struct Residents {
  Resident output, hidden[kHidden + 1], up[kTiers], recurrent[kTiers], stack[kTiers];
  Resident input;  // roles: what heads have of the lowest tier's upsampling
  uint64_t heads_end, end;
};
// units: own rows of one block of them; all of dim D.
SRNN_CONSTEXPR Resident place_resident(uint64_t& at, int units, int blocks, int first = 0) {
  const uint64_t bytes = uint64_t{1} * units * blocks * resident_bytes(kDim);
  if (kLaunched || blocks == 0 || at + bytes > SRNN_SHARED_BYTES) return {false, 0, first, 0};
  const Resident placed = {true, at, first, blocks};
  at += bytes;
  return placed;
}
// The most often read rows first; what does not fit is read from L2 each time. So is everything
// where shared memory does not outlast a stage. Of roles each has all of shared memory.
SRNN_CONSTEXPR Residents make_residents() {
  Residents to = {};
  uint64_t at = kArraysBytes;
  to.output = place_resident(at, kLogitRows, 1);
  for (int i = 0; i < kHidden; ++i) to.hidden[i] = place_resident(at, kUnits, 1);
  for (int blocks = ratio(0); kRoles && blocks > 0 && !to.input.on; --blocks) {
    to.input = place_resident(at, kUnits, blocks);
  }
  to.heads_end = at;
  if (kRoles) at = kArraysBytes;
  for (int tier = 0; tier < kTiers; ++tier) {
    const int given = tier == 0 ? to.input.blocks : 0, below = ratio(tier) * below_blocks(tier);
    to.up[tier] = place_resident(at, kProductUnits, below - given, given);
    to.recurrent[tier] = place_resident(at, kProductUnits, kLayers * kGates);
    to.stack[tier] = place_resident(at, kProductUnits, (kLayers - 1) * kGates);
  }
  to.end = at > to.heads_end ? at : to.heads_end;
  return to;
}
constexpr Residents kResidents = make_residents();
// Roles: of the samples of the lowest tier's frame, those for which heads make what it gives.
constexpr int kHeadInputs = kResidents.input.blocks;

// --- the workspace ----------------------------------------------------------------------------

// kLaunched: what a block knows of the time, from one launch to the next. Zero before the first.
struct Clock {
  int32_t begun;      // samples
  uint32_t networks;  // of them with a sample-level network
  uint32_t loud;      // whether the sample that is being made is one of them
  uint32_t stopped;   // after an error
};
// Of one group: counters, exchanges, and of each block the arrays that are not in shared memory.
constexpr uint64_t kArraysOffset = kRoles ? align(product_offset(kPlaces, 0, 0)) : kExchangesEnd;
constexpr uint64_t kKeptOffset = kArraysShared ? 0 : align(kArrays.end);
constexpr uint64_t kClockOffset = kKeptOffset + (kKeptShared ? 0 : align(kKept.end));
constexpr uint64_t kBlockBytes = kClockOffset + (kLaunched ? align(sizeof(Clock)) : 0);
constexpr uint64_t kGroupBytes = kArraysOffset + kBlockBytes * kBlocks;
constexpr uint64_t kWorkspaceEnd = kGroups * kGroupBytes;

}  // namespace srnn