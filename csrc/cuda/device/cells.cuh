// The layers of one frame of an RNN tier (Eq. 4-5).
//
// What a step needs of its newest inputs is on the critical path; products with older ones are made
// in the background, while the blocks wait for each other anyway: `refresh_early` (recurrent
// products for the next frame) and `refresh_conditioning` (for the next unit below,
// conditioning.cuh).
#pragma once

#include "cuda/device/roles.cuh"

namespace srnn {

// Frames of a tier that began in this launch, up to a time.
template <int kTier>
SRNN_DEVICE uint32_t frames_begun(const Block& b, uint32_t now) {
  constexpr uint32_t kSize = frame_size(kTier);
  return now / kSize + 1 - (b.begin + kSize - 1) / kSize;
}

SRNN_DEVICE int state_place(int tier, int layer) { return kStatePlace + tier * kLayers + layer; }
SRNN_DEVICE int inner_place(int tier, int layer) { return kInnerPlace + tier * kLayers + layer; }
// A GRU that resets before the product: its candidate needs what all blocks have of the gates.
constexpr bool kTwoHalves = !kLstm && !kResetAfter;

// Puts h of a layer, streams first, ..., into staged columns from col_offset on: after its frame
// number `frame` of this launch, before all of them with 0.
template <class V, int kTier>
SRNN_DEVICE bool gather_state(const Block& b, int layer, uint32_t frame, Age age, int first,
                              int rows, int col_offset) {
  const Stager take{b, col_offset};
  if (frame > 0) {
    return gather<V>(b, state_place(kTier, layer), frame, age, first, rows, take);
  }
  constexpr uint64_t kTierFloats = uint64_t{1} * kLayers * kAllStreams * kStateWidth;
  const float* hidden =
      b.p.hidden + kTier * kTierFloats + (uint64_t{1} * layer * kAllStreams + first) * kStateWidth;
  block_sync();
  each_row<kTile>(b, rows, [&](int row, int number) {
    for (int col = number; col < kDim; col += threads_of_row<kTile>()) {
      take(row, col, hidden[row * kStateWidth + col]);
    }
    take.end_row(row);
  });
  block_sync();
  return true;
}

template <class V, int kTier>
SRNN_DEVICE bool stage_state(const Block& b, int layer, uint32_t frame, Age age, int first,
                             int rows) {
  if (!gather_state<V, kTier>(b, layer, frame, age, first, rows, 0)) return false;
  finish_staging<kDim>(b, rows);
  return true;
}

// Whether the tier's output after this frame is still staged; where it is not, the caller stages
// it.
template <int kTier>
SRNN_DEVICE bool has_staged(const Block& b, uint32_t frame) {
  const bool there = kKeepOutputs && b.staged_frames[kTier] == frame + 1;
  b.staged_frames[kTier] = frame + 1;
  return there;
}

template <int kTier>
SRNN_DEVICE Rows recurrent_rows(const Block& b, int layer) {
  constexpr uint64_t kAt = kOffsets.tier[kTier].recurrent;
  constexpr Resident kStay = kResidents.recurrent[kTier];
  constexpr uint64_t kAllRows = uint64_t{1} * kLayers * kGates * kDim;
  return own_rows<kDim, kDim, kProductUnits>(b, kStay, kAt, kAllRows, layer * kGates);
}

// Products of a layer's state with its recurrent matrix, for the next frame.
template <int kTier>
SRNN_DEVICE bool refresh_early_layer(const Block& b, int layer, uint32_t frame, Age age) {
  constexpr uint64_t kBias = kOffsets.tier[kTier].bias_n;
  const int place = kEarlyPlace + kTier * kLayers + layer;
  const bool output = !kSkips && layer == kLayers - 1;
  const StagedOutput use(b, output ? kTier : -1);
  const auto stage = [&](int first, int rows) {
    return (output && has_staged<kTier>(b, frame)) ||
           stage_state<SourceVectors, kTier>(b, layer, frame, age, first, rows);
  };
  const auto rows_of = [&](int) { return recurrent_rows<kTier>(b, layer); };
  const auto take = [&](int, int u, int stream, float (&terms)[kEarlyGates]) {
    if (kResetAfter) terms[2] += floats_at(b, kBias)[layer * kDim + b.first_unit + u];
    for (int g = 0; g < kEarlyGates; ++g) b.early(kTier, layer, g, u, stream) = terms[g];
  };
  return with_products<kDim, kEarlyGates>(b, place, frame + 1, 1, stage, rows_of, take);
}

template <int kTier>
SRNN_DEVICE bool refresh_early(const Block& b, uint32_t frame, Age age) {
  for (int layer = 0; layer < kLayers; ++layer) {
    if (!refresh_early_layer<kTier>(b, layer, frame, age)) return false;
  }
  return true;
}

// --- one layer --------------------------------------------------------------------------------

// The place in a tier's frame of the unit below that begins now.
template <int kTier>
SRNN_DEVICE int unit_of_frame(uint32_t now) {
  constexpr uint32_t kSize = frame_size(kTier), kUnit = unit_size(kTier);
  return static_cast<int>(now % kSize / kUnit);
}

// Biases of a layer's gates, and where it reads the tier's input, that input: the frame's samples
// and what the tier above gives.
template <int kTier>
SRNN_DEVICE void begin_gates(const Block& b, int layer, int u, int stream, float (&y)[kGates]) {
  constexpr TierOffsets kAt = kOffsets.tier[kTier];
  constexpr bool kTop = kTier + 1 == kTiers;
  constexpr int kAbove = kTop ? kTier : kTier + 1, kSize = frame_size(kTier);
  constexpr uint64_t kUpBias = kOffsets.tier[kAbove].up_bias, kValues = kOffsets.frame_values;
  const int unit = b.first_unit + u;
  for (int g = 0; g < kGates; ++g) {
    y[g] = floats_at(b, kAt.bias)[(layer * kGates + g) * kDim + unit];
  }
  if (layer >= kReaders) return;
  if (!kTop) {
    const int block = unit_of_frame<kAbove>(b.now()) * kReaders * kGates + layer * kGates;
    for (int g = 0; g < kGates; ++g) y[g] += floats_at(b, kUpBias)[(block + g) * kDim + unit];
  }
  const float* frame = floats_at(b, kAt.frame);
  SRNN_UNROLL(4)
  for (int i = 0; i < kSize; ++i) {
    const uint32_t slot = (b.now() + kLookback - kSize + i) % kLookback;
    const float value = floats_at(b, kValues)[b.levels(stream)[slot]];
    for (int g = 0; g < kGates; ++g) {
      y[g] += value * frame[(uint64_t{1} * (layer * kGates + g) * kDim + unit) * kSize + i];
    }
  }
  if (!kTop) {
    for (int g = 0; g < kGates; ++g) {
      y[g] += b.conditioning(kAbove, layer * kGates + g, u, stream);
    }
  }
}

// The new h of an LSTM or of a GRU that resets after the product; for the other form of the GRU,
// the state that its candidate reads.
template <int kTier>
SRNN_DEVICE float run_cell(const Block& b, int layer, int u, int stream, float (&y)[kGates]) {
  float& h = b.state(kTier, layer, 0, u, stream);
  for (int g = 0; g < (kResetAfter ? 2 : kEarlyGates); ++g) {
    y[g] += b.early(kTier, layer, g, u, stream);
  }
  if constexpr (kLstm) {
    float& c = b.state(kTier, layer, 1, u, stream);
    const float kept = sigmoid(y[1]) * c, added = sigmoid(y[0]) * tanh_approx(y[2]);
    c = kept + added;
    h = sigmoid(y[3]) * tanh_approx(kept + added);
    return h;
  } else if constexpr (kResetAfter) {
    const float inner = b.early(kTier, layer, 2, u, stream);
    const float candidate = tanh_approx(y[2] + sigmoid(y[0]) * inner);
    h = candidate + sigmoid(y[1]) * (h - candidate);
    return h;
  } else {
    b.kept(0, u, stream) = y[1];
    b.kept(1, u, stream) = y[2];
    return sigmoid(y[0]) * h;
  }
}

// Second half of a GRU that resets before the product.
template <int kTier>
SRNN_DEVICE bool run_candidate(Block& b, int layer, uint32_t frame) {
  const int place = kCandidatePlace + kTier * kLayers + layer;
  const auto stage_inner = [&](int first, int rows) {
    return stage<SourceVectors>(b, inner_place(kTier, layer), frame, Age::kNew, first, rows);
  };
  const auto rows_of = [&](int) {
    Rows w = recurrent_rows<kTier>(b, layer);
    w.first += 2 * w.gate_stride, w.scales += 2 * w.gate_scales;
    return w;
  };
  const auto take = [&](int, int u, int stream, const float (&terms)[1]) {
    float& h = b.state(kTier, layer, 0, u, stream);
    const float candidate = tanh_approx(b.kept(1, u, stream) + terms[0]);
    h = candidate + sigmoid(b.kept(0, u, stream)) * (h - candidate);
    b.own()[stream * kUnits + u] = h;
  };
  if (!with_products<kDim, 1>(b, place, frame, 1, stage_inner, rows_of, take)) return false;
  publish_units(b, state_place(kTier, layer), frame);
  return true;
}

// All of a layer, or with kTwoHalves its first half.
template <int kTier>
SRNN_DEVICE bool run_gates(Block& b, int layer, uint32_t frame) {
  constexpr uint64_t kAt = kOffsets.tier[kTier].stack;
  constexpr Resident kStay = kResidents.stack[kTier];
  const auto finish = [&](int u, int stream, const float* below) {
    float y[kGates];
    begin_gates<kTier>(b, layer, u, stream, y);
    for (int g = 0; below != nullptr && g < kGates; ++g) y[g] += below[g];
    b.own()[stream * kUnits + u] = run_cell<kTier>(b, layer, u, stream, y);
  };
  if (kLayers == 1 || layer == 0) {
    for (int first = 0; first < kBatch && !is_helper(b); first += kTile) {
      each_cell<kUnits>(b, b.units, first, live_rows(first),
                        [&](int u, int stream) { finish(u, stream, nullptr); });
    }
  } else {
    const auto stage = [&](int first, int rows) {
      return stage_state<SourceVectors, kTier>(b, layer - 1, frame, Age::kNew, first, rows);
    };
    const auto rows_of = [&](int) {
      constexpr uint64_t kAllRows = uint64_t{kLayers - 1} * kGates * kDim;
      return own_rows<kDim, kDim, kProductUnits>(b, kStay, kAt, kAllRows, (layer - 1) * kGates);
    };
    const auto take = [&](int, int u, int stream, const float (&terms)[kGates]) {
      finish(u, stream, terms);
    };
    const int place = kStackPlace + kTier * kLayers + layer;
    if (!with_products<kDim, kGates>(b, place, frame, 1, stage, rows_of, take)) return false;
  }
  publish_units(b, kTwoHalves ? inner_place(kTier, layer) : state_place(kTier, layer), frame);
  return true;
}

template <int kTier>
SRNN_DEVICE bool run_layer(Block& b, int layer, uint32_t frame) {
  return run_gates<kTier>(b, layer, frame) &&
         (!kTwoHalves || run_candidate<kTier>(b, layer, frame));
}

}  // namespace srnn
