// What a thread knows of its block: its number, its time, and the arrays of memory.cuh.
//
// Units of a vector belong to blocks, and within a block each unit of a stream to a thread
// (each_owned), the same one everywhere: a number that is only read by the thread that wrote it
// needs no barrier. Where a block has two teams, this holds for each of them: a thread's number is
// that in its team, and a team has barriers and working arrays of its own.
#pragma once

#include "cuda/device/memory.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/shape.cuh"
#include "cuda/params.h"

namespace srnn {

// A thread has this left to do at the end of a sample: nothing, or some of these.
enum Remaining : int {
  kNothing = 0,
  kDrawFromRow = 1,  // all lanes of a warp have to call draw_from_row for stream 0
  kGiveUp = 2,       // the time is up, or logits are not finite
};

// At this barrier the first of two teams lets the second go on within a sample.
constexpr int kReadBarrier = 3;
// At this one all threads of a block end a sample. One team has one barrier for everything.
constexpr int kEndBarrier = kTeams == 1 ? 1 : 4;

struct Block {
  const Params& p;               // its arrays begin with this group's first stream
  unsigned char* arrays;         // kArrays, in shared memory or in the workspace
  unsigned char* team_arrays;    // kTeamArrays, the part of `arrays` that is this team's
  unsigned char* kept;           // kKept, in shared memory or in the workspace
  int team, thread, lane, warp;  // thread, warp: in the team
  int index;                     // of the block in its group
  int first_stream;              // number of the group's first stream
  int first_unit, units;         // the units of D that the block owns
  int step = -1;                 // sample of this launch; -1 before the first one
  uint32_t begin = 0;            // time of the first sample, without whole frames of the top tier
  uint32_t samples = 0;          // samples of this launch that ran the sample-level MLP
  uint32_t inputs = 0;           // kWholeInput: those of them that began a frame of the lowest tier
  // Whether this sample skips the MLP: every stream's level is given, and no logits are wanted.
  bool forced = true;
  mutable int remaining = kNothing;  // see Remaining
  mutable uint32_t sent_at = 0;      // when this warp last sent packets; see kWaits
  mutable uint32_t passes = 0;       // passes of products so far; see b.parts
  mutable float row_scale = 0.0f;  // int8: the scale of the row that this thread made codes of last
  mutable int output = -1;  // the tier whose output rows are in use, or -1 for the common rows
  // For each tier, 1 + the frame whose output its rows hold, or 0.
  mutable uint32_t output_frames[kTiers] = {};
  // These are for profile.cuh.
  mutable int phase = 0;
  mutable uint64_t phase_began = 0, exchange_ticks = 0, ticks_at_start = 0, ns_at_start = 0;

  SRNN_DEVICE_MEMBER uint32_t now() const { return begin + static_cast<uint32_t>(step); }

  // The number of the team's barrier, 1 or 2, where kThreads threads meet.
  SRNN_DEVICE_MEMBER int barrier() const { return 1 + team; }

