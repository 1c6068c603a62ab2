// The contract between the host and the CUDA kernels: either one persistent kernel
// (device/persistent.cuh) or one kernel for each stage of a sample (device/stages.cuh).
//
// One launch of the persistent kernel walks all tiers for `steps` samples of all streams.
//   source   #include "cuda/device/persistent.cuh", or "cuda/device/stages.cuh" with SRNN_EXCHANGE
//            3; includes start from csrc/, and no header from outside is needed
//   options  --std=c++17, --fmad=false (a product that may be fused calls fma_rn), and one real
//            architecture (sm_XX)
//   defines  integers, all of them required:
//     SRNN_DIM            D, the width of every vector
//     SRNN_Q              Q, the number of levels
//     SRNN_N_RNN          RNN layers of each tier
//     SRNN_TAPS           FS(1), the previous samples that the sample-level MLP reads
//     SRNN_TIERS          number of RNN tiers
//     SRNN_FRAME_SIZES    FS(2),FS(3),... lowest tier first, separated by commas
//     SRNN_HIDDEN         hidden layers of the MLP that are left after folding
//                         (weights.packed_hidden)
//     SRNN_LSTM           1 for the LSTM, 0 for the GRU
//     SRNN_RESET_AFTER    1: the GRU applies its reset gate after the recurrent product
//     SRNN_SKIPS          1: a tier's output is the sum of maps of all its layers
//     SRNN_READERS_ALL    1: every layer reads the tier's input; 0: only the first one does
//     SRNN_MODE           0 float32, 1 bfloat16, 2 int8
//     SRNN_BATCH          streams that one group of blocks computes together
//     SRNN_GROUPS         groups of a launch; they never wait for each other. A launch has
//                         SRNN_BATCH * SRNN_GROUPS streams
//     SRNN_THREADS        threads of a team, a multiple of 32; a block has SRNN_TEAMS of them
//     SRNN_TEAMS          teams of a block: 1, or 2 of which the second works ahead
//                         (device/walk.cuh). 2 is for at most eight streams and exchanges 0 and 2
//     SRNN_BLOCKS         blocks of a group. Each owns ceil(D / SRNN_BLOCKS) units, so it must be
//                         ceil(D / ceil(D / n)) for some n, or a block would own none
//     SRNN_SHARED_BYTES   limit of a block's dynamic shared memory, in bytes
//     SRNN_EXCHANGE       how the blocks of a group exchange results (device/exchange.cuh):
//                         0 tagged packets
//                         1 alone: a group is one block, which has nobody to exchange with
//                         2 cluster: packets are pushed into shared memory, and a group is one
//                           thread block cluster (sm_90 and newer)
//                         3 launches: every stage is a kernel, and the end of a kernel is the wait
//     SRNN_PROFILE        1: the first block adds the time of each phase to Params::profile
//   launch   `srnn_generate(Params)`: SRNN_GROUPS * SRNN_BLOCKS blocks of SRNN_TEAMS * SRNN_THREADS
//            threads with srnn_sizes[kSharedBytes] of dynamic shared memory. The launch is
//            cooperative for exchange 0, and in clusters of SRNN_BLOCKS for exchange 2
//   stages   with SRNN_EXCHANGE 3, the kernels of device/stages.cuh take (Params, Stage) and are
//            launched in the order of stages.Walk, each with the same grid and shared memory,
//            never cooperatively
//   exports  __constant__ unsigned long long srnn_sizes[kSizes]
// The host sets the workspace and the error words to zero before every launch.
#pragma once

#include "model/philox.h"  // integer types

