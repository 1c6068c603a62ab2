// The stages of a sample as kernels of their own: the functions of the persistent kernel, between
// which a launch ends instead of a wait. In which order they are launched: cuda_stages.Walk.
//
// No block waits for another, so no launch is cooperative. What a block keeps from one stage to a
// later one lies in the workspace, and a frame's recurrent product is made when the frame begins.
#pragma once

#include "cuda/device/load.cuh"

namespace srnn {

SRNN_DEVICE Clock& clock_of(const Block& b) {
  return *reinterpret_cast<Clock*>(b.p.workspace + kArraysOffset + b.index * kBlockBytes +
                                   kClockOffset);
}

// Before the first stage of a sample: the levels that others drew for the last one, and the time.
SRNN_DEVICE bool begin_step(Block& b) {
  if constexpr (!kDrawAll) {
    if (!b.silent && !take_levels(b)) return false;
  }
  ++b.step;
  if (b.step < b.p.steps) {
    prepare_draws(b, b.step);
    b.silent = all_forced(b, b.step);
    b.samples += b.silent ? 0 : 1;
  }
  block_sync();  // every thread has read the clock
  if (b.thread == 0) {
    clock_of(b) = {b.step + 1, b.samples, b.silent ? 0u : 1u, 0};
  }
  return true;
}

// Runs work(block) unless an error has stopped the walk; where it returns false it stops.
template <class Work>
SRNN_DEVICE void run_stage(const Params& all, const Stage& stage, const Work& work) {
  const Params p = params_of_group(all, block_id() / kBlocks);
  Block b = this_block(p);
  const Clock clock = clock_of(b);
  if (clock.stopped != 0) return;
  b.step = clock.begun - 1, b.samples = clock.networks, b.silent = clock.loud == 0;
  if ((stage.begins == 0 || begin_step(b)) && work(b)) return;
  if (b.thread == 0) clock_of(b).stopped = 1;  // threads have met after what went wrong
}

template <int kNumber>
struct Constant {
  static constexpr int value = kNumber;
};

// Calls work(Constant<number>()), for numbers below kEnd.
template <int kEnd, int kFrom = 0, class Work>
SRNN_DEVICE bool with_constant(int number, const Work& work) {
  if constexpr (kFrom < kEnd) {
    if (number == kFrom) return work(Constant<kFrom>());
    return with_constant<kEnd, kFrom + 1>(number, work);
  }
  return true;
}

// A stage of one tier: work(block, Constant<tier>(), frames begun), for tiers below kEnd.
template <int kEnd, class Work>
SRNN_DEVICE void run_tier_stage(const Params& all, const Stage& stage, const Work& work) {
  run_stage(all, stage, [&](Block& b) {
    return with_constant<kEnd>(stage.tier, [&](auto tier) {
      return work(b, tier, frames_begun<decltype(tier)::value>(b, b.now()));
    });
  });
}

}  // namespace srnn

// The state before the first sample.
SRNN_KERNEL(srnn::kThreads)
srnn_load(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [](Block& b) {
    load(b);
    return true;
  });
}

// One layer of a frame that begins (Eq. 4-5), its recurrent product first; of a GRU that resets
// before the product the first half.
SRNN_KERNEL(srnn::kThreads)
srnn_gru_cell(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_tier_stage<kTiers>(all, stage, [&](Block& b, auto tier, uint32_t frame) {
    constexpr int kTier = decltype(tier)::value;
    return refresh_early_layer<kTier>(b, stage.layer, frame - 1, Age::kOld) &&
           run_gates<kTier>(b, stage.layer, frame);
  });
}

// The second half of a GRU that resets before the product.
SRNN_KERNEL(srnn::kThreads)
srnn_gru_candidate(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_tier_stage<kTwoHalves ? kTiers : 0>(all, stage, [&](Block& b, auto tier, uint32_t frame) {
    return run_candidate<decltype(tier)::value>(b, stage.layer, frame);
  });
}

// With skips: a tier's output, after a frame's layers and once before the first sample.
SRNN_KERNEL(srnn::kThreads)
srnn_skip_output(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_tier_stage<kSkips ? kTiers : 0>(all, stage, [](Block& b, auto tier, uint32_t frame) {
    return run_output<decltype(tier)::value>(b, frame);
  });
}

// Eq. 6: what a tier gives to the unit below it that begins now.
SRNN_KERNEL(srnn::kThreads)
srnn_upsample(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_tier_stage<kTiers>(all, stage, [](Block& b, auto tier, uint32_t frame) {
    constexpr int kTier = decltype(tier)::value;
    if (kTier == 0 && b.silent) return true;
    return refresh_conditioning<kTier>(b, frame, Age::kNew, b.now());
  });
}

// The sample-level network (Eq. 7-9), by its exchanges: its input, each hidden layer, the logits
// and the draw.
SRNN_KERNEL(srnn::kThreads)
srnn_sample_step_input(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [](Block& b) {
    if (!b.silent) give_input(b);
    return true;
  });
}

SRNN_KERNEL(srnn::kThreads)
srnn_sample_step_hidden(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [&](Block& b) {
    if (b.silent) return true;
    return with_constant<kHidden>(
        stage.layer, [&](auto layer) { return run_hidden_layer<decltype(layer)::value>(b); });
  });
}

SRNN_KERNEL(srnn::kThreads)
srnn_sample_step_logits(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [](Block& b) { return b.silent || run_logits(b, [] { return true; }); });
}

SRNN_KERNEL(srnn::kThreads)
srnn_sample_step_draw(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [](Block& b) {
    prepare_draws(b, b.step);
    if (b.silent) {
      keep_forced(b);
      return true;
    }
    if constexpr (kDrawAll) {
      return draw_all(b);
    } else {
      return give_levels(b);
    }
  });
}

// The state after the last sample.
SRNN_KERNEL(srnn::kThreads)
srnn_save(SRNN_PARAMETER srnn::Params all, SRNN_PARAMETER srnn::Stage stage) {
  using namespace srnn;
  run_stage(all, stage, [](Block& b) {
    save(b);
    return true;
  });
}
