// Where the time of a launch goes, as its first block sees it. Costs nothing unless SRNN_PROFILE.
#pragma once

#include "cuda/device/block.cuh"

namespace srnn {

SRNN_DEVICE bool profiled(const Block& b) {
  return kProfile && b.thread == 0 && b.index == 0 && b.first_stream == 0 && !is_helper(b);
}

// Adds what has passed since the last mark to the stage that is going on.
SRNN_DEVICE void close_stage(const Block& b) {
  const uint64_t now = clock_ticks();
  uint64_t* row = b.p.profile + b.stage * kStageNumbers;
  add_up(row + kStageTicks, now - b.stage_began);
  add_up(row + kStageExchange, b.exchange_ticks);
  b.stage_began = now, b.exchange_ticks = 0;
}

// What follows belongs to another stage. Returns the one before, for `go_on_with`.
SRNN_DEVICE int enter(const Block& b, int stage) {
  if (!profiled(b)) return stage;
  close_stage(b);
  const int before = b.stage;
  b.stage = stage;
  add_up(b.p.profile + stage * kStageNumbers + kStageTimes, 1);
  return before;
}
// As `enter`, for a stage that has begun before.
SRNN_DEVICE void go_on_with(const Block& b, int stage) {
  if (!profiled(b)) return;
  close_stage(b);
  b.stage = stage;
}

SRNN_DEVICE void begin_profile(const Block& b) {
  if (!profiled(b)) return;
  b.stage_began = b.ticks_at_start = clock_ticks();
  b.ns_at_start = clock_ns();
  b.exchange_ticks = 0, b.stage = kLoadStage;
}
// The row behind the stages: ticks and nanoseconds of the launch, and its samples.
SRNN_DEVICE void end_profile(const Block& b) {
  if (!profiled(b)) return;
  close_stage(b);
  uint64_t* row = b.p.profile + kStages * kStageNumbers;
  add_up(row, clock_ticks() - b.ticks_at_start);
  add_up(row + 1, clock_ns() - b.ns_at_start);
  add_up(row + 2, static_cast<uint64_t>(b.p.steps));
}

// The time between its making and its end is that of an exchange: waiting for it and reading it.
class ExchangeTime {
 public:
  SRNN_DEVICE_MEMBER explicit ExchangeTime(const Block& b)
      : b_(b), began_(profiled(b) ? clock_ticks() : 0) {}
  SRNN_DEVICE_MEMBER ~ExchangeTime() {
    if (profiled(b_)) b_.exchange_ticks += clock_ticks() - began_;
  }

 private:
  const Block& b_;
  const uint64_t began_;
};

}  // namespace srnn
