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
    const bool all = kShortSums && draw.forced < 0 && !drops && draw.temperature != 0.0f;
    draw.from_all = all && b.p.logits == nullptr ? 1 : 0;
  }
}

// The largest of kCount logits, or NaN where one of them is. Halves are compared side by side.
template <int kCount>
SRNN_DEVICE float largest_of(const float* x) {
  if constexpr (kCount == 1) {
    return x[0];
  } else {
    return max_or_nan(largest_of<kCount / 2>(x), largest_of<kCount - kCount / 2>(x + kCount / 2));
  }
}

// Draws from the logits x of each lane's levels, and calls take(level) in the lane that has the
// level, or in the first one with -1 where the logits are not finite; not in a lane that does not
// want it. It does what sample_level does where no weight is dropped and the temperature is not 0.
// Everything stays in registers, so a lane's levels are computed side by side.
template <class Take>
SRNN_DEVICE void draw_from_all(const Block& b, const float (&x)[kLaneLevels], const Draw& draw,
                               bool wanted, const Take& take) {
  const int32_t highest = warp_max(order_of(largest_of<kLaneLevels>(x)));
  const bool finite = are_finite(highest, highest);
  const float max = float_of_order(highest);
  uint32_t weight[kLaneLevels], own = 0;
  for (int i = 0; i < kLaneLevels; ++i) own += weight[i] = sampler_weight(x[i], max, draw.scale);
  const uint32_t total = warp_sum(own), before = warp_before(own);
  // The rank among the weights of this lane, where that has the level.
  const uint32_t own_rank = static_cast<uint32_t>(scale_by_fraction(draw.random, total)) - before;
  uint32_t prefix = 0;
  int level = (b.lane + 1) * kLaneLevels - 1;
  for (int i = 0; i + 1 < kLaneLevels; ++i) {
    prefix += weight[i];
    // Takes 1 off where own_rank < prefix. In the lane that has the level both are at most the
    // lane's sum, so the sign of their difference tells. The result of other lanes is not used.
    level += static_cast<int32_t>(own_rank - prefix) >> 31;
  }
  // Where logits are not finite, what was drawn from them means nothing. Numbers are chosen here in
  // place of conditions, which would be branches.
  const uint32_t number = finite ? own_rank : static_cast<uint32_t>(b.lane);
  const uint32_t end = !wanted ? 0 : finite ? own : 1;
  if (number < end) take(finite ? level : -1);
}

// Draws the level of a stream from its logits in b.raw(row), where draw_from_all does not, or takes
// the forced one; it calls take(level) in one lane. It writes the logits into the output, where
// they are wanted.
template <class Take>
SRNN_DEVICE void draw_from_row(const Block& b, int row, int stream, const Take& take) {
  const Draw& draw = b.draw(stream, b.step);
  const int first = smaller(b.lane * kLaneLevels, kLevels);
  const int count = smaller(kLevels - first, kLaneLevels);
  int level = draw.forced;
  if (level < 0) {
    level = sample_level(b.raw(row) + first, first, count, kLevels, draw.random, draw.temperature,
                         b.p.drawings[stream], b.draw_weights(row) + first, WarpTeam());
  }
  if (b.lane == 0) take(level);
  if (b.p.logits == nullptr || (kDrawAll && b.index != stream % kBlocks)) return;
  float* to = b.p.logits + (int64_t{1} * stream * b.p.steps + b.step) * kLevels;
  for (int i = b.lane; i < kLevels; i += kWarpSize) to[i] = b.raw(row)[i];
}