  // Rows in float32: logits for the draw, and in int8 the vectors that are quantized.
  SRNN_DEVICE_MEMBER float* raw(int row) const {
    return reinterpret_cast<float*>(common_rows() + kCommonRows.raw) + row * kRawCols;
  }
  SRNN_DEVICE_MEMBER uint32_t* draw_weights(int row) const {
    return at<uint32_t>(kArrays.weights) + row * kWeightCols;
  }
  // Rows that products read, in the format of the weights. In int8 rows 0 to kTile - 1 have the
  // higher bits, and the next kTile rows the lower 7 bits.
  SRNN_DEVICE_MEMBER unsigned char* codes(int row) const {
    constexpr uint64_t kAt = kBfloat16 || kInt8 ? kCommonRows.codes : kCommonRows.raw;
    return (output < 0 ? common_rows() + kAt : output_rows()) + row * kRowBytes;
  }
  SRNN_DEVICE_MEMBER float* floats(int row) const { return reinterpret_cast<float*>(codes(row)); }
  // Returns one part of the sum of a row and stream of the pass in work. With one stream the parts
  // of a sum are neighbours, else the sums of a row are.
  SRNN_DEVICE_MEMBER uint32_t& part(int part, int row, int stream) const {
    uint32_t* buffer = of_team<uint32_t>(kTeamArrays.parts + passes % 2 * kPartsBytes);
    return buffer[kTile == 1 ? row * kParts + part : (part * kPassRows + row) * kTile + stream];
  }
  // Returns the whole products of a row, kTile numbers.
  SRNN_DEVICE_MEMBER float* products(int row) const {
    return of_team<float>(kTeamArrays.products) + row * kTile;
  }
  // int8: for each warp that shares a row, the bits of the largest magnitude that it has seen.
  SRNN_DEVICE_MEMBER int32_t* peaks(int row) const {
    return of_team<int32_t>(kTeamArrays.peaks) + row * kWarpsOfRow;
  }
  // int8: one scale for each row.
  SRNN_DEVICE_MEMBER float* scales() const {
    return reinterpret_cast<float*>(output < 0 ? team_arrays + kTeamArrays.scales
                                               : output_rows() + kRowsBytes);
  }
  // kWholeInput: what the lowest tier upsampled for one sample of a stream, without the bias.
  SRNN_DEVICE_MEMBER float* input(int stream) const {
    return kept_at<float>(kKept.input) + stream * kDim;
  }
  // kWholeInput: for the next sample of a stream, if it continues a frame of the lowest tier, the
  // bias of the MLP's input and the rows of the taps whose levels are known.
  SRNN_DEVICE_MEMBER float* taps(int stream) const {
    return kept_at<float>(kKept.taps) + stream * kDim;
  }
  // kBiases numbers.
  SRNN_DEVICE_MEMBER float* biases() const { return kept_at<float>(kKept.biases); }
  // kKeepNewest: returns the weight of a frame's newest sample for a gate of an own unit, in a
  // layer that reads samples. A cell would wait for it if it came from L2.
  SRNN_DEVICE_MEMBER float& newest_weight(int tier, int layer, int gate, int unit) const {
    const int row = (tier * kReaders + layer) * kGates + gate;
    return kept_at<float>(kKept.newest_weights)[row * kUnits + unit];
  }
  // The value that a tier reads for each level.
  SRNN_DEVICE_MEMBER float* values() const { return kept_at<float>(kKept.values); }
  // The slice that this block publishes next.
  SRNN_DEVICE_MEMBER float* own() const { return of_team<float>(kTeamArrays.own); }
  SRNN_DEVICE_MEMBER Draw& draw(int stream, int at_step) const {
    return at<Draw>(kArrays.draws)[at_step % (2 * kDrawsAhead) * kBatch + stream];
  }
  // A ring buffer of a stream's last kLookback levels, indexed by time.
  SRNN_DEVICE_MEMBER int32_t* levels(int stream) const {
    return kept_at<int32_t>(kKept.levels) + stream * kLookback;
  }

  // The level of a stream at a time, and its value for a tier.
  SRNN_DEVICE_MEMBER int32_t level(int stream, uint32_t time) const {
    return levels(stream)[time % kLookback];
  }
  SRNN_DEVICE_MEMBER float value(int stream, uint32_t time) const {
    return values()[level(stream, time)];
  }

  // The functions below return one number of an own unit and stream.

  // part: 0 for h, 1 for c.
  SRNN_DEVICE_MEMBER float& state(int tier, int layer, int part, int unit, int stream) const {
    return owned(kKept.state, (tier * kLayers + layer) * (kLstm ? 2 : 1) + part, unit, stream);
  }
  // kWholeInput: what the input of an own unit adds up before the upsampling, where the next sample
  // begins a frame of the lowest tier. The newest level's part comes last (NewestRow).
  SRNN_DEVICE_MEMBER float& own_taps(int unit, int stream) const {
    return owned(kKept.own_taps, 0, unit, stream);
  }
  // This is what older_gates adds up for the next frame.
  SRNN_DEVICE_MEMBER float& older(int tier, int layer, int gate, int unit, int stream) const {
    return owned(kKept.older, (tier * kLayers + layer) * kGates + gate, unit, stream);
  }
  // The product of the last h with the recurrent matrix.
  SRNN_DEVICE_MEMBER float& recurrent(int tier, int layer, int gate, int unit, int stream) const {
    return owned(kKept.recurrent, (tier * kLayers + layer) * kRecurrentGates + gate, unit, stream);
  }
  // What a tier upsampled for the next unit below it, without the bias.
  SRNN_DEVICE_MEMBER float& upsampled(int tier, int gate, int unit, int stream) const {
    const int before = tier == 0 ? 0 : 1 + (tier - 1) * kReaders * kGates;
    return owned(kKept.upsampled, before + gate, unit, stream);
  }
  // kResetBefore: what the candidate needs of the first half of the cell: the input of the update
  // gate z (part 0), and its own (part 1).
  SRNN_DEVICE_MEMBER float& candidate_input(int part, int unit, int stream) const {
    return owned(kKept.candidate_input, part, unit, stream);
  }

