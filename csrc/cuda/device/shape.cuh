// Everything about one model that is known when the kernel is compiled: sizes, and where each
// tensor lies in the block of weights.
#pragma once

#include "cuda/params.h"

// Marks a function of sizes that the compiler evaluates.
#ifdef __CUDACC__
#define SRNN_CONSTEXPR __host__ __device__ constexpr
#else
#define SRNN_CONSTEXPR constexpr
#endif

namespace srnn {

constexpr int kWarpSize = 32;
constexpr int kDim = SRNN_DIM, kLevels = SRNN_Q, kLayers = SRNN_N_RNN, kTaps = SRNN_TAPS;
constexpr int kTiers = SRNN_TIERS, kHidden = SRNN_HIDDEN, kBatch = SRNN_BATCH;
// Threads and warps of a team. Where a block has two teams, the first makes the samples and the
// second works ahead (walk.cuh).
constexpr int kThreads = SRNN_THREADS, kWarps = kThreads / kWarpSize, kTeams = SRNN_TEAMS;
constexpr int kBlocks = SRNN_BLOCKS;
constexpr bool kLstm = SRNN_LSTM, kResetAfter = SRNN_RESET_AFTER && !kLstm;
// This GRU needs the reset gates of all blocks before its candidate's product (cells.cuh).
constexpr bool kResetBefore = !kLstm && !kResetAfter;
constexpr bool kSkips = SRNN_SKIPS;
// How the blocks of a group exchange results; exchange.cuh explains each way.
constexpr bool kTagged = SRNN_EXCHANGE == 0, kAlone = SRNN_EXCHANGE == 1;
constexpr bool kCluster = SRNN_EXCHANGE == 2, kLaunched = SRNN_EXCHANGE == 3;
constexpr bool kInPackets = kTagged || kCluster;  // Results travel in packets.
// Whether each block has the buffers of exchanges in its own memory and not in the workspace.
constexpr bool kOwnBuffers = kAlone || kCluster;
constexpr bool kProfile = SRNN_PROFILE;
constexpr int kGroups = SRNN_GROUPS, kAllStreams = kGroups * kBatch;
constexpr bool kBfloat16 = SRNN_MODE == 1, kInt8 = SRNN_MODE == 2;
constexpr int kGates = kLstm ? 4 : 3, kReaders = SRNN_READERS_ALL ? kLayers : 1;
constexpr int kStateWidth = kLstm ? 2 * kDim : kDim;

SRNN_CONSTEXPR int divide_up(int a, int b) { return (a + b - 1) / b; }
SRNN_CONSTEXPR uint64_t round_up(uint64_t a, uint64_t unit) { return (a + unit - 1) / unit * unit; }
SRNN_CONSTEXPR int smaller(int a, int b) { return a < b ? a : b; }
SRNN_CONSTEXPR int larger(int a, int b) { return a > b ? a : b; }

// The size of the slice that begins with number `first`, where kAll numbers are in kSlices slices
// of kSlice. It is 0 or less where the slice lies behind the end, and a constant where all slices
// are full.
template <int kAll, int kSlice, int kSlices>
SRNN_CONSTEXPR int part_of(int first) {
  return kAll == kSlice * kSlices ? kSlice : smaller(kSlice, kAll - first);
}

// A number that a function's argument carries, and the compiler knows.
template <int kNumber>
struct Constant {
  static constexpr int value = kNumber;
};

// Either<condition, A, B>::Type is A where the condition holds, else B.
template <bool kFirst, class A, class B>
struct Either {
  typedef A Type;
};
template <class A, class B>
struct Either<false, A, B> {
  typedef B Type;
};

struct FrameSizes {
  int size[kTiers];
};
constexpr FrameSizes kFrameSizes = {{SRNN_FRAME_SIZES}};
// Samples of a tier's frame (tier 0 is the lowest RNN tier), and of one unit below it: a frame of
// the tier below, or a single sample.
SRNN_CONSTEXPR int frame_size(int tier) { return kFrameSizes.size[tier]; }
SRNN_CONSTEXPR int unit_size(int tier) { return tier == 0 ? 1 : kFrameSizes.size[tier - 1]; }
SRNN_CONSTEXPR int ratio(int tier) { return frame_size(tier) / unit_size(tier); }
// R: frames of a tier under one frame of the tier above it.
SRNN_CONSTEXPR uint64_t places(int tier) { return tier + 1 == kTiers ? 1 : ratio(tier + 1); }
constexpr int kLookback = frame_size(kTiers - 1);
// Gates (parts of D rows) that a tier upsamples for one unit below it: one for the MLP's first
// layer, or those of all layers below that read the tier's input.
SRNN_CONSTEXPR int upsampled_gates(int tier) { return tier == 0 ? 1 : kReaders * kGates; }

// Limits of what one block owns: units of every vector of width D, and logits.
constexpr int kUnits = divide_up(kDim, kBlocks);
constexpr int kLogitRows = divide_up(kLevels, kBlocks);
// Streams whose rows are in shared memory at once. A sum does not depend on this number.
constexpr int kTile = smaller(kBatch, 8);
// Warps that share one row, where a team works on `rows` rows at a time.
SRNN_CONSTEXPR int warps_of_row(int rows) { return larger(1, kWarps / rows); }
constexpr int kWarpsOfRow = warps_of_row(kTile);
// This says whether two teams can spend registers on what only saves time. The size of shared
// memory tells the architecture: sm_80, sm_90 and sm_100 can; on sm_86 and sm_89, with 99 KB, the
// compiler would spill.
constexpr bool kSpareRegisters = SRNN_SHARED_BYTES >= 128 << 10;
// This says whether a thread of two teams has registers for more loads, as on sm_90 and sm_100.
constexpr bool kMoreRegisters = SRNN_SHARED_BYTES >= 200 << 10;
// This says whether tensor cores compute products, 16 rows by 8 columns at a time. In int8 both
// ways give the same bits, so the number of streams and the room may decide: rows of tensor
// products take more shared memory, of which clusters have little. The two planes of an int8 stream
// are columns side by side, as far as there are columns.
constexpr bool kTensor = kBfloat16 || (kInt8 && (kBatch >= 4 || (kBatch == 1 && kTagged)));
constexpr bool kPlanesBeside = kInt8 && kTile <= 4;
constexpr int kTensorRows = 32;  // two tiles of 16 rows side by side
// Whether the own units and logits of all streams are owned by the first warp.
constexpr bool kOneOwner = kBatch * larger(kUnits, kLogitRows) <= kWarpSize;
// Whether every block draws all streams itself. With many streams each block draws some of them and
// sends the levels to the others.
constexpr bool kDrawAll = kBatch <= kTile;
constexpr int kDrawStreams = kDrawAll ? kBatch : divide_up(kBatch, kBlocks);
// This says whether every block computes the MLP's whole input in samples that continue a frame of
// the lowest tier. Then blocks exchange only what that tier upsamples, ahead of time. Where a
// sample begins a frame they exchange the input itself.
constexpr bool kWholeInput = kInPackets && kDrawAll;
static_assert(kTeams == 1 || (kTeams == 2 && kWholeInput), "see params.h");
static_assert(kBlocks == 1 || !kAlone, "see params.h");
static_assert(kThreads % kWarpSize == 0 && kBlocks == divide_up(kDim, kUnits), "see params.h");

// Bytes of one weight, and weights of one 16-byte load.
constexpr int kWeightSize = kInt8 ? 1 : kBfloat16 ? 2 : 4;
constexpr int kRowUnit = 16 / kWeightSize;
SRNN_CONSTEXPR int padded_cols(int cols) { return static_cast<int>(round_up(cols, kRowUnit)); }
SRNN_CONSTEXPR uint64_t row_bytes(int cols) {
  return uint64_t{1} * padded_cols(cols) * kWeightSize;
}
// Bytes of a row that stays in shared memory. Rows of tensor products begin 16 banks apart.
SRNN_CONSTEXPR uint64_t resident_bytes(int cols) {
  return kTensor ? round_up(row_bytes(cols), 128) + 64 : row_bytes(cols);
}
SRNN_CONSTEXPR uint64_t align(uint64_t bytes) { return round_up(bytes, 256); }
// int8: where the scales of a matrix begin, behind its rows.
SRNN_CONSTEXPR uint64_t scales_offset(uint64_t rows, int cols) {
  return align(rows * row_bytes(cols));
}
SRNN_CONSTEXPR uint64_t matrix_bytes(uint64_t rows, int cols) {
  return scales_offset(rows, cols) + (kInt8 ? align(rows * 4) : 0);
}
SRNN_CONSTEXPR uint64_t floats(uint64_t count) { return align(count * 4); }

struct TierOffsets {
  uint64_t frame, input_bias, recurrent, bias_n, stack, skip_out, skip_bias, up;
};
struct Offsets {
  uint64_t frame_values, input_bias, tables, hidden[kHidden + 1], hidden_bias[kHidden + 1];
  uint64_t output, output_bias, end;
  TierOffsets tier[kTiers];
};

// Offsets in the block of weights, in the order of models/layout.py.
SRNN_CONSTEXPR Offsets make_offsets() {
  Offsets to = {};
  const uint64_t gates = uint64_t{1} * kGates * kDim;
  uint64_t at = floats(kLevels);
  for (int tier = 0; tier < kTiers; ++tier) {
    TierOffsets& w = to.tier[tier];
    const uint64_t below = uint64_t{1} * ratio(tier) * upsampled_gates(tier) * kDim;
    w.frame = at, at += floats(kReaders * gates * frame_size(tier));
    w.input_bias = at, at += floats(places(tier) * kLayers * gates);
    w.recurrent = at, at += matrix_bytes(kLayers * gates, kDim);
    at += floats(uint64_t{1} * kLayers * kStateWidth);  // h0: the host makes the first state
    w.bias_n = at, at += kResetAfter ? floats(uint64_t{1} * kLayers * kDim) : 0;
    w.stack = at, at += kLayers > 1 ? matrix_bytes((kLayers - 1) * gates, kDim) : 0;
    w.skip_out = at, at += kSkips ? matrix_bytes(kDim, kLayers * kDim) : 0;
    w.skip_bias = at, at += kSkips ? floats(kDim) : 0;
    w.up = at, at += matrix_bytes(below, kDim);
  }
  to.input_bias = at, at += floats(uint64_t{1} * ratio(0) * kDim);
  to.tables = at, at += floats(uint64_t{1} * kTaps * kLevels * kDim);
  for (int layer = 0; layer < kHidden; ++layer) {
    to.hidden[layer] = at, at += matrix_bytes(kDim, kDim);
    to.hidden_bias[layer] = at, at += floats(kDim);
  }
  to.output = at, at += matrix_bytes(kLevels, kDim);
  to.output_bias = at, at += floats(kLevels);
  to.end = at;
  return to;
}
constexpr Offsets kOffsets = make_offsets();

// Phases of a launch, numbered as in constants.phase_names: the layers of each tier, the upsampling
// of each tier, what is computed ahead while results of other blocks are awaited, the parts of the
// MLP, the draw, and loading and saving.
constexpr int kTierPhase = 0, kUpsamplePhase = kTierPhase + kTiers;
constexpr int kAheadPhase = kUpsamplePhase + kTiers, kInputPhase = kAheadPhase + 1;
constexpr int kHiddenPhase = kInputPhase + 1, kLogitPhase = kHiddenPhase + kHidden;
constexpr int kDrawPhase = kLogitPhase + 1, kLoadPhase = kDrawPhase + 1;
constexpr int kPhases = kLoadPhase + 1;

}  // namespace srnn
