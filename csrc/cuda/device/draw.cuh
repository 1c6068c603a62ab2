// Draws one sample of every stream from its logits (model/draw.h), and stores the levels.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/profile.cuh"
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
// The lanes' slices together are so much longer than a row; logits behind it count as minus
// infinity.
constexpr int kBehind = kLaneLevels * kWarpSize - kLevels;

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
    const StreamDrawing& how = b.p.drawings[s];
    Draw& draw = b.draw(s, step);
    draw.forced = forced_level(b, s, step);
    draw.random =
        philox_draw(how.seed, how.stream, static_cast<uint64_t>(b.p.t + how.ahead + step));
    draw.temperature = b.p.temperature[at];
    draw.scale = sampler_scale(draw.temperature);
    const bool drops = how.top_k > 0 || how.use_top_p != 0;
    draw.from_all = kShortSums && draw.forced < 0 && !drops && draw.temperature != 0.0f ? 1 : 0;
  }
}

// The largest of kCount logits that are numbers. Halves are compared side by side.
template <int kCount>
SRNN_DEVICE float largest_of(const float* x) {
  if constexpr (kCount == 1) {
    return x[0];
  } else {
    return max_number(largest_of<kCount / 2>(x), largest_of<kCount - kCount / 2>(x + kCount / 2));
  }
}

// Draws from the logits x of each lane's levels, and calls take(level) in one lane: in the one that
// has the level, or in the first one with -1 where the logits are not finite. It does what
// sample_level does where no weight is dropped and the temperature is not 0. Everything stays in
// registers, so a lane's levels are computed side by side.
template <class Take>
SRNN_DEVICE void draw_from_all(const Block& b, const float (&x)[kLaneLevels], const Draw& draw,
                               const Take& take) {
  const int32_t highest = warp_max(order_of(largest_of<kLaneLevels>(x)));
  bool numbers = true;
  for (int i = 0; i < kLaneLevels; ++i) numbers = numbers && x[i] == x[i];
  const bool finite = warp_all(numbers) && are_finite(highest, highest);
  const float max = float_of_order(highest);
  uint32_t weight[kLaneLevels], own = 0;
  for (int i = 0; i < kLaneLevels; ++i) own += weight[i] = sampler_weight(x[i], max, draw.scale);
  const uint32_t before = warp_before(own), total = warp_sum(own);
  const uint32_t rank = static_cast<uint32_t>(scale_by_fraction(draw.random, total));
  uint32_t prefix = before;
  int level = b.lane * kLaneLevels;
  for (int i = 0; i < kLaneLevels; ++i) {
    prefix += weight[i];
    // Adds 1 where prefix <= rank. In the lane that has the level both lie between the same sums,
    // so the sign of their difference tells. The result of other lanes is not used.
    level += 1 + (static_cast<int32_t>(rank - prefix) >> 31);
  }
  // Where logits are not finite, what was drawn from them means nothing.
  if (finite ? before <= rank && rank < prefix : b.lane == 0) take(finite ? level : -1);
}

// Draws the level of a stream from its logits in b.raw(row), where draw_from_all does not, or takes
// the forced one; it calls take(level) in one lane.
template <class Take>
SRNN_DEVICE void draw_from_row(const Block& b, int row, int stream, const Draw& draw,
                               const Take& take) {
  const int first = smaller(b.lane * kLaneLevels, kLevels);
  const int count = smaller(kLevels - first, kLaneLevels);
  int level = draw.forced;
  if (level < 0) {
    level = sample_level(b.raw(row) + first, first, count, kLevels, draw.random, draw.temperature,
                         b.p.drawings[stream], b.draw_weights(row) + first, WarpTeam());
  }
  if (b.lane == 0) take(level);
}

