// The sample-level MLP (Eq. 7-9): from the last levels and the lowest tier's upsampling to logits.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/cells.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/outputs.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/product.cuh"
#include "cuda/device/profile.cuh"
#include "cuda/device/rows.cuh"

namespace srnn {

SRNN_DEVICE float relu(float x) { return x < 0.0f ? 0.0f : x; }  // NaN stays NaN

SRNN_DEVICE Four relu(Four x) { return {relu(x.a), relu(x.b), relu(x.c), relu(x.d)}; }

// The row of a tap's table for the sample of a stream at `time`.
SRNN_DEVICE const float* row_of_tap(const Block& b, int stream, int tap, uint32_t time) {
  const uint64_t row = uint64_t{1} * tap * kLevels + b.level(stream, time - kTaps + tap);
  return floats_at(b, kOffsets.tables) + row * kDim;
}

// A unit of the first hidden layer after folding: its bias, a row of each tap's table, and what the
// lowest tier upsampled.
SRNN_DEVICE float input_of(const Block& b, int stream, int unit, float upsampled) {
  constexpr uint64_t kBias = kOffsets.input_bias;
  float x = floats_at(b, kBias)[unit_of_frame<0>(b.now()) * kDim + unit];
  SRNN_UNROLL(4)
  for (int tap = 0; tap < kTaps; ++tap) x += row_of_tap(b, stream, tap, b.now())[unit];
  return relu(x + upsampled);
}

// Computes own units of the input and publishes them.
SRNN_DEVICE void publish_input(const Block& b) {
  for (int first = 0; first < kBatch; first += kTile) {
    each_owned<kUnits>(b, b.units, first, rows_of_tile(first), [&](int u, int stream) {
      b.own()[stream * kUnits + u] =
          input_of(b, stream, b.first_unit + u, b.upsampled(0, 0, u, stream));
    });
  }
  publish<UnitVectors>(b, kMlpPlace, b.samples);
}

// kWholeInput: calls visit(stream, col) for groups of four neighbouring units of every stream. Each
// thread always has the same ones.
template <class Visit>
SRNN_DEVICE void each_four(const Block& b, const Visit& visit) {
  constexpr int kStep = threads_of_row<kBatch>() * 4;
  each_row<kBatch>(b, kBatch, [&](int stream, int number) {
    SRNN_UNROLL(2)
    for (int step = 0; step < divide_up(kDim, kStep); ++step) {
      const int col = step * kStep + number * 4;
      if (kDim % kStep == 0 || col < kDim) visit(stream, col);
    }
  });
}

// Small packets: this thread's share of b.taps for the sample at `next`, whose newest level may be
// unknown. The row that is added last may be on its way while the thread waits for something else.
struct NextTaps {
  Four sum[kSmallPackets ? kShares : 1] = {}, last[kSmallPackets ? kShares : 1] = {};

  SRNN_DEVICE_MEMBER NextTaps(const Block& b, uint32_t next) {
    if (!kSmallPackets) return;
    const float* bias = floats_at(b, kOffsets.input_bias) + unit_of_frame<0>(next) * kDim;
    for (int i = 0; i < kShares; ++i) {
      const int col = share_col(b, i);
      if (!in_vector(col)) continue;
      sum[i] = read_four(bias, col);
      for (int tap = 0; tap + 2 < kTaps; ++tap)
        sum[i] = sum[i] + read_four<true>(row_of_tap(b, 0, tap, next), col);
      if (kTaps > 1) last[i] = read_four<true>(row_of_tap(b, 0, kTaps - 2, next), col);
    }
  }

