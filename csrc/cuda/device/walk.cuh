// The walk: which tier runs at which sample, and what is computed ahead of its time (Eq. 1-9).
//
// A block has one team of warps or two. Two share a sample: the first makes it, and the second
// computes ahead what later samples need, so that nothing of it stands in the way of this sample.
// They meet twice. Within a sample the second team waits until the first has filled the rows of a
// tier's output and has read what the second prepared for this sample; the first goes on at once.
// Only rows of the MLP's tables are asked for before. At the end of a sample both wait for each
// other.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/cells.cuh"
#include "cuda/device/draw.cuh"
#include "cuda/device/mlp.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/profile.cuh"
#include "cuda/device/upsample.cuh"

namespace srnn {

// Returns whether blocks wait for the input of this sample, if a frame of the lowest tier begins
// now.
SRNN_DEVICE bool waits_for_input(const Block& b) { return kWholeInput && !b.forced; }

template <int kTier>
SRNN_DEVICE bool run_output(const Block& b) {
  enter(b, kUpsamplePhase + kTier);
  if constexpr (kSkips) return run_skip_output<kTier>(b, frames_begun<kTier>(b, b.now()));
  return true;
}

// Runs a tier whose frame begins now.
template <int kTier>
SRNN_DEVICE bool run_tier(const Block& b, const NewestRow& newest) {
  const uint32_t frame = frames_begun<kTier>(b, b.now());
  for (int layer = 0; layer < kLayers; ++layer) {
    enter(b, kTierPhase + kTier);
    if (!run_layer<kTier>(b, layer, frame)) return false;
  }
  if constexpr (kTier == 0 && kWholeInput) {
    if (!b.forced) newest.complete_own_taps(b);  // while the state is on its way
  }
  if (!run_output<kTier>(b)) return false;
  if (kTier == 0 && b.forced) return true;
  if constexpr (kTier == 0 && kWholeInput) {
    if (!publish_begun_input(b, frame)) return false;
  } else {
    if (!upsample<kTier, true>(b, frame, b.now())) return false;
  }
  if (kTeams > 1 || kTier > 0 || !waits_for_input(b)) return true;
  enter(b, kAheadPhase);
  return multiply_recurrents<kTier>(b, frame);
}

// Runs the tiers whose frame begins now, from tier kTier down. Before the first sample, with skip
// connections, it computes the outputs of the frames that began in an earlier launch.
template <int kTier>
SRNN_DEVICE bool run_tiers(const Block& b, const NewestRow& newest) {
  if constexpr (kTier >= 0) {
    const bool begins = b.now() % frame_size(kTier) == 0;
    if (b.step >= 0 ? begins && !run_tier<kTier>(b, newest) : kSkips && !run_output<kTier>(b))
      return false;
    return run_tiers<kTier - 1>(b, newest);
  }
  return true;
}

// Upsamples for the unit that begins with the next sample, if it continues the tier's frame.
template <int kTier>
SRNN_DEVICE bool upsample_ahead(const Block& b) {
  const uint32_t next = b.now() + 1;
  const uint32_t frame = frames_begun<kTier>(b, b.now());
  return !continues_frame<kTier>(next) || upsample<kTier, false>(b, frame, next);
}

// Does the same for tiers kTier and above, except the lowest one, and computes their recurrent
// products for the next frame. Those of the lowest tier are computed as early as possible, those of
// the others in the last sample of their frame, in which they have nothing to upsample: in the
// first sample of a top frame those of all tiers would be due.
template <int kTier>
SRNN_DEVICE bool run_tiers_ahead(const Block& b) {
  if constexpr (kTier < kTiers) {
    constexpr uint32_t kSize = frame_size(kTier);
    if constexpr (kTier > 0) {
      if (!upsample_ahead<kTier>(b)) return false;
    }
    constexpr uint32_t kDue = kTier == 0 ? 0 : kSize - 1;
    const bool made = kTeams == 1 && kTier == 0 && waits_for_input(b);  // by run_tier
    const bool due = b.step < 0 || (b.now() % kSize == kDue && !made);
    if (due && !multiply_recurrents<kTier>(b, frames_begun<kTier>(b, b.now()))) return false;
    return run_tiers_ahead<kTier + 1>(b);
  }
  return true;
}

// Prepares the gates of tiers kTier and above whose frame begins at `next`.
template <int kTier>
SRNN_DEVICE void prepare_frames(const Block& b, uint32_t next) {
  if constexpr (kTier < kTiers && !kLaunched) {
    if (next % frame_size(kTier) == 0) prepare_gates<kTier>(b, next);
    prepare_frames<kTier + 1>(b, next);
  }
}

// With two teams and small packets the second team asks for the rows of b.taps before it waits for
// the first (work_ahead). Otherwise run_ahead prepares b.taps.
constexpr bool kTapsEarly = kTeams > 1 && kSmallPackets;

// Prepares what other blocks need for the next sample, while this sample's hidden layer is
// exchanged. Sets next_forced to whether the next step is forced.
SRNN_DEVICE bool prepare_next(const Block& b, bool& next_forced) {
  if (b.step + 1 >= b.p.steps) return true;  // the next launch prepares its own first sample
  const int before = enter(b, kAheadPhase);
  if ((b.step + 1) % kDrawsAhead == 0) prepare_draws(b, b.step + 1);
  next_forced = is_forced(b, b.step + 1);
  const bool in_time = next_forced || upsample_ahead<0>(b);
  prepare_frames<0>(b, b.now() + 1);
  if (kWholeInput && !next_forced && !continues_frame<0>(b.now() + 1)) {
    prepare_own_taps(b, b.now() + 1);
  }
  resume(b, before);
  return in_time;
}

// Computes what this block needs for later samples, while this sample's logits are exchanged. With
// kWholeInput it also reads what was upsampled for the next sample, if that continues a frame of
// the lowest tier.
SRNN_DEVICE bool run_ahead(const Block& b, bool next_forced) {
  const uint32_t next = b.now() + 1;
  if (b.step + 1 >= b.p.steps) return true;
  resume(b, kAheadPhase);
  if (!run_tiers_ahead<0>(b)) return false;
  resume(b, kInputPhase);
  if (!kWholeInput || next_forced || !continues_frame<0>(next)) return true;
  if (!kTapsEarly) prepare_taps(b, next);
  return gather_upsampled(b);
}

// Runs the tiers whose frame begins with this sample, and fills rows with the MLP's input or,
// without kWholeInput, publishes it. Most samples continue all frames.
SRNN_DEVICE bool run_until_input(const Block& b, const NewestRow& newest) {
  if (kWholeInput && !b.forced && continues_frame<0>(b.now())) {
    enter(b, kInputPhase);
    fill_input_rows(b, newest);
    return true;
  }
  if (!run_tiers<kTiers - 1>(b, newest)) return false;
  if (b.forced) return true;
  enter(b, kInputPhase);
  if constexpr (kWholeInput) {
    return fill_rows<InputVectors>(b, kMlpPlace, b.inputs, 0, kBatch);
  } else {
    publish_input(b);
    return true;
  }
}

// One team draws. Returns whether nothing is left to do (Remaining) and, where blocks exchange
// levels, whether all of them are levels and in time.
SRNN_DEVICE bool draw_alone(const Block& b) {
  enter(b, kDrawPhase);
  if constexpr (kDrawAll) {
    draw_all(b);
    return meet_at_end(b);
  } else {
    return publish_levels(b) && gather_levels(b);
  }
}

// One team does this for a sample before its levels are drawn. It works ahead while it waits for
// other blocks. Returns false when the time is up.
SRNN_DEVICE bool run_until_draw(Block& b, bool& next_forced) {
  const auto idle = [&] { return prepare_next(b, next_forced); };
  NewestRow newest;
  newest.ask(b, b.now());
  count_sample(b);
  if (!run_until_input(b, newest)) return false;
  if ((b.forced || !kWholeInput) && !idle()) return false;
  if (!b.forced && !(run_hidden<0>(b, idle) && run_logits(b, idle))) return false;
  return run_ahead(b, next_forced);
}

// Makes one sample with one team.
SRNN_DEVICE bool run_step_alone(Block& b) {
  bool next_forced = true;
  if (!run_until_draw(b, next_forced)) {
    b.remaining |= kGiveUp;
    return false;
  }
  if (b.forced && b.step >= 0) keep_forced(b);
  const bool drawn = b.forced ? meet_at_end(b) : draw_alone(b);
  b.forced = next_forced;
  return drawn;
}

// The first of two teams does this once the levels of a sample are known: it asks for the newest
// row of the next one, and then has time for the output.
SRNN_DEVICE void begin_next(const Block& b, NewestRow& newest) {
  newest.ask(b, b.now() + 1);
  if (b.step >= 0) output_levels(b);
}

// The first of two teams makes a sample. Where it gives up it still meets the other team.
SRNN_DEVICE bool make_sample(Block& b, NewestRow& newest) {
  const auto idle = [] { return true; };
  count_sample(b);
  bool in_time = run_until_input(b, newest);
  barrier_arrive(kReadBarrier, kTeams * kThreads);
  in_time = in_time && (b.forced || (run_hidden<0>(b, idle) && run_logits(b, idle)));
  const bool next_forced = b.step + 1 >= b.p.steps || is_forced(b, b.step + 1);
  if (!in_time) b.remaining |= kGiveUp;
  if (b.forced) {
    if (b.step >= 0) keep_forced(b);
  } else if (in_time) {
    enter(b, kDrawPhase);
    draw_all(b);
  }
  b.forced = next_forced;
  if (!meet_at_end(b)) return false;
  begin_next(b, newest);
  return true;
}

// Takes note of the tiers whose output rows the first team fills in this sample.
template <int kTier>
SRNN_DEVICE void expect_outputs(const Block& b) {
  if constexpr (kTier < kTiers) {
    const bool begins = b.step >= 0 && b.now() % frame_size(kTier) == 0;
    if (begins && !(kTier == 0 && b.forced)) {
      b.output_frames[kTier] = frames_begun<kTier>(b, b.now()) + 1;
    }
    expect_outputs<kTier + 1>(b);
  }
}

// The second of two teams works ahead during a sample. It does as little as possible before it
// waits for the first, whose instructions would have to wait for its own.
SRNN_DEVICE bool work_ahead(Block& b) {
  if constexpr (kTapsEarly) {
    const NextTaps taps(b, b.now() + 1);
    barrier_sync(kReadBarrier, kTeams * kThreads);
    taps.keep(b, b.now() + 1);
  } else {
    barrier_sync(kReadBarrier, kTeams * kThreads);
  }
  count_sample(b);
  expect_outputs<0>(b);
  bool next_forced = true;
  if (!prepare_next(b, next_forced) || !run_ahead(b, next_forced)) b.remaining |= kGiveUp;
  b.forced = next_forced;
  return meet_at_end(b);
}

// Makes one sample; step -1 only prepares the first one. Returns, in all threads, whether nothing
// is left to do (Remaining). `newest` is that of the first of two teams.
template <int kTeam>
SRNN_DEVICE bool run_step(Block& b, NewestRow& newest) {
  if constexpr (kTeams == 1) {
    return run_step_alone(b);
  } else if constexpr (kTeam == 0) {
    return make_sample(b, newest);
  } else {
    return work_ahead(b);
  }
}

// Does what run_step has left to do. Returns, in all threads, whether the walk can go on.
template <int kTeam>
SRNN_DEVICE bool complete_step(const Block& b, NewestRow& newest) {
  if (!complete_draw<kTeam>(b)) return false;
  if (kTeams > 1 && kTeam == 0) begin_next(b, newest);
  return true;
}

}  // namespace srnn
