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

constexpr int32_t kLowestOrder = ~0x7f800000;  // of minus infinity, whose weight is 0
constexpr int kLaneLevels = divide_up(kLevels, kWarpSize);
// This says whether the sum of all weights, which are at most 2^23 each, has 32 bits.
constexpr bool kShortSums = kLevels < 512;

// The level that is given to a stream for a sample of this launch, or -1.
SRNN_DEVICE int forced_level(const Block& b, int stream, int step) {
  return b.p.forced == nullptr ? -1 : b.p.forced[int64_t{1} * stream * b.p.steps + step];
}

// Looks up how kDrawsAhead samples of this launch are drawn, from `first` on, before their logits
// are there.
SRNN_DEVICE void prepare_draws(const Block& b, int first) {
  for (int i = b.thread; i < kBatch * kDrawsAhead; i += kThreads) {
    const int s = i / kDrawsAhead, step = first + i % kDrawsAhead;
    if (step >= b.p.steps) continue;
    const int64_t at = int64_t{1} * s * b.p.steps + step;
    Draw& draw = b.draw(s, step);
    draw.forced = forced_level(b, s, step);
    draw.draw = philox_draw(b.p.seeds[s], b.p.streams[s], static_cast<uint64_t>(b.p.t + step));
    draw.temperature = b.p.temperature[at];
    draw.scale = sampler_scale(draw.temperature);
    const bool drops = b.p.top_k > 0 || b.p.use_top_p != 0;
    draw.from_all = kShortSums && draw.forced < 0 && !drops && draw.temperature != 0.0f ? 1 : 0;
  }
}

// Does what sample_level does where no weight is dropped and the temperature is not 0. Everything
// stays in registers, so a lane's levels are computed side by side.
SRNN_DEVICE int draw_from_all(const Block& b, const float* logits, const Draw& draw) {
  const int first = b.lane * kLaneLevels;
  float x[kLaneLevels];
  int32_t highest = kLowestOrder, lowest = ~kLowestOrder;
  for (int i = 0; i < kLaneLevels; ++i) {
    x[i] = kLevels % kWarpSize == 0 || first + i < kLevels ? logits[first + i]
                                                           : float_of_order(kLowestOrder);
    const int32_t order = order_of(x[i]);
    highest = order > highest ? order : highest;
    lowest = order < lowest ? order : lowest;
  }
  highest = warp_max(highest), lowest = ~warp_max(~lowest);
  if (!are_finite(highest, lowest)) return -1;
  const float max = float_of_order(highest);
  uint32_t weight[kLaneLevels], own = 0;
  for (int i = 0; i < kLaneLevels; ++i) own += weight[i] = sampler_weight(x[i], max, draw.scale);
  const uint32_t before = warp_before(own), total = warp_sum(own);
  const uint32_t rank = static_cast<uint32_t>(scale_by_fraction(draw.draw, total));
  uint32_t prefix = before;
  int level = first;
  for (int i = 0; i < kLaneLevels; ++i) {
    prefix += weight[i];
    // Adds 1 where prefix <= rank. In the lane that has the level both lie between the same sums,
    // so the sign of their difference tells. The result of other lanes is not used.
    level += 1 + (static_cast<int32_t>(rank - prefix) >> 31);
  }
  return warp_max(before <= rank && rank < prefix ? level : -1);
}

// Draws the level of one stream from its logits in b.raw(row), or returns the forced one. The
// result is -1 where the logits are not finite. All lanes of a warp call it.
SRNN_DEVICE int draw_level(const Block& b, int row, int stream) {
  const Draw& draw = b.draw(stream, b.step);
  const float* logits = b.raw(row);
  if (draw.from_all != 0) return draw_from_all(b, logits, draw);
  if (draw.forced >= 0) return draw.forced;
  const SamplerSettings settings = {b.p.top_k, b.p.use_top_p != 0, b.p.top_p_fraction};
  const int first = b.lane * kLaneLevels < kLevels ? b.lane * kLaneLevels : kLevels;
  const int count = kLevels - first < kLaneLevels ? kLevels - first : kLaneLevels;
  return sample_level(logits + first, first, count, kLevels, draw.draw, draw.temperature, settings,
                      b.draw_weights(row) + first, WarpTeam());
}

