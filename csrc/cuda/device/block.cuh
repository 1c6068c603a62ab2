// What a thread knows of its place, of the time, and of the arrays of its block.
//
// A warp owns units (one, or every kWarps-th) and its lanes share them and the streams out, the
// same way in every phase: what an owner keeps for itself needs no barrier.
#pragma once

#include "cuda/device/memory.cuh"

namespace srnn {

struct Block {
  const Params& p;                // arrays begin with this group's first stream
  unsigned char* arrays;          // kArrays, in shared memory or in the workspace
  unsigned char* lasting;         // kKept, the same
  int thread, lane, warp, index;  // index: in the group
  int first_stream;               // of the group
  int first_unit, units;          // of D
  bool helper;                    // index and units are among those of helpers
  int step = -1;                  // of this launch
  uint32_t begin = 0;             // time of the first sample, less whole top frames
  uint32_t samples = 0;           // with a sample-level network, of this launch
  uint32_t exchanges = 0;
  bool silent = true;       // whether this step draws nothing
  mutable int output = -1;  // whose place of staged vectors is in use: of a tier, or -1
  mutable uint32_t staged_frames[kTiers] = {};  // 1 + the frame after which each tier's is staged
  // profile.cuh
  mutable int stage = 0;
  mutable uint64_t stage_began = 0, exchange_ticks = 0, ticks_at_start = 0, ns_at_start = 0;

  SRNN_DEVICE_MEMBER uint32_t now() const { return begin + static_cast<uint32_t>(step); }

  SRNN_DEVICE_MEMBER float* raw(int row) const { return at<float>(kArrays.raw) + row * kRawCols; }
  SRNN_DEVICE_MEMBER uint32_t* draw_weights(int row) const {
    return at<uint32_t>(kArrays.weights) + row * kWeightCols;
  }
  // Staged rows, of the place that is in use (StagedOutput), in the format of the weights; in int8
  // the higher bits, then of all rows the lower 7.
  SRNN_DEVICE_MEMBER unsigned char* codes(int row) const {
    return staged(kBfloat16 || kInt8 ? kArrays.codes : kArrays.raw) + row * kRowBytes;
  }
  SRNN_DEVICE_MEMBER float* floats(int row) const { return reinterpret_cast<float*>(codes(row)); }
  // Tensor products: what a warp adds to a row of two tiles, and rows of products; 8 streams each.
  SRNN_DEVICE_MEMBER uint32_t* partial(int warp, int row) const {
    return at<uint32_t>(kArrays.partial) + (warp * kTensorRows + row) * kTensorStreams;
  }
  SRNN_DEVICE_MEMBER float* products(int row) const {
    return at<float>(kArrays.products) + row * kTensorStreams;
  }
  // int8: the largest magnitude in what each warp of a row has of it, as bits.
  SRNN_DEVICE_MEMBER int32_t* peaks(int row) const {
    return at<int32_t>(kArrays.peaks) + row * kWarpsOfRow;
  }
  SRNN_DEVICE_MEMBER float* scales() const {
    return reinterpret_cast<float*>(output < 0 ? arrays + kArrays.scales
                                               : staged(0) + kStagedBytes);
  }
  // kWholeInput: what the lowest tier gives to one sample of a stream, without the bias.
  SRNN_DEVICE_MEMBER float* input(int stream) const {
    return kept_at<float>(kKept.input) + stream * kDim;
  }
  SRNN_DEVICE_MEMBER float* own() const { return at<float>(kArrays.own); }
  SRNN_DEVICE_MEMBER Draw* draws(int at_step) const {
    return at<Draw>(kArrays.draws) + (at_step & 1) * kBatch;
  }
  SRNN_DEVICE_MEMBER int32_t* levels(int stream) const {
    return kept_at<int32_t>(kKept.levels) + stream * kLookback;
  }