// Writes a stream's logits into the output, where they are wanted. All lanes of a warp call it.
SRNN_DEVICE void output_logits(const Block& b, int row, int stream) {
  if (b.p.logits == nullptr || (kDrawAll && b.index != stream % kBlocks)) return;
  float* to = b.p.logits + (int64_t{1} * stream * b.p.steps + b.step) * kLevels;
  for (int i = b.lane; i < kLevels; i += kWarpSize) to[i] = b.raw(row)[i];
}

// Gives the level of a stream to take(stream, level), and reports it where it could not be drawn.
template <class Take>
struct LevelGiver {
  const Block& b;
  int stream;
  const Take& take;
  SRNN_DEVICE_MEMBER void operator()(int level) const {
    take(stream, level);
    if (level < 0) report(b, kNotFinite, static_cast<uint32_t>(b.first_stream + stream), 0);
  }
};

// Draws the level of a stream from its logits, which b.raw(row) has, and calls take(stream, level)
// in one lane. All lanes of a warp call it.
template <class Take>
SRNN_DEVICE void draw_stream(const Block& b, int row, int stream, const Take& take) {
  const LevelGiver<Take> give{b, stream, take};
  const Draw& draw = b.draw(stream, b.step);
  bool from_all = false;
  if constexpr (kShortSums) {
    from_all = draw.from_all != 0;
    if (from_all) {
      float x[kLaneLevels];
      for (int i = 0; i < kLaneLevels; ++i) {
        const int level = b.lane * kLaneLevels + i;
        x[i] = kBehind == 0 || level < kLevels ? b.raw(row)[level] : float_of_order(kLowestOrder);
      }
      draw_from_all(b, x, draw, give);
    }
  }
  if (!from_all) draw_from_row(b, row, stream, draw, give);
  output_logits(b, row, stream);
}

// kWarpDraws: the same from logits that the warp reads itself. Returns false in a lane whose time
// is up; then what was drawn means nothing, and an error has been reported before.
template <class V, class Take>
SRNN_DEVICE bool await_draw(const Block& b, const Take& take) {
  const Draw draw = b.draw(0, b.step);  // before the wait
  float x[V::kSpan];
  bool in_time;
  {
    const ExchangeTime time(b);
    in_time = await_spans<V, 1, kWarpSize, kLaneLevels>(b, kLogitPlace, b.samples, b.lane, x);
    if constexpr (kProfile) in_time = warp_all(in_time);  // what others wait for counts as well
  }
  for (int i = 0; kBehind > 0 && i < kLaneLevels; ++i) {
    if (b.lane * kLaneLevels + i >= kLevels) x[i] = float_of_order(kLowestOrder);
  }
  const LevelGiver<Take> give{b, 0, take};
  if (draw.from_all != 0 && b.p.logits == nullptr) {
    draw_from_all(b, x, draw, give);
    return in_time;
  }
  for (int i = 0; i < kLaneLevels; ++i) {
    const int level = b.lane * kLaneLevels + i;
    if (kBehind == 0 || level < kLevels) b.raw(0)[level] = x[i];
  }
  warp_sync();
  draw_from_row(b, 0, 0, draw, give);
  output_logits(b, 0, 0);
  return in_time;
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
  for (int row = b.warp; row < rows; row += kWarps) draw_stream(b, row, first + row, take);
  return true;
}

// kDrawAll: draws all streams in every block, so that no levels need to be exchanged. Where a block
// has two teams, the sample ends with a barrier, and a thread tells only what it knows itself. It
// is a template so that await_draw is compiled only where a warp's span of logits is what it draws.
template <bool kByWarp = kWarpDraws>
SRNN_DEVICE bool draw_all(const Block& b) {
  bool sound = true;  // whether all numbers that this thread kept are levels, of logits in time
  const auto take = [&](int stream, int level) { sound = keep_level(b, stream, level) && sound; };
  if constexpr (kByWarp) {
    if (b.warp == 0) sound = await_draw<LogitVectors>(b, take) && sound;
  } else {
    if (!draw_streams(b, 0, kBatch, take)) return false;
  }
  return kTeams > 1 ? sound : !barrier_any(b.barrier(), kThreads, !sound);
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
