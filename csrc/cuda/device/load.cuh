// The beginning and the end of a launch: a block's place and arrays, the rows of matrices that stay
// in shared memory, hidden states and levels; and srnn_sizes, which the host reads.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/cells.cuh"
#include "cuda/device/memory.cuh"
#include "cuda/device/packets.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/shape.cuh"
#include "cuda/params.h"

namespace srnn {

// Copies own rows of a matrix with D columns and all_gates gates into shared memory.
template <int kRows, int kSlice>
SRNN_DEVICE void copy_rows(const Block& b, Resident stay, uint64_t offset, int all_gates = 1) {
  const uint64_t all_rows = uint64_t{1} * all_gates * kRows;
  constexpr uint64_t kBytes = row_bytes(kDim), kStay = resident_bytes(kDim);
  constexpr int kQuads = static_cast<int>(kBytes / 16);
  const int first = b.index * kSlice;
  const int rows = kRows - first < kSlice ? kRows - first : kSlice;
  for (int gate = 0; gate < stay.gates; ++gate) {
    const unsigned char* from =
        b.p.weights + offset + (uint64_t{1} * gate * kRows + first) * kBytes;
    unsigned char* row = shared_memory() + stay.offset + uint64_t{1} * gate * kSlice * kStay;
    SRNN_UNROLL(4)
    for (int i = b.thread; i < rows * kQuads; i += kThreads) {
      const Quad quad = reinterpret_cast<const Quad*>(from)[i];
      *reinterpret_cast<Quad*>(row + i / kQuads * kStay + i % kQuads * 16) = quad;
    }
  }
  if constexpr (kInt8) {
    const unsigned char* scales = b.p.weights + offset + scales_offset(all_rows, kDim);
    float* own = reinterpret_cast<float*>(shared_memory() + stay.offset +
                                          resident_rows_bytes(kSlice, stay.gates));
    for (int i = b.thread; i < stay.gates * kSlice; i += kThreads) {
      if (i % kSlice >= rows) continue;
      own[i] = reinterpret_cast<const float*>(scales)[i / kSlice * kRows + first + i % kSlice];
    }
  }
}

// Copies this block's slice of kSlice out of kAll biases to b.biases() + at.
template <int kAll, int kSlice>
SRNN_DEVICE void copy_biases(const Block& b, int at, uint64_t offset) {
  for (int i = b.thread; i < kSlice; i += kThreads) {
    const int number = b.index * kSlice + i;
    if (number < kAll) b.biases()[at + i] = floats_at(b, offset)[number];
  }
}

template <int kLayer>
SRNN_DEVICE void copy_hidden(const Block& b) {
  if constexpr (kLayer < kHidden) {
    constexpr Resident kStay = kResidents.hidden[kLayer];
    constexpr uint64_t kAt = kOffsets.hidden[kLayer], kBias = kOffsets.hidden_bias[kLayer];
    if constexpr (kStay.on) copy_rows<kDim, kUnits>(b, kStay, kAt);
    copy_biases<kDim, kUnits>(b, kLayer * kUnits, kBias);
    copy_hidden<kLayer + 1>(b);
  }
}

template <int kTier>
SRNN_DEVICE void copy_tier(const Block& b) {
  if constexpr (kTier < kTiers) {
    constexpr TierOffsets kAt = kOffsets.tier[kTier];
    constexpr Resident kUp = kResidents.up[kTier], kFirstUp = kResidents.first_up[kTier];
    constexpr Resident kRecurrent = kResidents.recurrent[kTier], kStack = kResidents.stack[kTier];
    constexpr int kUpGates = ratio(kTier) * upsampled_gates(kTier);
    if constexpr (kUp.on) copy_rows<kDim, kUnits>(b, kUp, kAt.up, kUpGates);
    if constexpr (kFirstUp.on) copy_rows<kDim, kUnits>(b, kFirstUp, kAt.up, kUpGates);
    if constexpr (kRecurrent.on) {
      copy_rows<kDim, kUnits>(b, kRecurrent, kAt.recurrent, kRecurrent.gates);
    }
    if constexpr (kStack.on) copy_rows<kDim, kUnits>(b, kStack, kAt.stack, kStack.gates);
    for (int layer = 0; kResetAfter && layer < kLayers; ++layer) {
      const int number = kTier * kLayers + layer;
      copy_biases<kDim, kUnits>(b, kCandidateBias + number * kUnits,
                                kAt.bias_n + uint64_t{4} * layer * kDim);
    }
    for (int i = b.thread; kKeepNewest && i < kReaders * kGates * kUnits; i += kThreads) {
      const int u = i % kUnits, gate = i / kUnits % kGates, layer = i / kUnits / kGates;
      if (u >= b.units) continue;
      b.newest_weight(kTier, layer, gate, u) =
          frame_weight<kTier>(b, layer, gate, b.first_unit + u, frame_size(kTier) - 1);
    }
    copy_tier<kTier + 1>(b);
  }
}

// Calls visit(number of this block, number in `states`) for every own unit of every state.
template <class Number, class Visit>
SRNN_DEVICE void visit_state(const Block& b, Number* states, const Visit& visit) {
  constexpr int kParts = kLstm ? 2 : 1;
  for (int at = 0; at < kTiers * kLayers * kParts; ++at) {
    const int part = at % kParts, layer = at / kParts;
    for (int first = 0; first < kBatch; first += kTile) {
      each_owned<kUnits>(b, b.units, first, rows_of_tile(first), [&](int u, int stream) {
        Number* row = states + (uint64_t{1} * layer * kAllStreams + stream) * kStateWidth;
        visit(b.state(layer / kLayers, layer % kLayers, part, u, stream),
              row[part * kDim + b.first_unit + u]);
      });
    }
  }
}

SRNN_DEVICE void load(const Block& b) {
  constexpr Resident kOutput = kResidents.output;
  constexpr uint64_t kOutputAt = kOffsets.output;
  copy_tier<0>(b);
  if constexpr (kOutput.on) copy_rows<kLevels, kLogitRows>(b, kOutput, kOutputAt);
  copy_hidden<0>(b);
  copy_biases<kLevels, kLogitRows>(b, kLogitBias, kOffsets.output_bias);
  for (int i = b.thread; i < kLevels; i += kThreads) {
    b.values()[i] = floats_at(b, kOffsets.frame_values)[i];
  }
  visit_state(b, b.p.hidden, [](float& own, const float& theirs) { own = theirs; });
  for (int i = b.thread; i < kBatch * kLookback; i += kThreads) {
    const int stream = i / kLookback, ago = i % kLookback;
    b.levels(stream)[(b.begin + ago) % kLookback] = b.p.history[i];
  }
}

// The group of this block. With one group the compiler knows where the arrays begin.
SRNN_DEVICE int group_of_block() { return kGroups == 1 ? 0 : block_id() / kBlocks; }

// The arrays of a launch from a group's first stream on.
SRNN_DEVICE Params params_of_group(Params p, int group) {
  const int first = group * kBatch;
  const int64_t rows = int64_t{1} * first * p.steps;
  const int64_t states = int64_t{1} * first * kStateWidth;  // within a layer, which has kAllStreams
  p.hidden += states, p.new_hidden += states;
  p.history += int64_t{1} * first * kLookback;
  p.levels += rows, p.temperature += rows;
  if (p.forced != nullptr) p.forced += rows;
  if (p.logits != nullptr) p.logits += rows * kLevels;
  p.drawings += first;
  p.workspace += group * kGroupBytes;
  return p;
}

SRNN_DEVICE unsigned char* block_arrays(const Params& p, int index) {
  return kArraysShared ? shared_memory() : p.workspace + kArraysOffset + index * kBlockBytes;
}
SRNN_DEVICE unsigned char* kept_arrays(const Params& p, int index) {
  constexpr uint64_t kAt = kArrays.end;
  return kKeptShared ? shared_memory() + kAt
                     : p.workspace + kArraysOffset + index * kBlockBytes + kKeptOffset;
}

// This block before its first step, as a team of it sees it. p: the arrays of its group.
SRNN_DEVICE Block this_block(const Params& p, int team) {
  const int group = group_of_block(), thread = thread_id() - team * kThreads;
  const int index = block_id() - group * kBlocks, first = index * kUnits;
  Block b = {p,
             block_arrays(p, index),
             block_arrays(p, index) + kArrays.teams + team * kTeamArrays.end,
             kept_arrays(p, index),
             team,
             thread,
             thread % kWarpSize,
             thread / kWarpSize,
             index,
             group * kBatch,
             first,
             part_of<kDim, kUnits, kBlocks>(first)};
  // kLookback is added so that step -1 has a time, too.
  b.begin = static_cast<uint32_t>(p.t % kLookback) + kLookback;
  return b;
}

SRNN_DEVICE void save(const Block& b) {
  visit_state(b, b.p.new_hidden, [](const float& own, float& theirs) { theirs = own; });
}

}  // namespace srnn

SRNN_CONSTANT unsigned long long srnn_sizes[srnn::kSizes] = {
    sizeof(srnn::Params),
    srnn::kOffsets.end,
    srnn::kWorkspaceEnd,
    srnn::kResidents.end,
    srnn::kResidents.whole_end - srnn::kArraysBytes,
    srnn::kProfile ? (srnn::kPhases + 1) * srnn::kPhaseNumbers * 8 : 0,
    srnn::kFirstLookOfH200};
