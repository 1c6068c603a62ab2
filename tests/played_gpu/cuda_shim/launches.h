// The launches that run.cpp takes.
#pragma once

#include "cuda/params.h"

// The kernels of csrc/cuda/device/stages.cuh.
#define SRNN_STAGES(X)      \
  X(srnn_load)              \
  X(srnn_cell)              \
  X(srnn_gru_candidate)     \
  X(srnn_skip_output)       \
  X(srnn_upsample)          \
  X(srnn_sample_mlp_input)  \
  X(srnn_sample_mlp_hidden) \
  X(srnn_sample_mlp_logits) \
  X(srnn_draw)              \
  X(srnn_save)

struct Launch {
  const char* kernel;
  srnn::Stage stage;
};
