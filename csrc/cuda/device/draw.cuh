// The draw of one sample of every stream.
#pragma once

#include "cuda/device/exchange.cuh"
#include "model/draw.h"

namespace srnn {

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
  if (level < 0 && b.lane == 0)
    report(b, kNotFinite, static_cast<uint32_t>(b.first_stream + stream), 0);
  return level;
}

struct RawStager {
  const Block& b;
  SRNN_DEVICE_MEMBER void operator()(int row, int col, float x) const { b.raw(row)[col] = x; }
  SRNN_DEVICE_MEMBER void end_row(int) const {}
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
  constexpr int kRows = smaller(kDrawStreams, kTile);
  if (!gather<LogitVectors, kRows>(b, kLogitPlace, b.samples, Age::kNew, first, rows,
                                   RawStager{b})) {
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
SRNN_DEVICE bool give_levels(Block& b) {
  const int begin = b.index * kDrawStreams;
  const int end = begin + kDrawStreams < kBatch ? begin + kDrawStreams : kBatch;
  float* own = b.own();
  for (int first = begin; first < end; first += kTile) {
    const auto take = [&](int stream, int level) {
      own[stream - begin] = float_of(static_cast<uint32_t>(level));
    };
    if (!draw_streams(b, first, end - first < kTile ? end - first : kTile, take)) return false;
  }
  // Who draws none has waited for nobody: counted twice it would stand for one who has not stored.
  if constexpr (LevelVector::kProtocol == Protocol::kCounters) {
    if (begin >= kBatch && !wait_for_counter(b, kLogitPlace, b.samples)) return false;
  }
  publish<LevelVector>(b, kLevelPlace, b.samples);
  return true;
}

struct LevelStager {
  const Block& b;
  bool& sound;  // whether all are levels
  SRNN_DEVICE_MEMBER void operator()(int, int stream, float x) const {
    sound = keep_level(b, stream, static_cast<int32_t>(bits_of(x))) && sound;
  }
  SRNN_DEVICE_MEMBER void end_row(int) const {}
};

SRNN_DEVICE bool take_levels(const Block& b) {
  bool sound = true;
  const LevelStager take{b, sound};
  if (!gather<LevelVector>(b, kLevelPlace, b.samples, Age::kNew, 0, 1, take)) return false;
  return !block_any(!sound);
}

SRNN_DEVICE bool draw_own(Block& b) { return give_levels(b) && take_levels(b); }

// Whether every stream is told its level of a step that has been prepared, so that nothing depends
// on the logits. All threads meet, so what was published before may be written over.
SRNN_DEVICE bool all_forced(const Block& b, int step) {
  bool free = b.p.forced == nullptr || b.p.logits != nullptr;
  // Of the streams that this thread prepared.
  for (int s = b.thread; s < kBatch; s += kThreads) free = free || b.draws(step)[s].forced < 0;
  return !block_any(free);
}

SRNN_DEVICE void keep_forced(const Block& b) {
  for (int s = b.thread; s < kBatch; s += kThreads) keep_level(b, s, b.draws(b.step)[s].forced);
  block_sync();
}

}  // namespace srnn
