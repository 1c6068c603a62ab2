// Measures how long each phase of a launch takes, in the first team of its first block. Without
// SRNN_PROFILE these functions compile to nothing.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/shape.cuh"

namespace srnn {

SRNN_DEVICE bool profiled(const Block& b) {
  return kProfile && b.team == 0 && b.thread == 0 && b.index == 0 && b.first_stream == 0;
}

// Adds the time since the last call to the current phase.
SRNN_DEVICE void close_phase(const Block& b) {
  const uint64_t now = clock_ticks();
  uint64_t* row = b.p.profile + b.phase * kPhaseNumbers;
  add_up(row + kPhaseTicks, now - b.phase_began);
  add_up(row + kPhaseExchange, b.exchange_ticks);
  b.phase_began = now, b.exchange_ticks = 0;
}

// Begins a phase. Returns the one before, which `resume` goes back to.
SRNN_DEVICE int enter(const Block& b, int phase) {
  if (!profiled(b)) return phase;
  close_phase(b);
  const int before = b.phase;
  b.phase = phase;
  add_up(b.p.profile + phase * kPhaseNumbers + kPhaseTimes, 1);
  return before;
}
// Goes on with a phase that has begun before, so it is not counted again.
SRNN_DEVICE void resume(const Block& b, int phase) {
  if (!profiled(b)) return;
  close_phase(b);
  b.phase = phase;
}

SRNN_DEVICE void begin_profile(const Block& b) {
  if (!profiled(b)) return;
  b.phase_began = b.ticks_at_start = clock_ticks();
  b.ns_at_start = clock_ns();
  b.exchange_ticks = 0, b.phase = kLoadPhase;
}
// The row after the phases receives the ticks and nanoseconds of the launch, and its samples.
SRNN_DEVICE void end_profile(const Block& b) {
  if (!profiled(b)) return;
  close_phase(b);
  uint64_t* row = b.p.profile + kPhases * kPhaseNumbers;
  add_up(row, clock_ticks() - b.ticks_at_start);
  add_up(row + 1, clock_ns() - b.ns_at_start);
  add_up(row + 2, static_cast<uint64_t>(b.p.steps));
}

// Counts the time from its construction to its destruction as time of an exchange.
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
