// One sample (Eq. 7-9): the sample-level MLP, and the draw.
#pragma once

#include "cuda/tier.cuh"
#include "sampler.h"

namespace srnn {

// --- the MLP ----------------------------------------------------------------------------------

// The first hidden layer after folding: the upsampling's bias, a row of each tap's table, and the
// tier's conditioning.
SRNN_DEVICE void read_levels(const Block& b) {
  constexpr uint64_t kUpBias = kOffsets.tier[0].up_bias, kTables = kOffsets.tables;
  const float* bias = floats_at(b, kUpBias) + unit_of_frame<0>(b.now()) * kDim + b.first_unit;
  for (int first = 0; first < kBatch; first += kTile) {
    const int stream = first + b.lane;
    for (int u = b.warp; u < b.units && b.lane < live_rows(first); u += kWarps) {
      float x = bias[u];
      SRNN_UNROLL(4)
      for (int tap = 0; tap < kTaps; ++tap) {
        const uint32_t slot = (b.now() + kLookback - kTaps + tap) % kLookback;
        const uint64_t row = uint64_t{1} * tap * kLevels + b.levels(stream)[slot];
        x += floats_at(b, kTables)[row * kDim + b.first_unit + u];
      }
      x += b.conditioning(0, 0, u, stream);
      b.own()[stream * kUnits + u] = relu(x);
    }
  }
}

template <int kLayer>
SRNN_DEVICE bool run_hidden(Block& b) {
  if constexpr (kLayer < kHidden) {
    constexpr uint64_t kAt = kOffsets.hidden[kLayer], kBias = kOffsets.hidden_bias[kLayer];
    constexpr Resident kStay = kResidents.hidden[kLayer];
    const Rows w = own_rows<kDim, kDim, kUnits>(
        b, kStay.on ? shared_memory() + kStay.offset : nullptr, kAt, kDim, 0);
    for (int first = 0; first < kBatch; first += kTile) {
      const int rows = live_rows(first);
      if (!stage(b, kMlpPlace + kLayer, b.samples, Age::kNew, first, rows)) return false;
      for (int u = b.warp; u < b.units; u += kWarps) {
        float terms[1];
        multiply<kDim, 1>(b, w, u, terms);
        if (b.lane >= rows) continue;
        const float bias = floats_at(b, kBias)[b.first_unit + u];
        b.own()[(first + b.lane) * kUnits + u] = relu(bias + terms[0]);
      }
    }
    publish<UnitVectors>(b, kMlpPlace + kLayer + 1, b.samples);
    return run_hidden<kLayer + 1>(b);
  }
  return true;
}

SRNN_DEVICE bool run_logits(Block& b) {
  constexpr uint64_t kAt = kOffsets.output, kBias = kOffsets.output_bias;
  constexpr Resident kStay = kResidents.output;
  const Rows w = own_rows<kDim, kLevels, kLogitRows>(
      b, kStay.on ? shared_memory() + kStay.offset : nullptr, kAt, kLevels, 0);
  const int first_row = b.index * kLogitRows;
  for (int first = 0; first < kBatch; first += kTile) {
    const int rows = live_rows(first);
    if (!stage(b, kMlpPlace + kHidden, b.samples, Age::kNew, first, rows)) return false;
    for (int r = b.warp; r < kLogitRows && first_row + r < kLevels; r += kWarps) {
      float terms[1];
      multiply<kDim, 1>(b, w, r, terms);
      if (b.lane >= rows) continue;
      const float bias = floats_at(b, kBias)[first_row + r];
      b.own()[(first + b.lane) * kLogitRows + r] = bias + terms[0];
    }
  }
  publish<LogitVectors>(b, kLogitPlace, b.samples);
  return true;
}

// --- the draw ---------------------------------------------------------------------------------

// A warp shares out a row of logits: each lane has some neighbouring levels.
struct WarpTeam {
  SRNN_DEVICE_MEMBER int32_t max(int32_t x) const { return warp_max(x); }
  SRNN_DEVICE_MEMBER uint64_t sum(uint64_t x) const { return warp_sum(x); }
  SRNN_DEVICE_MEMBER uint64_t before(uint64_t x) const { return warp_before(x); }
  SRNN_DEVICE_MEMBER int first_found(int level) const { return warp_first(level); }
};

// Looks up how a sample of this launch is to be made, ahead of its turn.
SRNN_DEVICE void prepare_draws(const Block& b, int step) {
  for (int s = b.thread; s < kBatch; s += kThreads) {
    const int64_t at = int64_t{1} * s * b.p.steps + step;
    Draw& draw = b.draws(step)[s];
    draw.forced = b.p.forced == nullptr ? -1 : b.p.forced[at];
    draw.draw = philox_draw(b.p.seeds[s], b.p.streams[s], static_cast<uint64_t>(b.p.t + step));
    draw.temperature = b.p.temperature[at];
  }
}

// The level of one stream, from its staged logits; -1 where they are not finite.
SRNN_DEVICE int draw_level(const Block& b, int row, int stream) {
  constexpr int kPart = (kLevels + kWarpSize - 1) / kWarpSize;
  const Draw& draw = b.draws(b.step)[stream];
  const float* logits = b.raw(row);
  if (b.p.logits != nullptr && (!kDrawAll || b.index == stream % kBlocks)) {
    float* to = b.p.logits + (int64_t{1} * stream * b.p.steps + b.step) * kLevels;
    for (int i = b.lane; i < kLevels; i += kWarpSize) to[i] = logits[i];
  }
  if (draw.forced >= 0) return draw.forced;
  const SamplerSettings settings = {b.p.top_k, b.p.use_top_p != 0, b.p.top_p_fraction};
  const int first = b.lane * kPart < kLevels ? b.lane * kPart : kLevels;
  const int count = kLevels - first < kPart ? kLevels - first : kPart;
  const int level = sample_level(logits + first, first, count, kLevels, draw.draw, draw.temperature,
                                 settings, b.draw_weights(row) + first, WarpTeam());
  if (level < 0 && b.lane == 0) report(b, kNotFinite, static_cast<uint32_t>(stream), 0);
  return level;
}

struct RawStager {
  const Block& b;
  SRNN_DEVICE_MEMBER void operator()(int row, int col, float x) const { b.raw(row)[col] = x; }
};

// Stores the newest level of a stream, for all of this block. Whether it is a level.
SRNN_DEVICE bool keep_level(const Block& b, int stream, int level) {
  b.levels(stream)[b.now() % kLookback] = level;
  if (b.index == stream % kBlocks) {
    b.p.levels[int64_t{1} * stream * b.p.steps + b.step] = level;
  }
  return level >= 0;
}

// Draws streams first, ..., from their logits and hands each level to take(stream, level).
template <class Take>
SRNN_DEVICE bool draw_streams(const Block& b, int first, int rows, const Take& take) {
  if (!gather<LogitVectors>(b, kLogitPlace, b.samples, Age::kNew, first, rows, RawStager{b})) {
    return false;
  }
  for (int row = b.warp; row < rows; row += kWarps) {
    const int level = draw_level(b, row, first + row);
    if (b.lane == 0) take(first + row, level);
  }
  return true;
}

// Few streams: every block draws all of them, and needs no answer from another.
SRNN_DEVICE bool draw_all(const Block& b) {
  bool sound = true;
  const auto take = [&](int stream, int level) { sound = keep_level(b, stream, level) && sound; };
  if (!draw_streams(b, 0, kBatch, take)) return false;
  return !block_any(!sound);
}

// Many streams: every block draws its own and gives the levels to the others.
SRNN_DEVICE bool draw_own(Block& b) {
  const int begin = b.index * kDrawStreams;
  const int end = begin + kDrawStreams < kBatch ? begin + kDrawStreams : kBatch;
  float* own = b.own();
  for (int first = begin; first < end; first += kTile) {
    const auto take = [&](int stream, int level) {
      own[stream - begin] = float_of(static_cast<uint32_t>(level));
    };
    if (!draw_streams(b, first, end - first < kTile ? end - first : kTile, take)) return false;
  }
  publish<LevelVector>(b, kLevelPlace, b.samples);
  bool sound = true;
  const auto take = [&](int, int stream, float x) {
    sound = keep_level(b, stream, static_cast<int32_t>(bits_of(x))) && sound;
  };
  if (!gather<LevelVector>(b, kLevelPlace, b.samples, Age::kNew, 0, 1, take)) return false;
  return !block_any(!sound);
}

// Whether every stream is told its next level, so that nothing depends on the logits.
SRNN_DEVICE bool all_forced(const Block& b) {
  if (b.p.forced == nullptr || b.p.logits != nullptr) return false;
  bool free = false;
  for (int s = b.thread; s < kBatch; s += kThreads) free = free || b.draws(b.step)[s].forced < 0;
  return !block_any(free);
}

SRNN_DEVICE void keep_forced(const Block& b) {
  for (int s = b.thread; s < kBatch; s += kThreads) keep_level(b, s, b.draws(b.step)[s].forced);
  block_sync();
}

}  // namespace srnn
