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
#include "cuda/device/upsample.cuh"

namespace srnn {

SRNN_DEVICE float relu(float x) { return x < 0.0f ? 0.0f : x; }  // NaN stays NaN

SRNN_DEVICE Four relu(Four x) { return {relu(x.a), relu(x.b), relu(x.c), relu(x.d)}; }

// The row of a tap's table for the sample of a stream at `time`.
SRNN_DEVICE const float* row_of_tap(const Block& b, int stream, int tap, uint32_t time) {
  const uint64_t row = uint64_t{1} * tap * kLevels + b.level(stream, time - kTaps + tap);
  return floats_at(b, kOffsets.tables) + row * kDim;
}

// This is what the first hidden layer, after folding, adds up before the newest level is known, for
// one unit or several neighbours: its bias, and a row of each older tap's table. read(row) reads
// the numbers of these units. The row that is added last may be on its way while the thread does
// something else.
template <class Number>
struct OlderTaps {
  Number sum = {}, last = {};
  OlderTaps() = default;
  template <class Read>
  SRNN_DEVICE_MEMBER OlderTaps(const Block& b, int stream, uint32_t time, Number bias,
                               const Read& read)
      : sum(bias) {
    SRNN_UNROLL(4)
    for (int tap = 0; tap + 2 < kTaps; ++tap) {
      sum = sum + read(row_of_tap(b, stream, tap, time));
    }
    if (kTaps > 1) last = read(row_of_tap(b, stream, kTaps - 2, time));
  }
  SRNN_DEVICE_MEMBER Number all() const { return kTaps > 1 ? sum + last : sum; }
};

SRNN_DEVICE const float* input_biases(const Block& b, uint32_t time) {
  return floats_at(b, kOffsets.input_bias) + unit_of_frame<0>(time) * kDim;
}
SRNN_DEVICE float older_taps(const Block& b, int stream, uint32_t time, int unit) {
  const auto read = [&](const float* row) { return row[unit]; };
  return OlderTaps<float>(b, stream, time, read(input_biases(b, time)), read).all();
}
// Returns the same for units col to col + 3.
SRNN_DEVICE OlderTaps<Four> four_older_taps(const Block& b, int stream, uint32_t time, int col) {
  const auto read = [&](const float* row) { return read_four<true>(row, col); };
  return {b, stream, time, read_four(input_biases(b, time), col), read};
}
SRNN_DEVICE const float* newest_row(const Block& b, int stream) {
  return row_of_tap(b, stream, kTaps - 1, b.now());
}

// Computes own units of the input and publishes them.
SRNN_DEVICE void publish_input(const Block& b) {
  const OwnSlice<InputVectors> input(b, kMlpPlace, b.samples);
  for (int first = 0; first < kBatch; first += kTile) {
    each_owned<kUnits>(b, b.units, first, rows_of_tile(first), [&](int u, int stream) {
      const int unit = b.first_unit + u;
      const float taps = older_taps(b, stream, b.now(), unit) + newest_row(b, stream)[unit];
      input.put(u, stream, relu(taps + b.upsampled(0, 0, u, stream)));
    });
  }
  input.finish();
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

// With small packets a thread holds its share of b.taps for the sample at `next` here, if that
// continues a frame of the lowest tier.
struct NextTaps {
  OlderTaps<Four> share[kSmallPackets ? kShares : 1];

  SRNN_DEVICE_MEMBER NextTaps(const Block& b, uint32_t next) {
    if (!continues_frame<0>(next)) return;
    for (int i = 0; kSmallPackets && i < kShares; ++i) {
      if (in_vector(share_col(b, i))) share[i] = four_older_taps(b, 0, next, share_col(b, i));
    }
  }

  SRNN_DEVICE_MEMBER void keep(const Block& b, uint32_t next) const {
    if (!continues_frame<0>(next)) return;
    for (int i = 0; kSmallPackets && i < kShares; ++i) {
      if (in_vector(share_col(b, i))) write_four(b.taps(0), share_col(b, i), share[i].all());
    }
  }
};

// kWholeInput: begins b.taps for the sample at `next`, which continues a frame of the lowest tier.
SRNN_DEVICE void prepare_taps(const Block& b, uint32_t next) {
  each_four(b, [&](int stream, int col) {
    write_four(b.taps(stream), col, four_older_taps(b, stream, next, col).all());
  });
}

// kWholeInput: begins b.own_taps for the sample at `next`, which begins a frame of the lowest tier.
SRNN_DEVICE void prepare_own_taps(const Block& b, uint32_t next) {
  each_owned<kUnits>(b, b.units, 0, kBatch, [&](int u, int stream) {
    b.own_taps(u, stream) = older_taps(b, stream, next, b.first_unit + u);
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

// kWholeInput: reads into b.input what the lowest tier upsampled for the next sample. The second of
// two teams does it ahead of its time, and half of its warps are enough. Returns false when the
// time is up.
SRNN_DEVICE bool gather_upsampled(const Block& b) {
  constexpr bool kHalf = kTeams > 1 && kSpareRegisters;
  constexpr int kPollers = kHalf ? divide_up(kWarps, 2) * kWarpSize : kThreads;
  return gather<UnitVectors, rows_at_once<UnitVectors>(), kPollers>(
      b, kUpsampledPlace, next_upsampled(b), 0, kBatch, InputKeeper{b});
}

// With kWholeInput this is what the newest level gives to a sample's input. It comes from L2, so it
// is asked for as soon as the level is known.
struct NewestRow {
  // This says whether a thread owns at most one unit of one stream.
  static constexpr bool kOneOwned = kUnits * kBatch <= kThreads;
  // With small packets this is the thread's share of the row.
  Four share[kSmallPackets ? kShares : 1] = {};
  // Else it is what the row has for the unit that the thread owns, where the sample begins a frame
  // of the lowest tier.
  float own = 0.0f;

  // Asks for it, once the last level before the sample at `time` is known.
  SRNN_DEVICE_MEMBER void ask(const Block& b, uint32_t time) {
    if (!kWholeInput || b.forced) return;
    const auto row_of = [&](int stream) { return row_of_tap(b, stream, kTaps - 1, time); };
    if constexpr (kSmallPackets) {
      for (int i = 0; i < kShares; ++i) {
        const int col = share_col(b, i);
        if (in_vector(col)) share[i] = read_four<true>(row_of(0), col);
      }
    } else if (!continues_frame<0>(time)) {
      each_owned<kUnits>(b, b.units, 0, kBatch, [&](int u, int stream) {
        if (kOneOwned) own = row_of(stream)[b.first_unit + u];
      });
    }
  }

  // Adds it to b.own_taps, where the sample begins a frame. With small packets another thread than
  // the owner of a unit may do so; the barriers of the sample before and of the fill that follows
  // lie between them.
  SRNN_DEVICE_MEMBER void complete_own_taps(const Block& b) const {
    if constexpr (kSmallPackets) {
      for (int i = 0; i < kShares; ++i) {
        const float numbers[4] = {share[i].a, share[i].b, share[i].c, share[i].d};
        for (int k = 0; k < 4; ++k) {
          const int u = share_col(b, i) + k - b.first_unit;
          if (0 <= u && u < b.units) b.own_taps(u, 0) += numbers[k];
        }
      }
    } else {
      each_owned<kUnits>(b, b.units, 0, kBatch, [&](int u, int stream) {
        b.own_taps(u, stream) += kOneOwned ? own : newest_row(b, stream)[b.first_unit + u];
      });
    }
  }
};

// kWholeInput: upsamples for this sample, which begins a frame of the lowest tier, and publishes
// own units of its input. NewestRow::complete_own_taps has been called.
SRNN_DEVICE bool publish_begun_input(const Block& b, uint32_t frame) {
  const auto taps_of = [&](int u, int stream) { return b.own_taps(u, stream); };
  const auto finish = [](float taps, float upsampled) { return relu(taps + upsampled); };
  return publish_upsampled<InputVectors, true>(b, frame, b.now(), kMlpPlace, b.inputs, taps_of,
                                               finish);
}

// kWholeInput: fills rows with the input of a sample that continues a frame of the lowest tier.
// b.input must be complete, and b.taps but for the newest tap.
SRNN_DEVICE void fill_input_rows(const Block& b, const NewestRow& row) {
  if constexpr (kSmallPackets) {
    Four x[kShares] = {};
    for (int i = 0; i < kShares; ++i) {
      const int col = share_col(b, i);
      if (!in_vector(col)) continue;
      x[i] = relu(read_four(b.taps(0), col) + row.share[i] + read_four(b.input(0), col));
    }
    write_shares(b, x);
    write_codes<true>(b, x);
    return;
  }
  constexpr int kStep = threads_of_row<kBatch>() * 4;
  const RowWriter writer{b, 0};
  each_row<kBatch>(b, kBatch, [&](int stream, int number) {
    const float* newest = newest_row(b, stream);
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

// Fills rows with the input of an MLP layer. With kWholeInput those of the first layer are filled.
template <int kLayer>
SRNN_DEVICE bool fill_layer_rows(const Block& b, int first, int rows) {
  if constexpr (kWholeInput && kLayer == 0) return true;
  return fill_rows<InputVectors>(b, kMlpPlace + kLayer, b.samples, first, rows);
}

template <int kLayer>
SRNN_DEVICE bool run_hidden_layer(const Block& b) {
  constexpr uint64_t kAt = kOffsets.hidden[kLayer];
  constexpr Resident kStay = kResidents.hidden[kLayer];
  enter(b, kHiddenPhase + kLayer);
  const MatrixRows w = own_rows<kDim, kDim, kUnits>(b, kStay, kAt, kDim, 0);
  const auto fill = [&](int first, int rows) { return fill_layer_rows<kLayer>(b, first, rows); };
  const auto finish = [](float bias, float product) { return relu(bias + product); };
  const auto bias_of = [&](int row, int) { return b.biases()[kLayer * kUnits + row]; };
  const int place = kMlpPlace + kLayer + 1;
  return publish_product<InputVectors, kDim>(b, w, b.units, place, b.samples, fill, bias_of,
                                             finish);
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
  const auto bias_of = [&](int row, int) { return b.biases()[kLogitBias + row]; };
  if (!publish_product<LogitVectors, kDim>(b, w, own, kLogitPlace, b.samples, fill, bias_of,
                                           finish)) {
    return false;
  }
  return !kWholeInput || kHidden > 0 || idle();
}

}  // namespace srnn