namespace srnn {

// Indices into srnn_sizes. All sizes are in bytes, but for the last one.
enum SizeIndex {
  kSizeOfParams = 0,  // sizeof(Params), which the host compares with its own
  kWeightBytes,       // the block of weights
  kWorkspaceBytes,    // the workspace
  kSharedBytes,       // dynamic shared memory; exchange 2 may need more than a GPU has
  kResidentBytes,     // whole matrices' rows that a block keeps in shared memory
  kProfileBytes,      // Params::profile, or 0
  kFirstLookTicks,    // the Params::first_look that is best on an H200; 0: no warp waits
  kSizes
};

enum ErrorCode {
  kNoError = 0,
  kTimedOut = 1,   // a wait passed the time limit
  kNotFinite = 2,  // a logit is NaN, or the largest one is infinite
};

// Indices into Params::error. The first failure fills the words; later ones leave them alone.
enum ErrorWord {
  kErrorCode = 0,
  kErrorBlock,     // number of the block in the grid
  kErrorPlace,     // kTimedOut: which exchange (constants.exchange_names); kNotFinite: the stream
  kErrorSequence,  // kTimedOut: sequence number of that exchange in this launch, from 1
  kErrorStep,      // sample of the launch, from 0; -1, in 32 bits, before the first one
  kErrorWords = 8
};

// Columns of Params::profile, whose rows are the phases of shape.cuh.
enum PhaseNumber {
  kPhaseTicks = 0,  // ticks of the multiprocessor's clock
  kPhaseExchange,   // those of the ticks in which it waited for other blocks or read their results
  kPhaseTimes,      // how often the phase began
  kPhaseNumbers
};

// How the samples of one stream are drawn in a launch. Streams of different listeners may share
// one.
struct StreamDrawing {
  uint64_t seed;
  int64_t ahead;       // the stream's own time, for the random draws, is so much after Params::t
  uint32_t stream;     // its number, for the random draws
  int32_t top_k;       // 0: off
  uint32_t use_top_p;  // 1: keep the smallest set with top_p_fraction / 2^32 of the mass
  uint32_t top_p_fraction;
};

// The argument of every kernel. Arrays are on the device, contiguous, and do not overlap.
// B streams, n layers, H state width (D, or 2 D for the LSTM), L lookback, Q levels.
struct Params {
  // Every tensor of models/layout.py in its order, each aligned to 256 bytes. The matrices of
  // products (recurrent, stack, skip_out, up, mlp.hidden*, mlp.output) have the mode's format, and
  // their rows are padded with zeros to a multiple of 16 bytes. In int8 a float scale for every row
  // follows at the next multiple of 256 bytes. Everything else is float32. packing.pack_weights
  // makes it.
  const unsigned char* weights;
  const float* hidden;     // (n, B, H) of every tier, lowest first, before the first sample
  float* new_hidden;       // the same after the last one; slow blocks may still read `hidden`
  const int32_t* history;  // (B, L) levels before time t
  const int32_t* forced;   // (B, steps) a level, or -1 where the model draws; null: it always does
  int32_t* levels;         // (B, steps) output
  float* logits;           // (B, steps, Q) output, also of forced samples; null: not wanted
  const float* temperature;       // (B, steps)
  const StreamDrawing* drawings;  // (B)
  unsigned char* workspace;       // zero at the start
  uint32_t* error;                // (kErrorWords), zero at the start
  uint64_t* profile;  // (phases + 1, kPhaseNumbers), zero at the start; with SRNN_PROFILE
  // Ticks of the multiprocessor's clock from a warp's packets to its first look at those of other
  // blocks (device/packets.cuh). It changes how fast samples are made, and no number.
  uint32_t first_look;
  uint64_t time_limit;  // nanoseconds that one wait may take
  int64_t t;            // time of the first new sample, of which frames are counted
  int32_t steps;        // 1 to 2^24 samples
};

// Which part of a sample a launch computes, with SRNN_EXCHANGE 3. The time is not part of it: every
// block counts the samples in the workspace, so the same launches serve every sample.
struct Stage {
  int32_t tier, layer;  // 0 for kernels without tiers or layers
  int32_t begins;       // 1 for the first launch of a sample, and the one after the last sample
};

}  // namespace srnn
