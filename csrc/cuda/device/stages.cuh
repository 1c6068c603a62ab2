// The stages of a sample, each a kernel: they call the functions of the persistent kernel, and the
// end of a launch stands for the wait. stages.Walk says in which order they are launched.
//
// No block waits for another, so no launch is cooperative. What a block keeps from one stage to the
// next is in the workspace, and the recurrent product of a frame is computed when the frame begins.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/cells.cuh"
#include "cuda/device/draw.cuh"
#include "cuda/device/load.cuh"
#include "cuda/device/memory.cuh"
#include "cuda/device/mlp.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/upsample.cuh"
#include "cuda/params.h"

namespace srnn {

SRNN_DEVICE Progress& progress_of(const Block& b) {
  return *reinterpret_cast<Progress*>(b.p.workspace + kArraysOffset + b.index * kBlockBytes +
                                      kProgressOffset);
}

// Runs before the first stage of a sample: reads the levels that other blocks drew for the last
// one, and moves the walk on by a sample.
SRNN_DEVICE bool begin_step(Block& b) {
  if constexpr (!kDrawAll) {
    if (!b.forced && !gather_levels(b)) return false;
  }
  ++b.step;
  if (b.step < b.p.steps) {
    b.forced = is_forced(b, b.step);
    count_sample(b);
  }
  block_sync();  // every thread has read the block's progress
  if (b.thread == 0) {
    progress_of(b) = {b.step + 1, b.samples, b.forced ? 0u : 1u, 0};
  }
  return true;
}

// Runs work(block), unless an error has stopped the walk. The walk stops when work returns false.
template <class Work>
SRNN_DEVICE void run_stage(const Params& all, const Stage& stage, const Work& work) {
  const Params p = params_of_group(all, group_of_block());
  Block b = this_block(p, 0);
  const Progress so_far = progress_of(b);
  if (so_far.stopped != 0) return;
  b.step = so_far.begun - 1, b.samples = so_far.samples, b.forced = so_far.runs_mlp == 0;
  if ((stage.begins == 0 || begin_step(b)) && work(b)) return;
  if (b.thread == 0)
    progress_of(b).stopped = 1;  // a failure ends with a barrier, so all have read it
}

// Calls work(Constant<number>()). Does nothing where the number is kEnd or more.
template <int kEnd, int kFrom = 0, class Work>
SRNN_DEVICE bool with_constant(int number, const Work& work) {
  if constexpr (kFrom < kEnd) {
    if (number == kFrom) return work(Constant<kFrom>());
    return with_constant<kEnd, kFrom + 1>(number, work);
  }
  return true;
}

// Runs work(block, Constant<tier>(), frames begun) for the stage's tier. Does nothing where that is
// kEnd or more.
template <int kEnd, class Work>
SRNN_DEVICE void run_tier_stage(const Params& all, const Stage& stage, const Work& work) {
  run_stage(all, stage, [&](const Block& b) {
    return with_constant<kEnd>(stage.tier, [&](auto tier) {
      return work(b, tier, frames_begun<decltype(tier)::value>(b, b.now()));
    });
  });
}

}  // namespace srnn

// Loads the state before the first sample.
SRNN_KERNEL(srnn::kThreads)
srnn_load(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [](const Block& b) {
    load(b);
    return true;
  });
}

// One layer of a frame that begins (Eq. 4-5), after its recurrent product. For a GRU that resets
// before the product it is the first half of the cell.
SRNN_KERNEL(srnn::kThreads)
srnn_cell(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_tier_stage<kTiers>(all, stage, [&](const Block& b, auto tier, uint32_t frame) {
    constexpr int kTier = decltype(tier)::value;
    return multiply_recurrent<kTier>(b, stage.layer, frame - 1) &&
           run_gates<kTier>(b, stage.layer, frame);
  });
}

// The second half of the cell of a GRU that resets before the product.
SRNN_KERNEL(srnn::kThreads)
srnn_gru_candidate(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_tier_stage<kResetBefore ? kTiers : 0>(
      all, stage, [&](const Block& b, auto tier, uint32_t frame) {
        return run_candidate<decltype(tier)::value>(b, stage.layer, frame);
      });
}

// With skip connections: a tier's output, after the layers of a frame and once before the first
// sample.
SRNN_KERNEL(srnn::kThreads)
srnn_skip_output(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_tier_stage<kSkips ? kTiers : 0>(all, stage, [](const Block& b, auto tier, uint32_t frame) {
    return run_skip_output<decltype(tier)::value>(b, frame);
  });
}

// Upsampling (Eq. 6) for the unit below that begins now.
SRNN_KERNEL(srnn::kThreads)
srnn_upsample(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_tier_stage<kTiers>(all, stage, [](const Block& b, auto tier, uint32_t frame) {
    constexpr int kTier = decltype(tier)::value;
    if (kTier == 0 && b.forced) return true;
    return upsample<kTier, false>(b, frame, b.now());
  });
}

// The sample-level MLP (Eq. 7-9) is one stage for each of its exchanges: the input, each hidden
// layer and the logits.
SRNN_KERNEL(srnn::kThreads)
srnn_sample_mlp_input(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [](const Block& b) {
    if (!b.forced) publish_input(b);
    return true;
  });
}

SRNN_KERNEL(srnn::kThreads)
srnn_sample_mlp_hidden(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [&](const Block& b) {
    if (b.forced) return true;
    return with_constant<kHidden>(
        stage.layer, [&](auto layer) { return run_hidden_layer<decltype(layer)::value>(b); });
  });
}

SRNN_KERNEL(srnn::kThreads)
srnn_sample_mlp_logits(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage,
            [](const Block& b) { return b.forced || run_logits(b, [] { return true; }); });
}

SRNN_KERNEL(srnn::kThreads)
srnn_draw(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [](const Block& b) {
    prepare_draws(b, b.step);
    if (b.forced) {
      keep_forced(b);
      return true;
    }
    if constexpr (kDrawAll) {
      draw_all(b);
      return meet_at_end(b) || complete_draw<0>(b);
    } else {
      return publish_levels(b);
    }
  });
}

// Saves the state after the last sample.
SRNN_KERNEL(srnn::kThreads)
srnn_save(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [](const Block& b) {
    save(b);
    return true;
  });
}
