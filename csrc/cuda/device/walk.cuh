// The tier walk: which tier runs at which sample, and what is made ahead of its time (Eq. 1-9).
#pragma once

#include "cuda/device/draw.cuh"
#include "cuda/device/mlp.cuh"

namespace srnn {

// Whether a tier is in the middle of a frame when a unit below begins at `now`.
template <int kTier>
SRNN_DEVICE bool goes_on(uint32_t now) {
  constexpr uint32_t kSize = frame_size(kTier), kUnit = unit_size(kTier);
  return now % kUnit == 0 && now % kSize != 0;
}

// Tiers whose frame begins now, top first. Before the first sample, with skips: the outputs that go
// on from the launch before.
template <int kTier>
SRNN_DEVICE bool run_tiers(Block& b) {
  if constexpr (kTier >= 0) {
    constexpr uint32_t kSize = frame_size(kTier);
    const bool begins = b.step >= 0 && b.now() % kSize == 0;
    const uint32_t frame = frames_begun<kTier>(b, b.now());
    for (int layer = 0; begins && layer < kLayers; ++layer) {
      enter(b, kTierStage + kTier);
      if (!run_layer<kTier>(b, layer, frame)) return false;
    }
    if (begins || b.step < 0) enter(b, kGiveStage + kTier);
    if constexpr (kSkips) {
      if ((begins || b.step < 0) && !run_output<kTier>(b, frame)) return false;
    }
    if (begins && (kTier > 0 || !b.silent)) {
      if (!refresh_conditioning<kTier>(b, frame, Age::kNew, b.now())) return false;
    }
    return run_tiers<kTier - 1>(b);
  }
  return true;
}

// What the next sample will need of a frame that goes on.
template <int kTier>
SRNN_DEVICE bool prepare_unit(Block& b) {
  // A silent step may not have waited for its last exchange yet.
  const Age age = b.silent ? Age::kNew : Age::kOld;
  const uint32_t next = b.now() + 1;
  return !goes_on<kTier>(next) ||
         refresh_conditioning<kTier>(b, frames_begun<kTier>(b, b.now()), age, next);
}

// The same of all tiers but the lowest, and what the next frame will need of this one: made as soon
// as it can be, or taken from helpers as late as it can be.
template <int kTier>
SRNN_DEVICE bool prepare_tiers(Block& b) {
  if constexpr (kTier < kTiers) {
    constexpr uint32_t kSize = frame_size(kTier);
    if constexpr (kTier > 0) {
      if (!prepare_unit<kTier>(b)) return false;
    }
    const bool changed = b.step < 0 || b.now() % kSize == 0;
    const bool due = is_head(b) ? (b.now() + 1) % kSize == 0 : changed;
    const Age age = b.silent ? Age::kNew : Age::kOld;
    if (due && !refresh_early<kTier>(b, frames_begun<kTier>(b, b.now()), age)) return false;
    return prepare_tiers<kTier + 1>(b);
  }
  return true;
}

// Made while a hidden layer of this step is on its way: what others need for the next sample. Tells
// whether the next step is silent.
SRNN_DEVICE bool prepare_next(Block& b, bool& next_silent) {
  if (b.step + 1 >= b.p.steps) return true;  // the next launch prepares its own first sample
  const int before = enter(b, kAheadStage);
  prepare_draws(b, b.step + 1);
  next_silent = all_forced(b, b.step + 1);
  const bool in_time = next_silent || prepare_unit<0>(b);
  go_on_with(b, before);
  return in_time;
}

// While this step's logits are on their way: what blocks need for themselves, made or taken from
// helpers, and with kWholeInput the next sample's input, which others have made ahead.
SRNN_DEVICE bool take_ahead(Block& b, bool next_silent) {
  const uint32_t next = b.now() + 1;
  if (b.step + 1 >= b.p.steps) return true;
  go_on_with(b, kAheadStage);
  if (!prepare_tiers<0>(b)) return false;
  go_on_with(b, kInputStage);
  if (!kWholeInput || next_silent || is_helper(b) || !goes_on<0>(next)) return true;
  return gather_input(b, b.samples + 1, next);
}

SRNN_DEVICE bool begin_sample(Block& b) {
  enter(b, kInputStage);
  if constexpr (kWholeInput) {
    if (!goes_on<0>(b.now()) && !gather_input(b, b.samples, b.now())) return false;
    stage_input(b);
  } else {
    give_input(b);
  }
  return true;
}

SRNN_DEVICE bool draw(Block& b) {
  enter(b, kDrawStage);
  if constexpr (kDrawAll) {
    return draw_all(b);
  } else {
    return draw_own(b);
  }
}

// One sample; step -1 only prepares the first.
SRNN_DEVICE bool run_step(Block& b) {
  bool next_silent = true;
  const auto idle = [&] { return prepare_next(b, next_silent); };
  if (!run_tiers<kTiers - 1>(b)) return false;
  b.samples += b.silent ? 0 : 1;
  const bool makes = !b.silent && !is_helper(b);
  if (makes && !begin_sample(b)) return false;
  if (!(makes && kWholeInput) && !idle()) return false;
  if (makes && !(run_hidden<0>(b, idle) && run_logits(b, idle))) return false;
  if (!take_ahead(b, next_silent)) return false;
  if (makes && !draw(b)) return false;
  if (b.silent && b.step >= 0 && !is_helper(b)) keep_forced(b);
  b.silent = next_silent;
  return true;
}

}  // namespace srnn
