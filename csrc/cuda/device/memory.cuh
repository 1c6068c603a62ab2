// The memory of a block: the arrays that it works on, the arrays that it keeps between samples, and
// the rows of matrices that stay in shared memory; and the workspace, which holds the rest.
#pragma once

#include "cuda/device/shape.cuh"
#include "cuda/device/vectors.cuh"

namespace srnn {

// Gates whose recurrent product is computed before the next frame begins: all of an LSTM and of a
// GRU that resets after the product; r and z of the other GRU.
constexpr int kRecurrentGates = kLstm || kResetAfter ? kGates : 2;
constexpr int kMostCols = kSkips ? kLayers * kDim : kDim;
constexpr int kRawCols =
    static_cast<int>(round_up(kBfloat16 ? kLevels : larger(kMostCols, kLevels), 16));
constexpr int kWeightCols = static_cast<int>(round_up(kLevels, 16));
// Bytes of a row in the format of the weights. Rows of tensor products begin 16 banks apart.
constexpr int kCodeBytes =
    static_cast<int>(round_up(row_bytes(kMostCols), 128)) + (kTensor ? 64 : 0);
constexpr int kMostRows = larger(kGates * kUnits, kLogitRows);
// Products are computed for so many rows at a time, and every row's sum for each stream is added up
// from parts. There are two buffers of parts, used in turn.
constexpr int kPassRows = smaller(kTensorRows, divide_up(kMostRows, 8) * 8);
constexpr int kParts = kTensor ? kWarps : 1;
constexpr uint64_t kPartsBytes = uint64_t{4} * kParts * kPassRows * kTile;
constexpr int kOwnedFloats = kUnits * kBatch;  // one number for each own unit and stream

SRNN_CONSTEXPR int upsampled_floats() {
  int gates = 0;
  for (int tier = 0; tier < kTiers; ++tier) gates += upsampled_gates(tier);
  return gates * kOwnedFloats;
}

// Random draws are computed for so many samples at a time, because a draw is a long chain of
// operations, and other threads can compute others beside it.
constexpr int kDrawsAhead = kLaunched ? 1 : larger(1, kWarpSize / kBatch);

// How one sample of one stream is drawn.
struct Draw {
  int32_t forced;   // the level, or -1 where the model draws it
  uint32_t random;  // 32 random bits
  float temperature;
  float scale;       // sampler_scale(temperature)
  int32_t from_all;  // 1 where draw_from_all draws
};

// Rows are the vectors of a tile of streams that products read, in the format of the weights. With
// few streams each tier has rows of its own for its output, which stay for all products of a frame.
constexpr int kRowBytes = kInt8 || kBfloat16 ? kCodeBytes : 4 * kRawCols;
constexpr uint64_t kRowsBytes = uint64_t{1} * (kInt8 ? 2 : 1) * kTile * kRowBytes;
constexpr uint64_t kOutputRowsBytes = kRowsBytes + round_up(kTile * 4, 16);  // with their scales
constexpr uint64_t kMostOutputRowsBytes = SRNN_SHARED_BYTES / 3;
constexpr bool kKeepOutputRows =
    !kLaunched && kBatch <= kTile && kTiers * kOutputRowsBytes <= kMostOutputRowsBytes;

// Offsets of common rows: those that are not a tier's output. They have logits, too.
struct CommonRows {
  uint64_t raw, codes, end;
};
SRNN_CONSTEXPR CommonRows make_common_rows() {
  CommonRows to = {};
  uint64_t at = 0;
  to.raw = at, at += uint64_t{4} * kTile * kRawCols;
  to.codes = at, at += uint64_t{1} * (kInt8 ? 2 : kBfloat16 ? 1 : 0) * kTile * kCodeBytes;
  to.end = round_up(at, 128);
  return to;
}
constexpr CommonRows kCommonRows = make_common_rows();
// This says whether each team has common rows. The second of two teams needs none where it
// multiplies nothing but tiers' outputs, which have rows, and makes no codes of float32 rows.
constexpr bool kRowsOfTeams = kTeams > 1 && (kInt8 || kSkips || kLayers > 1 || !kKeepOutputRows);

// Offsets of the arrays that a team of a block works on.
struct TeamArrays {
  uint64_t scales, peaks, parts, products, own, end;
};
SRNN_CONSTEXPR TeamArrays make_team_arrays() {
  TeamArrays to = {};
  uint64_t at = 0;
  to.scales = at, at += round_up(kTile * 4, 16);
  to.peaks = at, at += kInt8 ? round_up(uint64_t{4} * kTile * kWarpsOfRow, 16) : 0;
  to.parts = at, at += 2 * kPartsBytes;
  to.products = at;
  at += kMostRows > kPassRows ? round_up(uint64_t{4} * kMostRows * kTile, 16) : 0;
  constexpr int kMostUnits = larger(kUnits, kLogitRows);
  to.own = at, at += round_up(uint64_t{4} * kBatch * kMostUnits, 16);
  to.end = kTeams == 1 ? at : round_up(at, 128);
  return to;
}
constexpr TeamArrays kTeamArrays = make_team_arrays();

// Offsets of the arrays that a block works on. They come first into shared memory; where it is too
// small, they are in the workspace.
struct BlockArrays {
  uint64_t teams, rows, draws, outputs, exchange, weights, end;
};
SRNN_CONSTEXPR BlockArrays make_block_arrays() {
  BlockArrays to = {};
  uint64_t at = 0;
  to.teams = at, at += kTeams * kTeamArrays.end;
  to.rows = at, at += (kRowsOfTeams ? kTeams : 1) * kCommonRows.end;
  to.draws = at, at += round_up(uint64_t{2} * kBatch * kDrawsAhead * sizeof(Draw), 16);
  to.outputs = at, at += kKeepOutputRows ? kTiers * kOutputRowsBytes : 0;
  to.exchange = at, at += kOwnBuffers ? kExchangeBytes : 0;
  to.weights = at, at += uint64_t{4} * kTile * kWeightCols;
  to.end = at;
  return to;
}
constexpr BlockArrays kArrays = make_block_arrays();

// Biases of own rows that a block keeps: of the MLP's hidden layers, of the logits, and of the
// candidates' recurrent products in a GRU that resets after them.
constexpr int kLogitBias = kHidden * kUnits, kCandidateBias = kLogitBias + kLogitRows;
constexpr int kBiases = kCandidateBias + (kResetAfter ? kTiers * kLayers * kUnits : 0);

// This says whether a block keeps the weights of a frame's newest sample: one stream waits for
// them. With more streams they would take room from matrices, and the wait is shared.
constexpr bool kKeepNewest = kBatch == 1;

// Offsets of the arrays that a block keeps from one sample to the next. They come second into
// shared memory.
struct KeptArrays {
  uint64_t input, taps, own_taps, state, older, recurrent, upsampled, candidate_input, biases,
      newest_weights, values, levels, end;
};
SRNN_CONSTEXPR KeptArrays make_kept_arrays() {
  KeptArrays to = {};
  uint64_t at = 0;
  to.input = at, at += kWholeInput ? round_up(uint64_t{4} * kBatch * kDim, 16) : 0;
  to.taps = at, at += kWholeInput ? round_up(uint64_t{4} * kBatch * kDim, 16) : 0;
  to.own_taps = at, at += kWholeInput ? round_up(uint64_t{4} * kOwnedFloats, 16) : 0;
  to.state = at;
  at += round_up(uint64_t{4} * kTiers * kLayers * (kLstm ? 2 : 1) * kOwnedFloats, 16);
  to.older = at;
  at += kLaunched ? 0 : round_up(uint64_t{4} * kTiers * kLayers * kGates * kOwnedFloats, 16);
  to.recurrent = at;
  at += round_up(uint64_t{4} * kTiers * kLayers * kRecurrentGates * kOwnedFloats, 16);
  to.upsampled = at, at += round_up(uint64_t{4} * upsampled_floats(), 16);
  to.candidate_input = at, at += round_up(uint64_t{8} * kOwnedFloats, 16);
  to.biases = at, at += round_up(uint64_t{4} * kBiases, 16);
  to.newest_weights = at;
  at += kKeepNewest ? round_up(uint64_t{4} * kTiers * kReaders * kGates * kUnits, 16) : 0;
  to.values = at, at += round_up(uint64_t{4} * kLevels, 16);
  to.levels = at, at += round_up(uint64_t{4} * kBatch * kLookback, 16);
  to.end = at;
  return to;
}
constexpr KeptArrays kKept = make_kept_arrays();
static_assert(kCommonRows.codes % 16 == 0 && kTeamArrays.end % 16 == 0 && kArrays.rows % 16 == 0 &&
                  kArrays.outputs % 16 == 0 && kArrays.exchange % 16 == 0 &&
                  kArrays.end % 16 == 0 && kKept.taps % 16 == 0 && kKept.end % 16 == 0 &&
                  kPartsBytes % 16 == 0,
              "they are read 16 bytes at a time");

// A cluster's arrays must be in shared memory, because its blocks write into each other's. The host
// refuses a kernel that needs more shared memory than the GPU has.
constexpr bool kArraysShared = kCluster || kArrays.end <= SRNN_SHARED_BYTES;
constexpr bool kKeptShared =
    !kLaunched && kArraysShared && kArrays.end + kKept.end <= SRNN_SHARED_BYTES;
constexpr uint64_t kArraysBytes = (kArraysShared ? kArrays.end : 0) + (kKeptShared ? kKept.end : 0);

// This says whether a block's own rows of a matrix stay in shared memory.
struct Resident {
  bool on;
  uint64_t offset;  // in shared memory
  int gates;        // the matrix's first gates, which stay, or 0
};
// first_up has the rows that upsample for the first unit of a frame, where those of all units have
// no room: the other blocks wait for that unit, while later ones are computed ahead.
struct Residents {
  Resident output, hidden[kHidden + 1], up[kTiers], recurrent[kTiers], stack[kTiers];
  Resident first_up[kTiers];
  uint64_t whole_end, end;  // behind whole matrices, and behind everything
};
SRNN_CONSTEXPR uint64_t resident_rows_bytes(int units, int gates) {
  return uint64_t{1} * units * gates * resident_bytes(kDim);
}
// Places `units` own rows of each gate, and in int8 their scales; every row has D columns. Nothing
// is placed where there is not enough shared memory left.
SRNN_CONSTEXPR Resident place_resident(uint64_t& at, int units, int gates) {
  const uint64_t bytes =
      resident_rows_bytes(units, gates) + (kInt8 ? round_up(units * gates * 4, 16) : 0);
  if (kLaunched || gates == 0 || at + bytes > SRNN_SHARED_BYTES) return {false, 0, 0};
  const Resident placed = {true, at, gates};
  at += bytes;
  return placed;
}
// Places the rows that are read most often first. The others are read from L2 each time, and so is
// everything with exchange `launches`, because shared memory does not outlast a kernel.
SRNN_CONSTEXPR Residents make_residents() {
  Residents to = {};
  uint64_t at = kArraysBytes;
  to.output = place_resident(at, kLogitRows, 1);
  for (int i = 0; i < kHidden; ++i) to.hidden[i] = place_resident(at, kUnits, 1);
  for (int tier = 0; tier < kTiers; ++tier) {
    to.up[tier] = place_resident(at, kUnits, ratio(tier) * upsampled_gates(tier));
    to.recurrent[tier] = place_resident(at, kUnits, kLayers * kGates);
    to.stack[tier] = place_resident(at, kUnits, (kLayers - 1) * kGates);
  }
  to.whole_end = at;
  for (int tier = 0; tier < kTiers; ++tier) {
    to.first_up[tier] = place_resident(at, kUnits, to.up[tier].on ? 0 : upsampled_gates(tier));
  }
  to.end = at;
  return to;
}
constexpr Residents kResidents = make_residents();

// Exchange `launches`: how far a block's walk has come, which it carries from one launch to the
// next. It is zero before the first launch.
struct Progress {
  int32_t begun;      // samples that have begun
  uint32_t samples;   // those of them that run the sample-level MLP
  uint32_t runs_mlp;  // 1 where the current sample does; see Block::forced
  uint32_t stopped;   // whether an error has stopped the walk
};
// The workspace of one group: the buffers of exchanges, and for each block those arrays that are
// not in shared memory.
constexpr uint64_t kArraysOffset = kOwnBuffers ? 0 : kExchangeBytes;
constexpr uint64_t kKeptOffset = kArraysShared ? 0 : align(kArrays.end);
constexpr uint64_t kProgressOffset = kKeptOffset + (kKeptShared ? 0 : align(kKept.end));
constexpr uint64_t kBlockBytes = kProgressOffset + (kLaunched ? align(sizeof(Progress)) : 0);
constexpr uint64_t kGroupBytes = kArraysOffset + kBlockBytes * kBlocks;
constexpr uint64_t kWorkspaceEnd = kGroups * kGroupBytes;

}  // namespace srnn
