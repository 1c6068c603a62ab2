// Upsampling (Eq. 6): the products with which a tier conditions the units below it. With skip
// connections, what is upsampled is the sum of maps of all layers' outputs.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/cells.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/outputs.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/product.cuh"
#include "cuda/device/rows.cuh"

namespace srnn {

// With skip connections: the tier's output after frame number `frame` of this launch, or before the
// first frame where that is 0.
template <int kTier>
SRNN_DEVICE bool run_skip_output(const Block& b, uint32_t frame) {
  constexpr TierOffsets kAt = kOffsets.tier[kTier];
  constexpr int kCols = kLayers * kDim;
  // Number 1 is the output before the first frame.
  const OwnSlice<UnitVectors> output(b, kOutputPlace + kTier, frame + 1);
  const auto fill = [&](int first, int rows) {
    for (int layer = 0; layer < kLayers; ++layer) {
      if (!gather_state<kTier>(b, layer, frame, first, rows, layer * kDim)) {
        return false;
      }
    }
    finish_rows<kCols>(b, rows);
    return true;
  };
  const auto rows_of = [&](int) {
    return own_rows<kCols, kDim, kUnits>(b, Resident{}, kAt.skip_out, kDim, 0);
  };
  const auto take = [&](int, int u, int stream, const float (&terms)[1]) {
    const float bias = floats_at(b, kAt.skip_bias)[b.first_unit + u];
    output.put(u, stream, bias + terms[0]);
  };
  if (!with_products<kCols, 1>(b, 1, fill, rows_of, take)) return false;
  output.finish();
  return true;
}

// Fills rows with the tier's output after frame number `frame`, unless its output rows hold it.
template <int kTier>
SRNN_DEVICE bool fill_output_rows(const Block& b, uint32_t frame, int first, int rows) {
  if (holds_output<kTier>(b, frame)) return true;
  if (kSkips) return fill_rows<UnitVectors>(b, kOutputPlace + kTier, frame + 1, first, rows);
  return fill_state_rows<kTier>(b, kLayers - 1, frame, first, rows);
}

// kWholeInput: the sequence number of what is upsampled ahead for the next sample, which continues
// a frame of the lowest tier.
SRNN_DEVICE uint32_t next_upsampled(const Block& b) { return b.samples + 1 - b.inputs; }

// The rows that stay of a tier's upsampling: for the first unit of a frame, or for any other one.
template <int kTier, bool kFirst>
SRNN_CONSTEXPR Resident resident_up() {
  return kFirst && !kResidents.up[kTier].on ? kResidents.first_up[kTier] : kResidents.up[kTier];
}

// kWholeInput: upsamples the lowest tier's output for the sample at `now`, and publishes
// finish(bias_of(unit, stream), product) to all blocks.
template <class V, bool kFirst, class BiasOf, class Finish>
SRNN_DEVICE bool publish_upsampled(const Block& b, uint32_t frame, uint32_t now, int place,
                                   uint32_t sequence, const BiasOf& bias_of, const Finish& finish) {
  constexpr uint64_t kAllRows = uint64_t{1} * ratio(0) * kDim, kAt = kOffsets.tier[0].up;
  constexpr Resident kStay = resident_up<0, kFirst>();
  const OutputRows use(b, 0);
  const MatrixRows w = own_rows<kDim, kDim, kUnits>(b, kStay, kAt, kAllRows, unit_of_frame<0>(now));
  const auto fill = [&](int first, int rows) { return fill_output_rows<0>(b, frame, first, rows); };
  return publish_product<V, kDim>(b, w, b.units, place, sequence, fill, bias_of, finish);
}

// Upsamples the tier's output after frame number `frame` for the unit below that begins at `now`.
// The result is kept in b.upsampled. With kWholeInput that of the lowest tier is published instead,
// for a sample that continues the tier's frame.
template <int kTier, bool kFirst>
SRNN_DEVICE bool upsample(const Block& b, uint32_t frame, uint32_t now) {
  if constexpr (kWholeInput && kTier == 0) {
    const auto no_bias = [](int, int) { return 0.0f; };
    const auto finish = [](float, float product) { return product; };
    static_assert(!kFirst, "the walk publishes the input itself where a frame begins");
    return publish_upsampled<UnitVectors, false>(b, frame, now, kUpsampledPlace, next_upsampled(b),
                                                 no_bias, finish);
  } else {
    constexpr TierOffsets kAt = kOffsets.tier[kTier];
    constexpr Resident kStay = resident_up<kTier, kFirst>();
    // Where a block has two teams, weights that come from L2 are in the way of packets that the
    // first team looks for. So one stream in bfloat16 asks for those of one gate at a time.
    constexpr bool kSpareL2 = kBfloat16 && kBatch == 1 && kTeams == 2 && !kStay.on;
    constexpr int kBelow = upsampled_gates(kTier), kCount = kTier == 0 || kSpareL2 ? 1 : kGates;
    constexpr uint64_t kAllRows = uint64_t{1} * ratio(kTier) * kBelow * kDim;
    const OutputRows use(b, kTier);
    const auto fill = [&](int first, int rows) {
      return fill_output_rows<kTier>(b, frame, first, rows);
    };
    const auto rows_of = [&](int part) {
      const int gate = unit_of_frame<kTier>(now) * kBelow + part * kCount;
      return own_rows<kDim, kDim, kUnits>(b, kStay, kAt.up, kAllRows, gate);
    };
    const auto take = [&](int part, int u, int stream, const float (&terms)[kCount]) {
      for (int g = 0; g < kCount; ++g) {
        b.upsampled(kTier, part * kCount + g, u, stream) = terms[g];
      }
    };
    return with_products<kDim, kCount>(b, kBelow / kCount, fill, rows_of, take);
  }
}

}  // namespace srnn
