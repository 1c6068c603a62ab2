// The sample-level MLP (Eq. 7-9), from levels and the lowest tier's conditioning to logits.
#pragma once

#include "cuda/device/upsample.cuh"

namespace srnn {

// Units of the whole input that a thread works out at the same time.
constexpr int kUnitsAhead = 4;

// A number of the first hidden layer after folding: the upsampling's bias, a row of each tap's
// table, and the tier's conditioning.
SRNN_DEVICE float input_of(const Block& b, int stream, int unit, float conditioning) {
  constexpr uint64_t kUpBias = kOffsets.tier[0].up_bias, kTables = kOffsets.tables;
  float x = floats_at(b, kUpBias)[unit_of_frame<0>(b.now()) * kDim + unit];
  SRNN_UNROLL(4)
  for (int tap = 0; tap < kTaps; ++tap) {
    const uint32_t slot = (b.now() + kLookback - kTaps + tap) % kLookback;
    const uint64_t row = uint64_t{1} * tap * kLevels + b.levels(stream)[slot];
    x += floats_at(b, kTables)[row * kDim + unit];
  }
  return relu(x + conditioning);
}

// Own units, for all blocks.
SRNN_DEVICE void give_input(Block& b) {
  for (int first = 0; first < kBatch; first += kTile) {
    each_cell<kUnits>(b, b.units, first, live_rows(first), [&](int u, int stream) {
      b.own()[stream * kUnits + u] =
          input_of(b, stream, b.first_unit + u, b.conditioning(0, 0, u, stream));
    });
  }
  publish<UnitVectors>(b, kMlpPlace, b.samples);
}

struct InputStager {
  const Block& b;
  SRNN_DEVICE_MEMBER void operator()(int row, int col, float x) const { b.input(row)[col] = x; }
  SRNN_DEVICE_MEMBER void end_row(int) const {}
};

// kWholeInput: reads what the lowest tier gives to the sample at `now`, with this number in the
// launch.
SRNN_DEVICE bool gather_input(const Block& b, uint32_t sample, uint32_t now) {
  if constexpr (kRoles) {
    if (unit_of_frame<0>(now) >= kHeadInputs) {
      return gather<InputVectors>(b, kUpPlace, sample, Age::kNew, 0, kBatch, InputStager{b});
    }
  }
  return gather<UnitVectors>(b, kMlpPlace, sample, Age::kNew, 0, kBatch, InputStager{b});
}

// kWholeInput: stages all units, from what has been gathered. A thread's table rows are on their
// way together.
SRNN_DEVICE void stage_input(const Block& b) {
  constexpr int kStep = threads_of_row<kBatch>();
  constexpr int kAhead = smaller(kUnitsAhead, divide_up(kDim, kStep));
  const Stager stager{b, 0};
  each_row<kBatch>(b, kBatch, [&](int stream, int number) {
    for (int begin = number; begin < kDim; begin += kAhead * kStep) {
      float x[kAhead];
      for (int i = 0; i < kAhead; ++i) {
        const int unit = smaller(begin + i * kStep, kDim - 1);
        x[i] = input_of(b, stream, unit, b.input(stream)[unit]);
      }
      for (int i = 0; i < kAhead; ++i) {
        if (begin + i * kStep < kDim) stager(stream, begin + i * kStep, x[i]);
      }
    }
    stager.end_row(stream);
  });
  block_sync();
  finish_staging<kDim>(b, kBatch);
}

// Stages the input of an MLP layer; where kWholeInput, that of the first one is there.
template <int kLayer>
SRNN_DEVICE bool stage_layer(const Block& b, int first, int rows) {
  if constexpr (kWholeInput && kLayer == 0) return true;
  return stage<UnitVectors>(b, kMlpPlace + kLayer, b.samples, Age::kNew, first, rows);
}

template <int kLayer>
SRNN_DEVICE bool run_hidden_layer(Block& b) {
  constexpr uint64_t kAt = kOffsets.hidden[kLayer], kBias = kOffsets.hidden_bias[kLayer];
  constexpr Resident kStay = kResidents.hidden[kLayer];
  enter(b, kHiddenStage + kLayer);
  const Rows w = own_rows<kDim, kDim, kUnits>(b, kStay, kAt, kDim, 0);
  for (int first = 0; first < kBatch; first += kTile) {
    const int rows = live_rows(first);
    if (!stage_layer<kLayer>(b, first, rows)) return false;
    const auto take = [&](int u, int stream, const float (&terms)[1]) {
      const float bias = floats_at(b, kBias)[b.first_unit + u];
      b.own()[stream * kUnits + u] = relu(bias + terms[0]);
    };
    each_product<kDim, 1, kUnits>(b, w, b.units, first, rows, take);
  }
  publish<UnitVectors>(b, kMlpPlace + kLayer + 1, b.samples);
  return true;
}

// The hidden layers that are left. Calls idle() once something is on its way to the other blocks.
template <int kLayer, class Idle>
SRNN_DEVICE bool run_hidden(Block& b, const Idle& idle) {
  if constexpr (kLayer < kHidden) {
    if (!run_hidden_layer<kLayer>(b)) return false;
    if (kWholeInput && kLayer == 0 && !idle()) return false;
    return run_hidden<kLayer + 1>(b, idle);
  }
  return true;
}

template <class Idle>
SRNN_DEVICE bool run_logits(Block& b, const Idle& idle) {
  constexpr uint64_t kAt = kOffsets.output, kBias = kOffsets.output_bias;
  constexpr Resident kStay = kResidents.output;
  enter(b, kLogitStage);
  const Rows w = own_rows<kDim, kLevels, kLogitRows>(b, kStay, kAt, kLevels, 0);
  const int first_row = b.index * kLogitRows;
  const int own = kLevels - first_row < kLogitRows ? kLevels - first_row : kLogitRows;
  for (int first = 0; first < kBatch; first += kTile) {
    const int rows = live_rows(first);
    if (!stage_layer<kHidden>(b, first, rows)) return false;
    const auto take = [&](int row, int stream, const float (&terms)[1]) {
      const float bias = floats_at(b, kBias)[first_row + row];
      b.own()[stream * kLogitRows + row] = bias + terms[0];
    };
    each_product<kDim, 1, kLogitRows>(b, w, own, first, rows, take);
  }
  publish<LogitVectors>(b, kLogitPlace, b.samples);
  return !kWholeInput || kHidden > 0 || idle();
}

}  // namespace srnn
