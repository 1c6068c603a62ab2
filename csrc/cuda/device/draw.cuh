// Draws one sample of every stream from its logits (model/draw.h), and stores the levels.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/prims.h"
#include "model/draw.h"

namespace srnn {

// A warp shares a row of logits: each lane has a slice of neighbouring levels.
struct WarpTeam {
  SRNN_DEVICE_MEMBER int32_t max(int32_t x) const { return warp_max(x); }
  SRNN_DEVICE_MEMBER uint64_t sum(uint64_t x) const { return warp_sum(x); }
  SRNN_DEVICE_MEMBER uint64_t before(uint64_t x) const { return warp_before(x); }
  SRNN_DEVICE_MEMBER int first_found(int level) const { return warp_first(level); }
};

// Looks up how a sample of this launch is drawn, before its logits are there.
SRNN_DEVICE void prepare_draws(const Block& b, int step) {
  for (int s = b.thread; s < kBatch; s += kThreads) {
    const int64_t at = int64_t{1} * s * b.p.steps + step;
    Draw& draw = b.draws(step)[s];
    draw.forced = b.p.forced == nullptr ? -1 : b.p.forced[at];
    draw.draw = philox_draw(b.p.seeds[s], b.p.streams[s], static_cast<uint64_t>(b.p.t + step));
    draw.temperature = b.p.temperature[at];
  }
}

// Draws the level of one stream from its logits in b.raw(row), or returns the forced one. The
// result is -1 where the logits are not finite. All lanes of a warp call it.
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

struct LogitKeeper {
  const Block& b;
  SRNN_DEVICE_MEMBER void operator()(int row, int col, float x) const { b.raw(row)[col] = x; }
  SRNN_DEVICE_MEMBER void end_row(int) const {}
};

// Stores the new level of a stream in this block's ring buffer, and once in the output. Returns
// whether it is a level.
SRNN_DEVICE bool keep_level(const Block& b, int stream, int level) {
  b.levels(stream)[b.now() % kLookback] = level;
  if (b.index == stream % kBlocks) {
    b.p.levels[int64_t{1} * stream * b.p.steps + b.step] = level;
  }
  return level >= 0;
}

// Reads the logits of streams first, ..., first + rows - 1, draws their levels, and calls
// take(stream, level). Returns false when the time is up.
template <class Take>
SRNN_DEVICE bool draw_streams(const Block& b, int first, int rows, const Take& take) {
  constexpr int kRows = smaller(kDrawStreams, kTile);
  if (!gather<LogitVectors, kRows>(b, kLogitPlace, b.samples, Age::kNew, first, rows,
                                   LogitKeeper{b})) {
    return false;
  }
  for (int row = b.warp; row < rows; row += kWarps) {
    const int level = draw_level(b, row, first + row);
    if (b.lane == 0) take(first + row, level);
  }
  return true;
}

// kDrawAll: draws all streams in every block, so that no levels need to be exchanged.
SRNN_DEVICE bool draw_all(const Block& b) {
  bool sound = true;
  const auto take = [&](int stream, int level) { sound = keep_level(b, stream, level) && sound; };
  if (!draw_streams(b, 0, kBatch, take)) return false;
  return !block_any(!sound);
}

// Draws this block's streams and publishes their levels.
SRNN_DEVICE bool publish_levels(Block& b) {
  const int begin = b.index * kDrawStreams;
  const int end = begin + kDrawStreams < kBatch ? begin + kDrawStreams : kBatch;
  float* own = b.own();
  for (int first = begin; first < end; first += kTile) {
    const auto take = [&](int stream, int level) {
      own[stream - begin] = float_of(static_cast<uint32_t>(level));
    };
    if (!draw_streams(b, first, end - first < kTile ? end - first : kTile, take)) return false;
  }
  // A block without streams has not waited for the logits. If it published now, the counter would
  // count it twice, in place of a block that has not stored its logits yet.
  if constexpr (kExchange == Protocol::kCounters) {
    if (begin >= kBatch && !wait_for_counter(b, kLogitPlace, b.samples)) return false;
  }
  publish<LevelVector>(b, kLevelPlace, b.samples);
  return true;
}

struct LevelKeeper {
  const Block& b;
  bool& sound;  // whether all numbers so far are levels
  SRNN_DEVICE_MEMBER void operator()(int, int stream, float x) const {
    sound = keep_level(b, stream, static_cast<int32_t>(bits_of(x))) && sound;
  }
  SRNN_DEVICE_MEMBER void end_row(int) const {}
};

// Reads and stores the levels that publish_levels sent.
SRNN_DEVICE bool gather_levels(const Block& b) {
  bool sound = true;
  const LevelKeeper take{b, sound};
  if (!gather<LevelVector>(b, kLevelPlace, b.samples, Age::kNew, 0, 1, take)) return false;
  return !block_any(!sound);
}

SRNN_DEVICE bool draw_shared(Block& b) { return publish_levels(b) && gather_levels(b); }

// Returns whether a step that prepare_draws has prepared is forced, which Block::forced explains.
// It has a barrier, after which what was published before may be overwritten.
SRNN_DEVICE bool is_forced(const Block& b, int step) {
  bool free = b.p.forced == nullptr || b.p.logits != nullptr;
  // Each thread looks at the streams that it prepared.
  for (int s = b.thread; s < kBatch; s += kThreads) free = free || b.draws(step)[s].forced < 0;
  return !block_any(free);
}

SRNN_DEVICE void keep_forced(const Block& b) {
  for (int s = b.thread; s < kBatch; s += kThreads) keep_level(b, s, b.draws(b.step)[s].forced);
  block_sync();
}

}  // namespace srnn