// Draws the level of a stream from its logits, which b.raw(row) has, and calls take(level) in one
// lane, with -1 where they are not finite. All lanes of a warp call it.
template <class Take>
SRNN_DEVICE void draw_stream(const Block& b, int row, int stream, const Take& take) {
  if constexpr (kShortSums) {
    const Draw& draw = b.draw(stream, b.step);
    if (draw.from_all != 0) {
      float x[kLaneLevels];
      for (int i = 0; i < kLaneLevels; ++i) {
        const int level = b.lane * kLaneLevels + i;
        x[i] = kBehind == 0 || level < kLevels ? b.raw(row)[level] : float_of_order(kLowestOrder);
      }
      draw_from_all(b, x, draw, true, take);
      return;
    }
  }
  draw_from_row(b, row, stream, take);
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

// Writes the level of a stream for a step into the output, in one block.
SRNN_DEVICE void output_level(const Block& b, int stream, int step, int level) {
  if (b.index == stream % kBlocks) b.p.levels[int64_t{1} * stream * b.p.steps + step] = level;
}
// Two teams: writes the levels of a sample into the output, after it has ended. Before that all
// would wait for it.
SRNN_DEVICE void output_levels(const Block& b) {
  each_step<kBatch, kThreads>(b.thread,
                              [&](int s) { output_level(b, s, b.step, b.level(s, b.now())); });
}
// Stores the new level of a stream in this block's ring buffer, and with one team in the output.
SRNN_DEVICE void keep_level(const Block& b, int stream, int level) {
  b.levels(stream)[b.now() % kLookback] = level;
  if (kTeams == 1) output_level(b, stream, b.step, level);
}

SRNN_DEVICE void report_not_finite(const Block& b, int stream) {
  report(b, kNotFinite, static_cast<uint32_t>(b.first_stream + stream), 0);
}

// Reads the logits of streams first, ..., first + rows - 1, draws their levels, and calls
// take(stream, level), with -1 where the logits are not finite. Returns false when the time is up.
template <class Take>
SRNN_DEVICE bool draw_streams(const Block& b, int first, int rows, const Take& take) {
  constexpr int kRows = smaller(kDrawStreams, kTile);
  if (!gather<LogitVectors, kRows>(b, kLogitPlace, b.samples, first, rows, LogitKeeper{b})) {
    return false;
  }
  for (int row = b.warp; row < rows; row += kWarps) {
    draw_stream(b, row, first + row, [&](int level) { take(first + row, level); });
  }
  return true;
}

// kWarpDraws: draws the level of the only stream from logits that the warp reads itself, or leaves
// that to complete_draw.
template <class V>
SRNN_DEVICE void await_draw(const Block& b) {
  const Draw draw = b.draw(0, b.step);  // before the wait
  float x[V::kSpan];
  bool in_time;
  {
    const ExchangeTime time(b);
    in_time = await_spans<V, 1, kWarpSize, kLaneLevels>(b, kLogitPlace, b.samples, b.lane, x);
    if constexpr (kProfile) in_time = warp_all(in_time);  // what others wait for counts as well
  }
  // No branch leads around the draw, and what may be left comes behind the barrier at the end of
  // the sample. Both would be jumps to code that is not in the instruction cache.
  for (int i = 0; i < kLaneLevels; ++i) {
    const int level = b.lane * kLaneLevels + i;
    if (kBehind == 0 || level < kLevels) b.raw(0)[level] = x[i];
    if (kBehind > 0 && level >= kLevels) x[i] = float_of_order(kLowestOrder);
  }
  b.remaining |= (in_time ? kNothing : kGiveUp) | (draw.from_all != 0 ? kNothing : kDrawFromRow);
  draw_from_all(b, x, draw, b.remaining == kNothing, [&](int level) {
    keep_level(b, 0, level);
    if (level < 0) b.remaining |= kGiveUp;
  });
}

// kDrawAll: draws all streams in every block, so that no levels need to be exchanged. It is a
// template so that await_draw is compiled only where a warp's span of logits is what it draws.
template <bool kByWarp = kWarpDraws>
SRNN_DEVICE void draw_all(const Block& b) {
  if constexpr (kByWarp) {
    if (b.warp == 0) await_draw<LogitVectors>(b);
  } else {
    const auto take = [&](int stream, int level) {
      keep_level(b, stream, level);
      if (level < 0) b.remaining |= kGiveUp;
    };
    if (!draw_streams(b, 0, kBatch, take)) b.remaining |= kGiveUp;
  }
}

// All threads of a block end a sample here. Returns, in all of them, whether nothing is left to do.
SRNN_DEVICE bool meet_at_end(const Block& b) {
  return !barrier_any(kEndBarrier, kTeams * kThreads, b.remaining != kNothing);
}

// Does what is left of a sample, where meet_at_end has returned false in all threads. Returns, in
// all of them, whether nothing is left now. Where that is false, it has been reported why. Without
// kWarpDraws no draw is ever left, so it only reports.
template <int kTeam>
SRNN_DEVICE bool complete_draw(const Block& b) {
  if constexpr (kWarpDraws) {
    if (kTeam == 0 && (b.remaining & kDrawFromRow) != 0) {
      b.remaining &= kGiveUp;
      draw_from_row(b, 0, 0, [&](int level) {
        keep_level(b, 0, level);
        if (level < 0) b.remaining |= kGiveUp;
      });
    }
    if (meet_at_end(b)) return true;
  }
  if constexpr (kDrawAll) {
    each_step<kBatch, kThreads>(b.thread, [&](int s) {
      if (b.level(s, b.now()) < 0) report_not_finite(b, s);
    });
  }
  return false;
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
      if (level < 0) report_not_finite(b, stream);
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
      const int32_t level = static_cast<int32_t>(bits_of(numbers[k]));
      keep_level(b, stream + k, level);
      sound = sound && level >= 0;
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
  each_step<kBatch, kThreads>(b.thread,
                              [&](int s) { free = free || forced_level(b, s, step) < 0; });
  return !barrier_any(b.barrier(), kThreads, free);
}

// Stores the levels that are given. The sample ends with a barrier.
SRNN_DEVICE void keep_forced(const Block& b) {
  each_step<kBatch, kThreads>(b.thread,
                              [&](int s) { keep_level(b, s, forced_level(b, s, b.step)); });
}

}  // namespace srnn