  SRNN_DEVICE_MEMBER void keep(const Block& b) const {
    for (int i = 0; i < kShares; ++i) {
      const int col = share_col(b, i);
      if (in_vector(col)) write_four(b.taps(0), col, kTaps > 1 ? sum[i] + last[i] : sum[i]);
    }
  }
};

// kWholeInput: begins b.taps for the sample at `next`, whose newest level may be unknown.
SRNN_DEVICE void prepare_taps(const Block& b, uint32_t next) {
  const float* bias = floats_at(b, kOffsets.input_bias) + unit_of_frame<0>(next) * kDim;
  each_four(b, [&](int stream, int col) {
    Four x = read_four(bias, col);
    for (int tap = 0; tap + 1 < kTaps; ++tap)
      x = x + read_four<true>(row_of_tap(b, stream, tap, next), col);
    write_four(b.taps(stream), col, x);
  });
}

struct InputKeeper {
  const Block& b;
  template <int kCount, class Sure>
  SRNN_DEVICE_MEMBER void operator()(int row, int col, const float (&numbers)[kCount], int count,
                                     Sure) const {
    if constexpr (kCount == 4) {
      write_four(b.input(row), col, {numbers[0], numbers[1], numbers[2], numbers[3]});
    } else {
      for (int k = 0; k < kCount; ++k) {
        if (k < Sure::value || k < count) b.input(row)[col + k] = numbers[k];
      }
    }
  }
  SRNN_DEVICE_MEMBER void end_row(int) const {}
};

// kWholeInput: reads into b.input what the lowest tier upsampled for sample number `sample` of the
// launch. The second of two teams does it ahead of its time, and half of its threads are enough.
// Returns false when the time is up.
SRNN_DEVICE bool gather_input(const Block& b, uint32_t sample) {
  constexpr int kPollers = kTeams > 1 && kSpareRegisters ? kThreads / 2 : kThreads;
  return gather<UnitVectors, rows_at_once<UnitVectors>(), kPollers>(b, kMlpPlace, sample, 0, kBatch,
                                                                    InputKeeper{b});
}

// Makes units of the input of what the lowest tier upsampled and of b.taps, which are complete.
struct InputWriter {
  const Block& b;
  const RowWriter writer;
  template <int kCount, class Sure>
  SRNN_DEVICE_MEMBER void operator()(int row, int col, const float (&numbers)[kCount], int count,
                                     Sure sure) const {
    float x[kCount];
    // Numbers past `count` are read as well, and not used: a condition would stand between the
    // reads.
    for (int k = 0; k < kCount; ++k) x[k] = relu(b.taps(row)[col + k] + numbers[k]);
    writer(row, col, x, count, sure);
  }
  SRNN_DEVICE_MEMBER void end_row(int row) const { writer.end_row(row); }
};

// Small packets: this thread's share of the table row of the newest level. It is asked for before
// anything else in a sample, because it comes from L2.
struct NewestRow {
  Four share[kSmallPackets ? kShares : 1] = {};
  SRNN_DEVICE_MEMBER explicit NewestRow(const Block& b) {
    if (!kSmallPackets || b.forced) return;
    const float* row = row_of_tap(b, 0, kTaps - 1, b.now());
    for (int i = 0; i < kShares; ++i) {
      if (in_vector(share_col(b, i))) share[i] = read_four<true>(row, share_col(b, i));
    }
  }
};

// kWholeInput: adds the row of the newest level to b.taps.
SRNN_DEVICE void complete_taps(const Block& b, const NewestRow& row) {
  if constexpr (kSmallPackets) {
    for (int i = 0; i < kShares; ++i) {
      const int col = share_col(b, i);
      if (in_vector(col)) write_four(b.taps(0), col, read_four(b.taps(0), col) + row.share[i]);
    }
    return;
  }
  each_four(b, [&](int stream, int col) {
    const float* newest = row_of_tap(b, stream, kTaps - 1, b.now());
    write_four(b.taps(stream), col, read_four(b.taps(stream), col) + read_four<true>(newest, col));
  });
}

// kWholeInput: fills rows with all units of the input. b.input must be complete, and b.taps but for
// the newest tap.
SRNN_DEVICE void fill_input_rows(const Block& b, const NewestRow& row) {
  if constexpr (kSmallPackets) {
    Four x[kShares] = {};
    for (int i = 0; i < kShares; ++i) {
      const int col = share_col(b, i);
      if (!in_vector(col)) continue;
      x[i] = relu(read_four(b.taps(0), col) + row.share[i] + read_four(b.input(0), col));
    }
    write_shares(b, x, true);
    write_codes(b, x);
    return;
  }
  constexpr int kStep = threads_of_row<kBatch>() * 4;
  const RowWriter writer{b, 0};
  each_row<kBatch>(b, kBatch, [&](int stream, int number) {
    const float* newest = row_of_tap(b, stream, kTaps - 1, b.now());
    SRNN_UNROLL(2)
    for (int step = 0; step < divide_up(kDim, kStep); ++step) {
      const int col = step * kStep + number * 4;
      if (kDim % kStep != 0 && col >= kDim) break;
      const Four x = read_four(b.taps(stream), col) + read_four<true>(newest, col);
      writer.put(stream, col, relu(x + read_four(b.input(stream), col)));
    }
    writer.end_row(stream);
  });
  barrier_sync(b.barrier(), kThreads);
  finish_rows<kDim>(b, kBatch);
}

// kWholeInput: fills rows with all units of the input, when complete_taps was called before a
// barrier and what the lowest tier upsampled is on its way. Returns false when the time is up.
SRNN_DEVICE bool gather_input_rows(const Block& b) {
  if constexpr (kSmallPackets) {
    return fill_shares<UnitVectors>(b, kMlpPlace, b.samples, [&](int col, Four upsampled) {
      return relu(read_four(b.taps(0), col) + upsampled);
    });
  }
  const InputWriter take{b, RowWriter{b, 0}};
  if (!gather<UnitVectors>(b, kMlpPlace, b.samples, 0, kBatch, take)) return false;
  finish_rows<kDim>(b, kBatch);
  return true;
}

// Fills rows with the input of an MLP layer. With kWholeInput those of the first layer are filled.
template <int kLayer>
SRNN_DEVICE bool fill_layer_rows(const Block& b, int first, int rows) {
  if constexpr (kWholeInput && kLayer == 0) return true;
  return fill_rows<UnitVectors>(b, kMlpPlace + kLayer, b.samples, first, rows);
}

template <int kLayer>
SRNN_DEVICE bool run_hidden_layer(const Block& b) {
  constexpr uint64_t kAt = kOffsets.hidden[kLayer];
  constexpr Resident kStay = kResidents.hidden[kLayer];
  enter(b, kHiddenPhase + kLayer);
  const MatrixRows w = own_rows<kDim, kDim, kUnits>(b, kStay, kAt, kDim, 0);
  const auto fill = [&](int first, int rows) { return fill_layer_rows<kLayer>(b, first, rows); };
  const auto finish = [](float bias, float product) { return relu(bias + product); };
  const float* biases = b.biases() + kLayer * kUnits;
  const int place = kMlpPlace + kLayer + 1;
  return publish_product<UnitVectors, kDim>(b, w, b.units, place, b.samples, biases, fill, finish);
}

// Runs hidden layer kLayer and those after it. With kWholeInput it calls idle() after the first one
// is published, while the other blocks' results are on their way.
template <int kLayer, class Idle>
SRNN_DEVICE bool run_hidden(const Block& b, const Idle& idle) {
  if constexpr (kLayer < kHidden) {
    if (!run_hidden_layer<kLayer>(b)) return false;
    if (kWholeInput && kLayer == 0 && !idle()) return false;
    return run_hidden<kLayer + 1>(b, idle);
  }
  return true;
}

// Computes and publishes own logits. Then calls idle(), with kWholeInput and no hidden layer.
template <class Idle>
SRNN_DEVICE bool run_logits(const Block& b, const Idle& idle) {
  constexpr uint64_t kAt = kOffsets.output;
  constexpr Resident kStay = kResidents.output;
  enter(b, kLogitPhase);
  const MatrixRows w = own_rows<kDim, kLevels, kLogitRows>(b, kStay, kAt, kLevels, 0);
  const int first_row = b.index * kLogitRows;
  const int own = part_of<kLevels, kLogitRows, kBlocks>(first_row);
  const auto fill = [&](int first, int rows) { return fill_layer_rows<kHidden>(b, first, rows); };
  const auto finish = [](float bias, float product) { return bias + product; };
  const float* biases = b.biases() + kLogitBias;
  if (!publish_product<LogitVectors, kDim>(b, w, own, kLogitPlace, b.samples, biases, fill,
                                           finish)) {
    return false;
  }
  return !kWholeInput || kHidden > 0 || idle();
}

}  // namespace srnn
