// What the shim launches, for those who call it.
#pragma once

#include "cuda/params.h"

// The kernels of csrc/cuda/stages.cuh.
#define SRNN_STAGES(X)       \
  X(srnn_load)               \
  X(srnn_gru_cell)           \
  X(srnn_gru_candidate)      \
  X(srnn_skip_output)        \
  X(srnn_upsample)           \
  X(srnn_sample_step_input)  \
  X(srnn_sample_step_hidden) \
  X(srnn_sample_step_logits) \
  X(srnn_sample_step_draw)   \
  X(srnn_save)

struct Launch {
  const char* kernel;
  srnn::Stage stage;
};
