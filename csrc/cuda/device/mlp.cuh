// The sample-level MLP (Eq. 7-9): from the last levels and the lowest tier's upsampling to logits.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/cells.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/product.cuh"
#include "cuda/device/profile.cuh"
#include "cuda/device/rows.cuh"
#include "cuda/device/tensor.cuh"

namespace srnn {

// Limit of the units of the whole input that a thread computes at the same time.
constexpr int kUnitsAhead = 4;

SRNN_DEVICE float relu(float x) { return x < 0.0f ? 0.0f : x; }  // NaN stays NaN

// A unit of the first hidden layer after folding: its bias, a row of each tap's table, and what the
// lowest tier upsampled.
SRNN_DEVICE float input_of(const Block& b, int stream, int unit, float upsampled) {
  constexpr uint64_t kBias = kOffsets.input_bias, kTables = kOffsets.tables;
  float x = floats_at(b, kBias)[unit_of_frame<0>(b.now()) * kDim + unit];
  SRNN_UNROLL(4)
  for (int tap = 0; tap < kTaps; ++tap) {
    const uint32_t slot = (b.now() + kLookback - kTaps + tap) % kLookback;
    const uint64_t row = uint64_t{1} * tap * kLevels + b.levels(stream)[slot];
    x += floats_at(b, kTables)[row * kDim + unit];
  }
  return relu(x + upsampled);
}

// Computes own units of the input and publishes them.
SRNN_DEVICE void publish_input(Block& b) {
  for (int first = 0; first < kBatch; first += kTile) {
    each_owned<kUnits>(b, b.units, first, rows_of_tile(first), [&](int u, int stream) {
      b.own()[stream * kUnits + u] =
          input_of(b, stream, b.first_unit + u, b.upsampled(0, 0, u, stream));
    });
  }
  publish<UnitVectors>(b, kMlpPlace, b.samples);
}

struct InputKeeper {
  const Block& b;
  SRNN_DEVICE_MEMBER void operator()(int row, int col, float x) const { b.input(row)[col] = x; }
  SRNN_DEVICE_MEMBER void end_row(int) const {}
};

// kWholeInput: reads into b.input what the lowest tier upsampled for sample number `sample` of the
// launch. Returns false when the time is up.
SRNN_DEVICE bool gather_input(const Block& b, uint32_t sample) {
  return gather<UnitVectors>(b, kMlpPlace, sample, Age::kNew, 0, kBatch, InputKeeper{b});
}

// kWholeInput: fills rows with all units of the input, computed from b.input. A thread's reads of
// the tables are under way together.
SRNN_DEVICE void fill_input_rows(const Block& b) {
  constexpr int kStep = threads_of_row<kBatch>();
  constexpr int kAhead = smaller(kUnitsAhead, divide_up(kDim, kStep));
  const RowWriter writer{b, 0};
  each_row<kBatch>(b, kBatch, [&](int stream, int number) {
    for (int begin = number; begin < kDim; begin += kAhead * kStep) {
      float x[kAhead];
      for (int i = 0; i < kAhead; ++i) {
        const int unit = smaller(begin + i * kStep, kDim - 1);
        x[i] = input_of(b, stream, unit, b.input(stream)[unit]);
      }
      for (int i = 0; i < kAhead; ++i) {
        if (begin + i * kStep < kDim) writer(stream, begin + i * kStep, x[i]);
      }
    }
    writer.end_row(stream);
  });
  block_sync();
  finish_rows<kDim>(b, kBatch);
}

// Fills rows with the input of an MLP layer. With kWholeInput those of the first layer are filled.
template <int kLayer>
SRNN_DEVICE bool fill_layer_rows(const Block& b, int first, int rows) {
  if constexpr (kWholeInput && kLayer == 0) return true;
  return fill_rows<UnitVectors>(b, kMlpPlace + kLayer, b.samples, Age::kNew, first, rows);
}

template <int kLayer>
SRNN_DEVICE bool run_hidden_layer(Block& b) {
  constexpr uint64_t kAt = kOffsets.hidden[kLayer], kBias = kOffsets.hidden_bias[kLayer];
  constexpr Resident kStay = kResidents.hidden[kLayer];
  enter(b, kHiddenPhase + kLayer);
  const MatrixRows w = own_rows<kDim, kDim, kUnits>(b, kStay, kAt, kDim, 0);
  for (int first = 0; first < kBatch; first += kTile) {
    const int rows = rows_of_tile(first);
    if (!fill_layer_rows<kLayer>(b, first, rows)) return false;
    const auto take = [&](int u, int stream, const float (&terms)[1]) {
      const float bias = floats_at(b, kBias)[b.first_unit + u];
      b.own()[stream * kUnits + u] = relu(bias + terms[0]);
    };
    each_product<kDim, 1, kUnits>(b, w, b.units, first, rows, take);
  }
  publish<UnitVectors>(b, kMlpPlace + kLayer + 1, b.samples);
  return true;
}

// Runs hidden layer kLayer and those after it. With kWholeInput it calls idle() after the first one
// is published, while the other blocks' results are on their way.
template <int kLayer, class Idle>
SRNN_DEVICE bool run_hidden(Block& b, const Idle& idle) {
  if constexpr (kLayer < kHidden) {
    if (!run_hidden_layer<kLayer>(b)) return false;
    if (kWholeInput && kLayer == 0 && !idle()) return false;
    return run_hidden<kLayer + 1>(b, idle);
  }
  return true;
}

// Computes and publishes own logits. Then calls idle(), with kWholeInput and no hidden layer.
template <class Idle>
SRNN_DEVICE bool run_logits(Block& b, const Idle& idle) {
  constexpr uint64_t kAt = kOffsets.output, kBias = kOffsets.output_bias;
  constexpr Resident kStay = kResidents.output;
  enter(b, kLogitPhase);
  const MatrixRows w = own_rows<kDim, kLevels, kLogitRows>(b, kStay, kAt, kLevels, 0);
  const int first_row = b.index * kLogitRows;
  const int own = kLevels - first_row < kLogitRows ? kLevels - first_row : kLogitRows;
  for (int first = 0; first < kBatch; first += kTile) {
    const int rows = rows_of_tile(first);
    if (!fill_layer_rows<kHidden>(b, first, rows)) return false;
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