  // One number for each own unit and stream.
  SRNN_DEVICE_MEMBER float& state(int tier, int layer, int part, int unit, int stream) const {
    return cell(kKept.state, (tier * kLayers + layer) * (kLstm ? 2 : 1) + part, unit, stream);
  }
  SRNN_DEVICE_MEMBER float& early(int tier, int layer, int gate, int unit, int stream) const {
    return cell(kKept.early, (tier * kLayers + layer) * kEarlyGates + gate, unit, stream);
  }
  // What `tier` gives to the unit below it that comes next, without the bias.
  SRNN_DEVICE_MEMBER float& conditioning(int tier, int block, int unit, int stream) const {
    const int before = tier == 0 ? 0 : 1 + (tier - 1) * kReaders * kGates;
    return cell(kKept.conditioning, before + block, unit, stream);
  }
  SRNN_DEVICE_MEMBER float& kept(int part, int unit, int stream) const {
    return cell(kKept.kept, part, unit, stream);
  }

  SRNN_DEVICE_MEMBER unsigned char* staged(uint64_t working) const {
    return arrays + (output < 0 ? working : kArrays.outputs + output * kOutputBytes);
  }
  template <class T>
  SRNN_DEVICE_MEMBER T* kept_at(uint64_t offset) const {
    return reinterpret_cast<T*>(lasting + offset);
  }
  template <class T>
  SRNN_DEVICE_MEMBER T* at(uint64_t offset) const {
    return reinterpret_cast<T*>(arrays + offset);
  }
  SRNN_DEVICE_MEMBER float& cell(uint64_t offset, int index, int unit, int stream) const {
    return kept_at<float>(offset)[(index * kUnits + unit) * kBatch + stream];
  }
};

// While it lives, a tier's output is what is staged and what products read.
class StagedOutput {
 public:
  SRNN_DEVICE_MEMBER StagedOutput(const Block& b, int tier) : b_(b) {
    if (kKeepOutputs) b.output = tier;
  }
  SRNN_DEVICE_MEMBER ~StagedOutput() { b_.output = -1; }

 private:
  const Block& b_;
};

// Roles (roles.cuh): one makes samples, the other products for it; without them every block is
// both.
SRNN_DEVICE bool is_head(const Block& b) { return kRoles && !b.helper; }
SRNN_DEVICE bool is_helper(const Block& b) { return kRoles && b.helper; }

// Streams of the tile that begins at a stream.
SRNN_DEVICE int live_rows(int first) { return kBatch - first < kTile ? kBatch - first : kTile; }

// Rows of a warp, of the kChunk of a block, that its lanes have at the same time: a lane has one
// stream of one of them.
template <int kChunk>
SRNN_CONSTEXPR int rows_together() {
  return smaller(kWarpSize / kTile, divide_up(kChunk, kWarps));
}

// Calls take(row, stream) for every row below `own` and every stream first, ..., first + rows - 1
// that this lane owns.
template <int kChunk, class Take>
SRNN_DEVICE void each_cell(const Block& b, int own, int first, int rows, const Take& take) {
  constexpr int kTogether = rows_together<kChunk>();
  const int mine = b.lane / kTile, stream = b.lane % kTile;
  if (mine >= kTogether || stream >= rows) return;
  for (int row = b.warp + mine * kWarps; row < own; row += kWarps * kTogether) {
    take(row, first + stream);
  }
}

// Threads that share out a row where the warps of a block share out at most kRows of them.
template <int kRows>
SRNN_CONSTEXPR int threads_of_row() {
  return warps_of_row(kRows) * kWarpSize;
}
// Calls visit(row, number) for every row that this warp has or shares with others; `number` counts
// the threads of that row.
template <int kRows, class Visit>
SRNN_DEVICE void each_row(const Block& b, int rows, const Visit& visit) {
  constexpr int kTogether = warps_of_row(kRows);
  const int number = b.warp % kTogether * kWarpSize + b.lane;
  for (int row = b.warp / kTogether; row < rows; row += kWarps / kTogether) visit(row, number);
}

SRNN_DEVICE const float* floats_at(const Block& b, uint64_t offset) {
  return reinterpret_cast<const float*>(b.p.weights + offset);
}

SRNN_DEVICE void report(const Block& b, ErrorCode code, uint32_t place, uint32_t count) {
  if (!claim_word(b.p.error + kErrorCode, code)) return;
  b.p.error[kErrorBlock] = static_cast<uint32_t>(block_id());
  b.p.error[kErrorPlace] = place;
  b.p.error[kErrorCount] = count;
  b.p.error[kErrorStep] = static_cast<uint32_t>(b.step);
}

}  // namespace srnn
