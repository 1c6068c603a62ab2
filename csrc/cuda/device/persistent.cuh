// The persistent kernel: one launch walks all tiers for many samples of all streams (Eq. 1-9).
// params.h says how it is built and launched.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/load.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/profile.cuh"
#include "cuda/device/walk.cuh"

namespace srnn {

// Runs a launch in one team of a block. p points to the arrays of the block's group.
template <int kTeam>
SRNN_DEVICE void run_team(const Params& p) {
  Block b = this_block(p, kTeam);
  begin_profile(b);
  if constexpr (kTeam == 0) load(b);
  block_sync();
  NewestRow newest;
  while (b.step < p.steps && (run_step<kTeam>(b, newest) || complete_step<kTeam>(b, newest))) {
    ++b.step;
  }
  enter(b, kLoadPhase);
  if constexpr (kTeam == 0) {
    if (b.step == p.steps) save(b);
  }
  end_profile(b);
}

}  // namespace srnn

SRNN_KERNEL(srnn::kTeams* srnn::kThreads) srnn_generate(SRNN_PARAMETER srnn::Params all) {
  using namespace srnn;
  const Params p = params_of_group(all, group_of_block());
  begin_exchanges(this_block(p, 0));
  if (kTeams == 1 || thread_id() < kThreads) {
    run_team<0>(p);
  } else {
    run_team<kTeams - 1>(p);
  }
  end_exchanges();
}