// Writes a stream's logits into the output, where they are wanted, and reports a level that could
// not be drawn. All lanes of a warp call it.
SRNN_DEVICE void finish_draw(const Block& b, int row, int stream, int level) {
  if (b.p.logits != nullptr && (!kDrawAll || b.index == stream % kBlocks)) {
    float* to = b.p.logits + (int64_t{1} * stream * b.p.steps + b.step) * kLevels;
    for (int i = b.lane; i < kLevels; i += kWarpSize) to[i] = b.raw(row)[i];
  }
  if (level < 0 && b.lane == 0) {
    report(b, kNotFinite, static_cast<uint32_t>(b.first_stream + stream), 0);
  }
}

struct LogitKeeper {
  const Block& b;
  template <int kCount, class Sure>
  SRNN_DEVICE_MEMBER void operator()(int row, int col, const float (&numbers)[kCount], int count,
                                     Sure) const {
    for (int k = 0; k < kCount; ++k) {
      if (k < Sure::value || k < count) b.raw(row)[col + k] = numbers[k];
    }
  }
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
  if (!gather<LogitVectors, kRows>(b, kLogitPlace, b.samples, first, rows, LogitKeeper{b})) {
    return false;
  }
  for (int row = b.warp; row < rows; row += kWarps) {
    const int level = draw_level(b, row, first + row);
    if (b.lane == 0) take(first + row, level);
    finish_draw(b, row, first + row, level);
  }
  return true;
}

// kDrawAll: draws all streams in every block, so that no levels need to be exchanged.
SRNN_DEVICE bool draw_all(const Block& b) {
  const auto take = [&](int stream, int level) {
    if (!keep_level(b, stream, level) && kTeams > 1) b.stop() = 1;
  };
  if (!draw_streams(b, 0, kBatch, take)) return false;
  if constexpr (kTeams > 1) return true;  // the sample ends with a barrier
  barrier_sync(b.barrier(), kThreads);
  bool sound = true;
  for (int stream = 0; stream < kBatch; ++stream) sound = sound && b.level(stream, b.now()) >= 0;
  return sound;
}

// Draws this block's streams and publishes their levels.
SRNN_DEVICE bool publish_levels(const Block& b) {
  const int begin = b.index * kDrawStreams;
  const int end = begin + kDrawStreams < kBatch ? begin + kDrawStreams : kBatch;
  float* own = b.own();
  for (int first = begin; first < end; first += kTile) {
    if (first > begin)
      barrier_sync(b.barrier(), kThreads);  // the logits of the tile before have been read
    const auto take = [&](int stream, int level) {
      own[stream - begin] = float_of(static_cast<uint32_t>(level));
    };
    if (!draw_streams(b, first, end - first < kTile ? end - first : kTile, take)) return false;
  }
  publish<LevelVector>(b, kLevelPlace, b.samples);
  return true;
}

struct LevelKeeper {
  const Block& b;
  bool& sound;  // whether all numbers so far are levels
  template <int kCount, class Sure>
  SRNN_DEVICE_MEMBER void operator()(int, int stream, const float (&numbers)[kCount], int count,
                                     Sure) const {
    for (int k = 0; k < kCount && k < count; ++k) {
      sound = keep_level(b, stream + k, static_cast<int32_t>(bits_of(numbers[k]))) && sound;
    }
  }
  SRNN_DEVICE_MEMBER void end_row(int) const {}
};

// Reads and stores the levels that publish_levels sent.
SRNN_DEVICE bool gather_levels(const Block& b) {
  bool sound = true;
  const LevelKeeper take{b, sound};
  if (!gather<LevelVector>(b, kLevelPlace, b.samples, 0, 1, take)) return false;
  return !barrier_any(b.barrier(), kThreads, !sound);
}

SRNN_DEVICE bool draw_shared(const Block& b) { return publish_levels(b) && gather_levels(b); }

// Returns whether a step is forced, which Block::forced explains.
SRNN_DEVICE bool is_forced(const Block& b, int step) {
  if (b.p.forced == nullptr || b.p.logits != nullptr) return false;
  bool free = false;
  for (int s = b.thread; s < kBatch; s += kThreads) free = free || forced_level(b, s, step) < 0;
  return !barrier_any(b.barrier(), kThreads, free);
}

SRNN_DEVICE void keep_forced(const Block& b) {
  for (int s = b.thread; s < kBatch; s += kThreads) keep_level(b, s, forced_level(b, s, b.step));
  if constexpr (kTeams == 1) barrier_sync(b.barrier(), kThreads);  // else the sample ends with one
}

}  // namespace srnn
