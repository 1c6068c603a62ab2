// The layers of one frame of an RNN tier: GRU and LSTM cells (Eq. 4-5).
//
// A frame waits only for the products with its newest inputs. Products with older ones are computed
// ahead, while the blocks wait for each other anyway: the recurrent products of the next frame
// (multiply_recurrent), and the upsampling for the next unit below (upsample.cuh).
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/outputs.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/product.cuh"
#include "cuda/device/rows.cuh"
#include "cuda/device/vectors.cuh"

namespace srnn {

// In int8 the activation functions have the bits of those of csrc/cpu: they use no library, each
// operation is rounded on its own, and the compiler may not fuse them (see params.h). Elsewhere
// they take the approximations of the hardware, which are four instructions in place of some 25.
// The rounded product with 1 / ln 2 puts e^x off by up to 64 ulp where |x| is large, but there the
// sigmoid and the tanh are flat: their absolute errors stay at 1e-7 and 2e-7.
constexpr bool kExactActivations = kInt8;

// e^x to about 2 ulp for |x| <= 87, clamped outside. NaN stays NaN.
SRNN_DEVICE float exp_approx(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 87.0f ? 87.0f : x;
  // n is x / ln 2, rounded half away from zero. Beside 2^23 a float has no bits after the point, so
  // that adding it cuts them off; conversions to integers and back would take longer.
  const float scaled = x * 1.44269504f, half = scaled < 0.0f ? -0.5f : 0.5f;
  const float size = add_rz(magnitude(scaled + half), 8388608.0f) - 8388608.0f;
  const float n = scaled < 0.0f ? -size : size;
  // ln 2 is subtracted in two parts, so that the reduced argument keeps its digits.
  const float f = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = f * 1.98756915e-4f + 1.39819995e-3f;
  p = p * f + 8.33345190e-3f;
  p = p * f + 4.16657961e-2f;
  p = p * f + 1.66666655e-1f;
  p = p * f + 5.00000012e-1f;
  p = (p * f) * f + f + 1.0f;
  // The lowest bits of n + 1.5 * 2^23 are those of n as an integer.
  return p * float_of((bits_of(n + 12582912.0f) + 127) << 23);
}
// Returns 1 / (1 + e^x).
SRNN_DEVICE float logistic(float x) {
  if constexpr (kExactActivations) {
    return reciprocal_rn(1.0f + exp_approx(x));
  } else {
    return reciprocal_approx(1.0f + exp2_approx(x * 1.44269504f));
  }
}
SRNN_DEVICE float sigmoid(float x) { return logistic(-x); }
// Doubling is exact, so in int8 this has the bits of 1 - 2 / (1 + e^2x).
SRNN_DEVICE float tanh_approx(float x) { return 1.0f - 2.0f * logistic(2.0f * x); }

// Number of frames of a tier that began in this launch, up to the time `now`.
template <int kTier>
SRNN_DEVICE uint32_t frames_begun(const Block& b, uint32_t now) {
  constexpr uint32_t kSize = frame_size(kTier);
  return now / kSize + 1 - (b.begin + kSize - 1) / kSize;
}

// Which unit of a tier's frame, from 0, begins at the time `now`.
template <int kTier>
SRNN_DEVICE int unit_of_frame(uint32_t now) {
  constexpr uint32_t kSize = frame_size(kTier), kUnit = unit_size(kTier);
  return static_cast<int>(now % kSize / kUnit);
}

// Returns whether a unit below a tier begins at `now`, but not the first one of its frame.
template <int kTier>
SRNN_DEVICE bool continues_frame(uint32_t now) {
  constexpr uint32_t kSize = frame_size(kTier), kUnit = unit_size(kTier);
  return now % kUnit == 0 && now % kSize != 0;
}

// Counts a sample, before the team publishes or reads anything that the counts number.
SRNN_DEVICE void count_sample(Block& b) {
  if (b.forced) return;
  ++b.samples;
  b.inputs += continues_frame<0>(b.now()) ? 0 : 1;
}

SRNN_DEVICE int state_place(int tier, int layer) { return kStatePlace + tier * kLayers + layer; }
SRNN_DEVICE int reset_place(int tier, int layer) { return kResetPlace + tier * kLayers + layer; }

// Puts h of a layer after frame number `frame` of this launch into columns from col_offset on, for
// streams first, ..., first + rows - 1. Frame 0 is the state before the first frame.
template <int kTier>
SRNN_DEVICE bool gather_state(const Block& b, int layer, uint32_t frame, int first, int rows,
                              int col_offset) {
  const RowWriter take{b, col_offset};
  if (frame > 0) {
    return gather<UnitVectors>(b, state_place(kTier, layer), frame, first, rows, take);
  }
  constexpr uint64_t kTierFloats = uint64_t{1} * kLayers * kAllStreams * kStateWidth;
  const float* hidden =
      b.p.hidden + kTier * kTierFloats + (uint64_t{1} * layer * kAllStreams + first) * kStateWidth;
  each_row<kTile>(b, rows, [&](int row, int number) {
    for (int col = number; col < kDim; col += threads_of_row<kTile>()) {
      const float number[1] = {hidden[row * kStateWidth + col]};
      take(row, col, number, 1, Constant<1>());
    }
    take.end_row(row);
  });
  barrier_sync(b.barrier(), kThreads);
  return true;
}

template <int kTier>
SRNN_DEVICE bool fill_state_rows(const Block& b, int layer, uint32_t frame, int first, int rows) {
  if (kSmallPackets && frame > 0) {  // other packets share the code that frame 0 needs
    return fill_rows<UnitVectors>(b, state_place(kTier, layer), frame, first, rows);
  }
  if (!gather_state<kTier>(b, layer, frame, first, rows, 0)) return false;
  finish_rows<kDim>(b, rows);
  return true;
}

// Returns whether the tier's output rows already hold its output after this frame. The caller fills
// them if not, so from now on they count as filled.
template <int kTier>
SRNN_DEVICE bool holds_output(const Block& b, uint32_t frame) {
  const bool there = kKeepOutputRows && b.output_frames[kTier] == frame + 1;
  b.output_frames[kTier] = frame + 1;
  return there;
}

template <int kTier>
SRNN_DEVICE MatrixRows recurrent_rows(const Block& b, int layer) {
  constexpr uint64_t kAt = kOffsets.tier[kTier].recurrent;
  constexpr Resident kStay = kResidents.recurrent[kTier];
  constexpr uint64_t kAllRows = uint64_t{1} * kLayers * kGates * kDim;
  return own_rows<kDim, kDim, kUnits>(b, kStay, kAt, kAllRows, layer * kGates);
}

// Multiplies a layer's state after a frame with its recurrent matrix, for the next frame.
template <int kTier>
SRNN_DEVICE bool multiply_recurrent(const Block& b, int layer, uint32_t frame) {
  const bool output = !kSkips && layer == kLayers - 1;
  const OutputRows use(b, output ? kTier : -1);
  const auto fill = [&](int first, int rows) {
    return (output && holds_output<kTier>(b, frame)) ||
           fill_state_rows<kTier>(b, layer, frame, first, rows);
  };
  const auto rows_of = [&](int) { return recurrent_rows<kTier>(b, layer); };
  const auto take = [&](int, int u, int stream, float (&terms)[kRecurrentGates]) {
    if constexpr (kResetAfter) {
      terms[2] += b.biases()[kCandidateBias + (kTier * kLayers + layer) * kUnits + u];
    }
    for (int g = 0; g < kRecurrentGates; ++g) b.recurrent(kTier, layer, g, u, stream) = terms[g];
  };
  return with_products<kDim, kRecurrentGates>(b, 1, fill, rows_of, take);
}

template <int kTier>
SRNN_DEVICE bool multiply_recurrents(const Block& b, uint32_t frame) {
  for (int layer = 0; layer < kLayers; ++layer) {
    if (!multiply_recurrent<kTier>(b, layer, frame)) return false;
  }
  return true;
}

// The weights of sample i of a tier's frame for a gate of a layer.
template <int kTier>
SRNN_DEVICE float frame_weight(const Block& b, int layer, int gate, int unit, int i) {
  const float* frame = floats_at(b, kOffsets.tier[kTier].frame);
  const uint64_t row = uint64_t{1} * (layer * kGates + gate) * kDim + unit;
  return frame[row * frame_size(kTier) + i];
}

// Sets y to a layer's biases for the frame that begins at `now` and, if the layer reads the tier's
// input, adds the samples of the last frame but its newest one.
template <int kTier>
SRNN_DEVICE void older_gates(const Block& b, int layer, int u, int stream, uint32_t now,
                             float (&y)[kGates]) {
  constexpr bool kTop = kTier + 1 == kTiers;
  constexpr int kAbove = kTop ? kTier : kTier + 1, kSize = frame_size(kTier);
  const int unit = b.first_unit + u, place = kTop ? 0 : unit_of_frame<kAbove>(now);
  const int gate = (place * kLayers + layer) * kGates;
  for (int g = 0; g < kGates; ++g) {
    y[g] = floats_at(b, kOffsets.tier[kTier].input_bias)[(gate + g) * kDim + unit];
  }
  if (layer >= kReaders) return;
  SRNN_UNROLL(4)
  for (int i = 0; i < kSize - 1; ++i) {
    const float value = b.value(stream, now - kSize + i);
    for (int g = 0; g < kGates; ++g) {
      y[g] += value * frame_weight<kTier>(b, layer, g, unit, i);
    }
  }
}

// Keeps older_gates of all layers for the frame that begins at `next`.
template <int kTier>
SRNN_DEVICE void prepare_gates(const Block& b, uint32_t next) {
  for (int layer = 0; layer < kLayers; ++layer) {
    for (int first = 0; first < kBatch; first += kTile) {
      each_owned<kUnits>(b, b.units, first, rows_of_tile(first), [&](int u, int stream) {
        float y[kGates];
        older_gates<kTier>(b, layer, u, stream, next, y);
        for (int g = 0; g < kGates; ++g) b.older(kTier, layer, g, u, stream) = y[g];
      });
    }
  }
}

// Sets y to what a layer's gates add up of biases and, if the layer reads the tier's input, of that
// input: the samples of the last frame, and what the tier above upsampled.
template <int kTier>
SRNN_DEVICE void input_gates(const Block& b, int layer, int u, int stream, float (&y)[kGates]) {
  constexpr bool kTop = kTier + 1 == kTiers;
  constexpr int kAbove = kTop ? kTier : kTier + 1, kNewest = frame_size(kTier) - 1;
  if constexpr (kLaunched) {
    older_gates<kTier>(b, layer, u, stream, b.now(), y);
  } else {
    for (int g = 0; g < kGates; ++g) y[g] = b.older(kTier, layer, g, u, stream);
  }
  if (layer >= kReaders) return;
  const float value = b.value(stream, b.now() - 1);
  for (int g = 0; g < kGates; ++g) {
    y[g] += value * (kKeepNewest ? b.newest_weight(kTier, layer, g, u)
                                 : frame_weight<kTier>(b, layer, g, b.first_unit + u, kNewest));
  }
  if (!kTop) {
    for (int g = 0; g < kGates; ++g) {
      y[g] += b.upsampled(kAbove, layer * kGates + g, u, stream);
    }
  }
}

// Returns the new h of an LSTM or of a GRU that resets after the product, from the gates' inputs y.
// For the other GRU it returns the reset state, which the candidate reads (run_candidate).
template <int kTier>
SRNN_DEVICE float run_cell(const Block& b, int layer, int u, int stream, float (&y)[kGates]) {
  float& h = b.state(kTier, layer, 0, u, stream);
  for (int g = 0; g < (kResetAfter ? 2 : kRecurrentGates); ++g) {
    y[g] += b.recurrent(kTier, layer, g, u, stream);
  }
  if constexpr (kLstm) {
    float& c = b.state(kTier, layer, 1, u, stream);
    const float kept = sigmoid(y[1]) * c, added = sigmoid(y[0]) * tanh_approx(y[2]);
    c = kept + added;
    h = sigmoid(y[3]) * tanh_approx(kept + added);
    return h;
  } else if constexpr (kResetAfter) {
    const float recurrent = b.recurrent(kTier, layer, 2, u, stream);
    const float update = sigmoid(y[1]), candidate = tanh_approx(y[2] + sigmoid(y[0]) * recurrent);
    h = candidate + update * (h - candidate);
    return h;
  } else {
    b.candidate_input(0, u, stream) = y[1];
    b.candidate_input(1, u, stream) = y[2];
    return sigmoid(y[0]) * h;
  }
}

// The second half of a GRU that resets before the product: its candidate and the new h.
template <int kTier>
SRNN_DEVICE bool run_candidate(const Block& b, int layer, uint32_t frame) {
  const OwnSlice<UnitVectors> state(b, state_place(kTier, layer), frame);
  const auto fill = [&](int first, int rows) {
    return fill_rows<UnitVectors>(b, reset_place(kTier, layer), frame, first, rows);
  };
  const auto rows_of = [&](int) {
    MatrixRows w = recurrent_rows<kTier>(b, layer);
    w.first += 2 * w.gate_stride, w.scales += 2 * w.gate_scales;
    return w;
  };
  const auto take = [&](int, int u, int stream, const float (&terms)[1]) {
    float& h = b.state(kTier, layer, 0, u, stream);
    const float candidate = tanh_approx(b.candidate_input(1, u, stream) + terms[0]);
    h = candidate + sigmoid(b.candidate_input(0, u, stream)) * (h - candidate);
    state.put(u, stream, h);
  };
  if (!with_products<kDim, 1>(b, 1, fill, rows_of, take)) return false;
  state.finish();
  return true;
}

// A layer's cell; of a GRU that resets before the product, its first half.
template <int kTier>
SRNN_DEVICE bool run_gates(const Block& b, int layer, uint32_t frame) {
  constexpr uint64_t kAt = kOffsets.tier[kTier].stack;
  constexpr Resident kStay = kResidents.stack[kTier];
  const int place = kResetBefore ? reset_place(kTier, layer) : state_place(kTier, layer);
  const OwnSlice<UnitVectors> state(b, place, frame);
  const auto finish = [&](int u, int stream, const float* below) {
    float y[kGates];
    input_gates<kTier>(b, layer, u, stream, y);
    for (int g = 0; below != nullptr && g < kGates; ++g) y[g] += below[g];
    state.put(u, stream, run_cell<kTier>(b, layer, u, stream, y));
  };
  if (kLayers == 1 || layer == 0) {
    for (int first = 0; first < kBatch; first += kTile) {
      each_owned<kUnits>(b, b.units, first, rows_of_tile(first),
                         [&](int u, int stream) { finish(u, stream, nullptr); });
    }
  } else {
    const auto fill = [&](int first, int rows) {
      return fill_state_rows<kTier>(b, layer - 1, frame, first, rows);
    };
    const auto rows_of = [&](int) {
      constexpr uint64_t kAllRows = uint64_t{kLayers - 1} * kGates * kDim;
      return own_rows<kDim, kDim, kUnits>(b, kStay, kAt, kAllRows, (layer - 1) * kGates);
    };
    const auto take = [&](int, int u, int stream, const float (&terms)[kGates]) {
      finish(u, stream, terms);
    };
    if (!with_products<kDim, kGates>(b, 1, fill, rows_of, take)) return false;
  }
  state.finish();
  return true;
}

template <int kTier>
SRNN_DEVICE bool run_layer(const Block& b, int layer, uint32_t frame) {
  return run_gates<kTier>(b, layer, frame) &&
         (!kResetBefore || run_candidate<kTier>(b, layer, frame));
}

}  // namespace srnn
