// Everything about one model that is known when the kernel is compiled: sizes, where each tensor
// lies in the block of weights, which exchanges there are, and what fits into shared memory.
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

// --- exchanges --------------------------------------------------------------------------------

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

// Stages of a launch, in the numbering of cuda_plan.stage_names: a tier's layers; what it gives to
// the units below; what is made while others are waited for; the parts of the MLP; the draw;
// loading.
constexpr int kTierStage = 0, kGiveStage = kTierStage + kTiers, kAheadStage = kGiveStage + kTiers;
constexpr int kInputStage = kAheadStage + 1, kHiddenStage = kInputStage + 1;
constexpr int kLogitStage = kHiddenStage + kHidden, kDrawStage = kLogitStage + 1;
constexpr int kLoadStage = kDrawStage + 1, kStages = kLoadStage + 1;

// --- memory of a block ------------------------------------------------------------------------

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

// Arrays that only one block uses. What it works on at the moment comes first into shared memory,
// then what it keeps from one sample to a later one; what does not fit is in the workspace.
struct BlockArrays {
  uint64_t scales, draws, raw, codes, partial, products, own, exchange, weights, end;
};
SRNN_CONSTEXPR BlockArrays make_block_arrays() {
  BlockArrays to = {};
  uint64_t at = 0;
  to.scales = at, at += round_up(kTile * 4, 16);
  to.draws = at, at += round_up(uint64_t{2} * kBatch * sizeof(Draw), 16);
  to.raw = at, at += uint64_t{4} * kTile * kRawCols;
  to.codes = at, at += uint64_t{1} * (kInt8 ? 2 : kBfloat16 ? 1 : 0) * kTile * kCodeBytes;
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
