// What a tier gives to the units below (Eq. 6).
#pragma once

#include "cuda/device/cells.cuh"

namespace srnn {

// With skips: the sum of maps of all layers' outputs. `frame` as in gather_state.
template <int kTier>
SRNN_DEVICE bool run_output(Block& b, uint32_t frame) {
  constexpr TierOffsets kAt = kOffsets.tier[kTier];
  constexpr int kCols = kLayers * kDim;
  const auto stage_layers = [&](int first, int rows) {
    for (int layer = 0; layer < kLayers; ++layer) {
      const Age age = layer + 1 < kLayers ? Age::kOld : Age::kNew;
      if (!gather_state<SourceVectors, kTier>(b, layer, frame, age, first, rows, layer * kDim)) {
        return false;
      }
    }
    finish_staging<kCols>(b, rows);
    return true;
  };
  const auto rows_of = [&](int) {
    return own_rows<kCols, kDim, kProductUnits>(b, Resident{}, kAt.skip_out, kDim, 0);
  };
  const auto take = [&](int, int u, int stream, const float (&terms)[1]) {
    const float bias = floats_at(b, kAt.skip_bias)[b.first_unit + u];
    b.own()[stream * kUnits + u] = bias + terms[0];
  };
  const uint32_t count = frame + 1;  // there is one before the first frame
  if (!with_products<kCols, 1>(b, kSkipPlace + kTier, count, 1, stage_layers, rows_of, take)) {
    return false;
  }
  publish_units(b, kOutPlace + kTier, count);
  return true;
}

// Stages the tier's output after its frame number `frame` of this launch, unless it is there.
template <class V, int kTier>
SRNN_DEVICE bool stage_output(const Block& b, uint32_t frame, Age age, int first, int rows) {
  if (has_staged<kTier>(b, frame)) return true;
  if (kSkips) return stage<V>(b, kOutPlace + kTier, frame + 1, age, first, rows);
  return stage_state<V, kTier>(b, kLayers - 1, frame, age, first, rows);
}

// kWholeInput: what the lowest tier gives to the sample at `now`, from exchange V to all blocks
// that make samples.
template <class V, class Given>
SRNN_DEVICE bool give_to_sample(Block& b, Resident stay, uint32_t frame, Age age, uint32_t now) {
  constexpr int kChunk = Given::kChunk;
  constexpr uint64_t kAllRows = uint64_t{1} * ratio(0) * kDim, kAt = kOffsets.tier[0].up;
  const StagedOutput use(b, 0);
  if (!stage_output<V, 0>(b, frame, age, 0, kBatch)) return false;
  const Rows w = own_rows<kDim, kDim, kChunk>(b, stay, kAt, kAllRows, unit_of_frame<0>(now));
  const auto take = [&](int u, int stream, const float (&terms)[1]) {
    b.own()[stream * kChunk + u] = terms[0];
  };
  each_product<kDim, 1, kChunk>(b, w, b.units, 0, kBatch, take);
  publish<Given>(b, kMlpPlace, b.samples + 1);
  return true;
}

// The same; with roles, by those who have the matrix.
SRNN_DEVICE bool refresh_input(Block& b, uint32_t frame, Age age, uint32_t now) {
  constexpr Resident kUp = kResidents.up[0];
  if constexpr (!kRoles) {
    return give_to_sample<UnitVectors, UnitVectors>(b, kUp, frame, age, now);
  } else if (unit_of_frame<0>(now) >= kHeadInputs) {
    return !b.helper || give_to_sample<TierVectors, InputVectors>(b, kUp, frame, age, now);
  } else {
    constexpr Resident kInput = kResidents.input;
    return b.helper || give_to_sample<UnitVectors, UnitVectors>(b, kInput, frame, age, now);
  }
}

// Eq. 6: the product for the unit below that begins at `now`, which is kept, or for a sample with
// kWholeInput given to all blocks.
template <int kTier>
SRNN_DEVICE bool refresh_conditioning(Block& b, uint32_t frame, Age age, uint32_t now) {
  if constexpr (kWholeInput && kTier == 0) {
    return refresh_input(b, frame, age, now);
  } else {
    constexpr TierOffsets kAt = kOffsets.tier[kTier];
    constexpr Resident kStay = kResidents.up[kTier];
    constexpr int kBlocksBelow = below_blocks(kTier), kCount = kTier == 0 ? 1 : kGates;
    constexpr uint64_t kAllRows = uint64_t{1} * ratio(kTier) * kBlocksBelow * kDim;
    const StagedOutput use(b, kTier);
    const auto stage = [&](int first, int rows) {
      return stage_output<SourceVectors, kTier>(b, frame, age, first, rows);
    };
    const auto rows_of = [&](int part) {
      const int block = unit_of_frame<kTier>(now) * kBlocksBelow + part * kCount;
      return own_rows<kDim, kDim, kProductUnits>(b, kStay, kAt.up, kAllRows, block);
    };
    const auto take = [&](int part, int u, int stream, const float (&terms)[kCount]) {
      for (int g = 0; g < kCount; ++g) {
        b.conditioning(kTier, part * kCount + g, u, stream) = terms[g];
      }
    };
    const uint32_t count = frames_begun<larger(1, kTier) - 1>(b, now);  // of the unit below
    return with_products<kDim, kCount>(b, kUpPlace + kTier, count, kBlocksBelow / kCount, stage,
                                       rows_of, take);
  }
}

}  // namespace srnn