  SRNN_DEVICE_MEMBER unsigned char* common_rows() const {
    return arrays + kArrays.rows + (kRowsOfTeams ? team * kCommonRows.end : 0);
  }
  SRNN_DEVICE_MEMBER unsigned char* output_rows() const {
    return arrays + kArrays.outputs + output * kOutputRowsBytes;
  }
  template <class T>
  SRNN_DEVICE_MEMBER T* kept_at(uint64_t offset) const {
    return reinterpret_cast<T*>(kept + offset);
  }
  template <class T>
  SRNN_DEVICE_MEMBER T* of_team(uint64_t offset) const {
    return reinterpret_cast<T*>(team_arrays + offset);
  }
  template <class T>
  SRNN_DEVICE_MEMBER T* at(uint64_t offset) const {
    return reinterpret_cast<T*>(arrays + offset);
  }
  SRNN_DEVICE_MEMBER float& owned(uint64_t offset, int index, int unit, int stream) const {
    return kept_at<float>(offset)[(index * kUnits + unit) * kBatch + stream];
  }
};

// As long as it lives, products read the rows of a tier's output instead of the common rows. It
// changes nothing for tier -1.
class OutputRows {
 public:
  SRNN_DEVICE_MEMBER OutputRows(const Block& b, int tier) : b_(b) {
    if (kKeepOutputRows) b.output = tier;
  }
  SRNN_DEVICE_MEMBER ~OutputRows() { b_.output = -1; }

 private:
  const Block& b_;
};

// Streams of the tile whose first stream is `first`; the last tile may be smaller.
SRNN_DEVICE int rows_of_tile(int first) {
  return part_of<kBatch, kTile, divide_up(kBatch, kTile)>(first);
}

// Calls visit(i) for i = first, first + kStep, ... below kEnd, where `first` is below kStep. There
// is no loop where one turn is enough.
template <int kEnd, int kStep, class Visit>
SRNN_DEVICE void each_step(int first, const Visit& visit) {
  if constexpr (kEnd <= kStep) {
    if (kEnd == kStep || first < kEnd) visit(first);
  } else {
    for (int i = first; i < kEnd; i += kStep) visit(i);
  }
}

// Calls take(row, stream) for every row below `own` of a slice of kSlice, and every stream first,
// ..., first + rows - 1, that this thread owns.
template <int kSlice, class Take>
SRNN_DEVICE void each_owned(const Block& b, int own, int first, int rows, const Take& take) {
  each_step<kTile * kSlice, kThreads>(b.thread, [&](int i) {
    const int row = i % kSlice, stream = i / kSlice;
    if (row < own && stream < rows) take(row, first + stream);
  });
}

// Threads that share one row, where the team works on at most kRows rows at a time.
template <int kRows>
SRNN_CONSTEXPR int threads_of_row() {
  return warps_of_row(kRows) * kWarpSize;
}
// Calls visit(row, number) for every row of which this warp has a share; `number` counts the
// threads that share the row.
template <int kRows, class Visit>
SRNN_DEVICE void each_row(const Block& b, int rows, const Visit& visit) {
  constexpr int kTogether = warps_of_row(kRows);
  if constexpr (kRows == 1) {
    visit(0, b.thread);
  } else {
    const int number = b.warp % kTogether * kWarpSize + b.lane;
    for (int row = b.warp / kTogether; row < rows; row += kWarps / kTogether) visit(row, number);
  }
}

SRNN_DEVICE const float* floats_at(const Block& b, uint64_t offset) {
  return reinterpret_cast<const float*>(b.p.weights + offset);
}

// Fills the error words, unless another failure was first.
SRNN_DEVICE void report(const Block& b, ErrorCode code, uint32_t place, uint32_t sequence) {
  if (!claim_word(b.p.error + kErrorCode, code)) return;
  b.p.error[kErrorBlock] = static_cast<uint32_t>(block_id());
  b.p.error[kErrorPlace] = place;
  b.p.error[kErrorSequence] = sequence;
  b.p.error[kErrorStep] = static_cast<uint32_t>(b.step);
}

}  // namespace srnn
