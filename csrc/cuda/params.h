// The contract between the host and the CUDA kernels: the persistent one (device/persistent.cuh),
// or one for each stage of a sample (device/stages.cuh).
//
// One launch walks all tiers for `steps` samples of SRNN_BATCH streams. How it is built:
//   source   #include "cuda/device/persistent.cuh", or "cuda/device/stages.cuh" with SRNN_EXCHANGE
//   4; csrc/ is
//            the root of the includes; no other header
//   options  --std=c++17 --fmad=false (products that may be fused say so), one real arch (sm_XX)
//   defines  whole numbers, all of them needed:
//     SRNN_DIM            D
//     SRNN_Q              Q, number of levels
//     SRNN_N_RNN          RNN layers in each tier
//     SRNN_TAPS           FS(1)
//     SRNN_TIERS          number of RNN tiers
//     SRNN_FRAME_SIZES    FS(2),FS(3),... lowest first, separated by commas
//     SRNN_HIDDEN         hidden layers left after folding (weights.packed_hidden)
//     SRNN_LSTM           1 for the LSTM, 0 for the GRU
//     SRNN_RESET_AFTER    1: the GRU's reset gate stands after the product
//     SRNN_SKIPS          1: maps of all layers' outputs are summed
//     SRNN_READERS_ALL    1: every layer reads the tier's input
//     SRNN_MODE           0 float32, 1 bfloat16, 2 int8
//     SRNN_BATCH          streams that a group of blocks makes together
//     SRNN_GROUPS         groups of one launch, which do not wait for each other: B is SRNN_BATCH
//                         times as many
//     SRNN_THREADS        threads of a block, a multiple of 32
//     SRNN_BLOCKS         blocks of a group: D is shared out by ceil(D / SRNN_BLOCKS) units, so it
//                         must be ceil(D / ceil(D / n)) for some n
//     SRNN_SHARED_BYTES   the most dynamic shared memory a block may have
//     SRNN_EXCHANGE       0 counters, 1 tagged packets, 2 none: a group is one block, 3 packets
//                         into shared memory: a group is one thread block cluster (sm_90 and
//                         newer), 4 launches: every stage is a kernel, whose end is the wait,
//                         5 roles: as 3, but of one group, for which other blocks make products
//     SRNN_HELPERS        exchange 5: those other blocks, as many as share out D evenly, like
//                         SRNN_BLOCKS; else 0
//     SRNN_COPIES         of every packet that blocks read in turn; they share out the copies
//     SRNN_PROFILE        1: the first block adds the time of its stages to Params::profile
// How it is launched: `srnn_generate(Params)`, SRNN_GROUPS * SRNN_BLOCKS blocks of SRNN_THREADS,
// with srnn_sizes[kSharedBytes] of dynamic shared memory; cooperative for exchanges 0, 1 and 5, in
// clusters of SRNN_BLOCKS for exchanges 3 and 5, which has SRNN_BLOCKS + SRNN_HELPERS blocks and as
// many more as fill the last cluster; the module exports
//     __constant__ unsigned long long srnn_sizes[kSizes]
// With SRNN_EXCHANGE 4: the kernels of stages.cuh as (Params, Stage), in the order of
// cuda_stages.Walk, each with that grid and memory, never cooperative.
// Before every launch the host sets the workspace and the error words to zero.
#pragma once

#include "model/philox.h"  // integer types

namespace srnn {

// Where a number stands in srnn_sizes.
enum SizeIndex {
  kSizeOfParams = 0,  // sizeof(Params), to compare
  kWeightBytes,       // of the block of weights
  kWorkspaceBytes,    // of the workspace
  kSharedBytes,       // of dynamic shared memory; exchanges 3 and 5 may need more than there is
  kResidentBytes,     // of a block's weights that stay in shared memory; exchange 5: of a head's
  kProfileBytes,      // of Params::profile, or 0
  kSizes
};

enum ErrorCode {
  kNoError = 0,
  kTimedOut = 1,   // a wait passed the time limit
  kNotFinite = 2,  // a logit is NaN or the largest one infinite
};

// Words of Params::error. The first failure fills them; a second one leaves them alone.
enum ErrorWord {
  kErrorCode = 0,
  kErrorBlock,  // which block of the grid
  kErrorPlace,  // kTimedOut: which exchange (names in cuda_plan.exchange_names); else the stream
  kErrorCount,  // kTimedOut: the how manieth of its kind in this launch, from 1 on
  kErrorStep,   // of the launch, from 0 on
  kErrorWords = 8
};

// What a row of Params::profile counts of one stage (shape.cuh).
enum StageNumber {
  kStageTicks = 0,  // of the multiprocessor's clock
  kStageExchange,   // of them in exchanges: waiting for other blocks, and reading what they gave
  kStageTimes,      // how often it began
  kStageNumbers
};

// Arrays are on the device, rows contiguous, without overlap.
struct Params {
  // Every tensor of weights.layout in its order, each from a multiple of 256 bytes on. Matrices of
  // products (recurrent, stack, skip_out, up, mlp.hidden*, mlp.output) have the mode's format, rows
  // padded with zeros to a multiple of 16 bytes; in int8 a float scale for every row follows, from
  // the next multiple of 256 bytes on. Everything else is float32. cuda_plan.pack_weights makes it.
  const unsigned char* weights;
  const float* hidden;       // (n, B, H) of every tier, lowest first, before the first sample
  float* new_hidden;         // the same after the last one; another block may still read the old
  const int32_t* history;    // (B, L) the levels before time t
  const int32_t* forced;     // (B, steps) a level, or -1 where the model is free; null: all free
  int32_t* levels;           // (B, steps) written
  float* logits;             // (B, steps, Q) written where not null, for forced samples too
  const float* temperature;  // (B, steps)
  const uint64_t* seeds;     // (B)
  const uint32_t* streams;   // (B) stream numbers
  unsigned char* workspace;  // zero at the start
  uint32_t* error;           // (kErrorWords), zero at the start
  uint64_t* profile;         // (stages + 1, kStageNumbers), zero at the start, with SRNN_PROFILE
  uint64_t time_limit;       // of one wait, in nanoseconds
  int64_t t;                 // time of the first new sample
  int32_t steps;             // 1 to 2^24
  int32_t top_k;             // 0: off
  uint32_t use_top_p;        // keep the smallest set that holds top_p_fraction / 2^32 of the mass
  uint32_t top_p_fraction;
};

// SRNN_EXCHANGE 4: which part of a sample a launch makes. Time is not in it: every block keeps
// count of the samples in the workspace, so that the same launches serve every sample.
struct Stage {
  int32_t tier, layer;  // of those kernels that have them, else 0
  int32_t begins;       // 1 for the first launch of a sample and the one after the last sample
};

}  // namespace srnn
