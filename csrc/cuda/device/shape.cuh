// Everything about one model that is known when the kernel is compiled: sizes, and where each
// tensor lies in the block of weights.
#pragma once

#include "cuda/params.h"

// A function of sizes, for the compiler.
#ifdef __CUDACC__
#define SRNN_CONSTEXPR __host__ __device__ constexpr
#else
#define SRNN_CONSTEXPR constexpr
#endif

namespace srnn {

constexpr int kWarpSize = 32;
constexpr int kDim = SRNN_DIM, kLevels = SRNN_Q, kLayers = SRNN_N_RNN, kTaps = SRNN_TAPS;
constexpr int kTiers = SRNN_TIERS, kHidden = SRNN_HIDDEN, kBatch = SRNN_BATCH;
constexpr int kThreads = SRNN_THREADS, kBlocks = SRNN_BLOCKS, kWarps = kThreads / kWarpSize;
constexpr bool kLstm = SRNN_LSTM, kResetAfter = SRNN_RESET_AFTER && !kLstm;
constexpr bool kSkips = SRNN_SKIPS;
// How the blocks of a group exchange results; see exchange.cuh.
enum class Protocol { kCounters = 0, kTagged = 1, kAlone = 2, kCluster = 3, kLaunches = 4 };
// Roles: the blocks of one cluster, the heads, are the group, and helpers make products for them.
constexpr bool kRoles = SRNN_EXCHANGE == 5;
constexpr Protocol kExchange = kRoles ? Protocol::kCluster : static_cast<Protocol>(SRNN_EXCHANGE);
constexpr int kHelpers = SRNN_HELPERS;
constexpr bool kLaunched = kExchange == Protocol::kLaunches;
constexpr bool kAlone = kExchange == Protocol::kAlone, kCluster = kExchange == Protocol::kCluster;
SRNN_CONSTEXPR bool in_packets(Protocol protocol) {
  return protocol == Protocol::kTagged || protocol == Protocol::kCluster;
}
// Where the buffers of exchanges are: in every block's memory, or in the workspace.
SRNN_CONSTEXPR bool in_own_memory(Protocol protocol) {
  return protocol == Protocol::kAlone || protocol == Protocol::kCluster;
}
constexpr int kCopies = SRNN_COPIES;
constexpr bool kProfile = SRNN_PROFILE;
constexpr int kGroups = SRNN_GROUPS, kAllStreams = kGroups * kBatch;
constexpr bool kBfloat16 = SRNN_MODE == 1, kInt8 = SRNN_MODE == 2;
constexpr int kGates = kLstm ? 4 : 3, kReaders = SRNN_READERS_ALL ? kLayers : 1;
constexpr int kStateWidth = kLstm ? 2 * kDim : kDim;

SRNN_CONSTEXPR int divide_up(int a, int b) { return (a + b - 1) / b; }
SRNN_CONSTEXPR uint64_t round_up(uint64_t a, uint64_t unit) { return (a + unit - 1) / unit * unit; }
SRNN_CONSTEXPR int smaller(int a, int b) { return a < b ? a : b; }
SRNN_CONSTEXPR int larger(int a, int b) { return a > b ? a : b; }

struct FrameSizes {
  int size[kTiers];
};
constexpr FrameSizes kFrameSizes = {{SRNN_FRAME_SIZES}};
// FS of an RNN tier, lowest first, and the samples of one unit below it.
SRNN_CONSTEXPR int frame_size(int tier) { return kFrameSizes.size[tier]; }
SRNN_CONSTEXPR int unit_size(int tier) { return tier == 0 ? 1 : kFrameSizes.size[tier - 1]; }
SRNN_CONSTEXPR int ratio(int tier) { return frame_size(tier) / unit_size(tier); }
constexpr int kLookback = frame_size(kTiers - 1);
// Blocks of D outputs that a tier gives to the unit below it.
SRNN_CONSTEXPR int below_blocks(int tier) { return tier == 0 ? 1 : kReaders * kGates; }

// Units of every vector of dim D, logits and (where levels are drawn apart) streams of one block.
constexpr int kUnits = divide_up(kDim, kBlocks);
// Units of a block that makes products of the tiers.
constexpr int kProductUnits = kRoles ? divide_up(kDim, larger(1, kHelpers)) : kUnits;
constexpr int kLogitRows = divide_up(kLevels, kBlocks);
// Streams whose vectors are in shared memory at once; the sums of a row do not depend on it.
constexpr int kTile = smaller(kBatch, 8);
// Warps that have a row together, where a block has some rows at a time.
SRNN_CONSTEXPR int warps_of_row(int rows) { return larger(1, kWarps / rows); }
constexpr int kWarpsOfRow = warps_of_row(kTile);
// Products by tensor cores, 16 rows by 8 streams. In int8 they are exact, so the batch may decide;
// heads have many rows each.
constexpr bool kTensor = kBfloat16 || (kInt8 && (kBatch >= 4 || kRoles));
constexpr int kTensorStreams = 8, kTensorRows = 32;  // two tiles of rows side by side
// Few streams are drawn by every block; of more, each block draws some.
constexpr bool kDrawAll = kBatch <= kTile;
constexpr int kDrawStreams = kDrawAll ? kBatch : divide_up(kBatch, kBlocks);
// Few streams, by packets: every block makes the whole input of the MLP, so that only what the tier
// gives to it is exchanged, and that ahead of its time where the tier's frame goes on.
constexpr bool kWholeInput = in_packets(kExchange) && kDrawAll;
static_assert((kBlocks == 1 || !kAlone) &&
                  (kCopies == 1 || kExchange == Protocol::kTagged || kRoles),
              "see params.h");
static_assert(kRoles ? kHelpers == divide_up(kDim, kProductUnits) && kGroups == 1 && kDrawAll
                     : kHelpers == 0,
              "see params.h");
// Blocks of a launch.
constexpr int kLaunchBlocks =
    kRoles ? divide_up(kBlocks + kHelpers, kBlocks) * kBlocks : kGroups * kBlocks;
static_assert(kThreads % kWarpSize == 0 && kBlocks == divide_up(kDim, kUnits), "see params.h");

// --- the block of weights ---------------------------------------------------------------------

constexpr int kWeightSize = kInt8 ? 1 : kBfloat16 ? 2 : 4;
constexpr int kRowUnit = 16 / kWeightSize;  // inputs of one 16-byte load
SRNN_CONSTEXPR int padded_cols(int cols) { return static_cast<int>(round_up(cols, kRowUnit)); }
SRNN_CONSTEXPR uint64_t row_bytes(int cols) {
  return uint64_t{1} * padded_cols(cols) * kWeightSize;
}
// A row in shared memory.
SRNN_CONSTEXPR uint64_t resident_bytes(int cols) {
  return kTensor ? round_up(row_bytes(cols), 128) + 64 : row_bytes(cols);
}
SRNN_CONSTEXPR uint64_t align(uint64_t bytes) { return round_up(bytes, 256); }
SRNN_CONSTEXPR uint64_t matrix_bytes(uint64_t rows, int cols) {
  return align(rows * row_bytes(cols)) + (kInt8 ? align(rows * 4) : 0);
}
SRNN_CONSTEXPR uint64_t floats(uint64_t count) { return align(count * 4); }

struct TierOffsets {
  uint64_t frame, bias, recurrent, bias_n, stack, skip_out, skip_bias, up, up_bias;
};
struct Offsets {
  uint64_t frame_values, tables, hidden[kHidden + 1], hidden_bias[kHidden + 1];
  uint64_t output, output_bias, end;
  TierOffsets tier[kTiers];
};

// The order is that of weights.layout.
SRNN_CONSTEXPR Offsets make_offsets() {
  Offsets to = {};
  const uint64_t gates = uint64_t{1} * kGates * kDim;
  uint64_t at = floats(kLevels);
  for (int tier = 0; tier < kTiers; ++tier) {
    TierOffsets& w = to.tier[tier];
    const uint64_t below = uint64_t{1} * ratio(tier) * below_blocks(tier) * kDim;
    w.frame = at, at += floats(kReaders * gates * frame_size(tier));
    w.bias = at, at += floats(kLayers * gates);
    w.recurrent = at, at += matrix_bytes(kLayers * gates, kDim);
    at += floats(uint64_t{1} * kLayers * kStateWidth);  // h0: the host makes the first state
    w.bias_n = at, at += kResetAfter ? floats(uint64_t{1} * kLayers * kDim) : 0;
    w.stack = at, at += kLayers > 1 ? matrix_bytes((kLayers - 1) * gates, kDim) : 0;
    w.skip_out = at, at += kSkips ? matrix_bytes(kDim, kLayers * kDim) : 0;
    w.skip_bias = at, at += kSkips ? floats(kDim) : 0;
    w.up = at, at += matrix_bytes(below, kDim);
    w.up_bias = at, at += floats(below);
  }
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

// Stages of a launch, in the numbering of cuda_plan.stage_names: a tier's layers; what it gives to
// the units below; what is made while others are waited for; the parts of the MLP; the draw;
// loading.
constexpr int kTierStage = 0, kGiveStage = kTierStage + kTiers, kAheadStage = kGiveStage + kTiers;
constexpr int kInputStage = kAheadStage + 1, kHiddenStage = kInputStage + 1;
constexpr int kLogitStage = kHiddenStage + kHidden, kDrawStage = kLogitStage + 1;
constexpr int kLoadStage = kDrawStage + 1, kStages = kLoadStage + 1;

}  // namespace srnn
