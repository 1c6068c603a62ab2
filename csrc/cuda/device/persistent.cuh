// The persistent kernel: one launch walks all tiers for many samples of all streams (Eq. 1-9).
// params.h says how it is built and launched.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/load.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/profile.cuh"
#include "cuda/device/walk.cuh"

SRNN_KERNEL(srnn::kThreads) srnn_generate(SRNN_PARAMETER srnn::Params all) {
  using namespace srnn;
  const Params p = params_of_group(all, group_of_block());
  Block b = this_block(p);
  begin_profile(b);
  load(b);
  block_sync();
  begin_exchanges(b);
  while (b.step < p.steps && run_step(b)) ++b.step;
  enter(b, kLoadPhase);
  if (b.step == p.steps) save(b);
  end_exchanges();
  end_profile(b);
}
