// Products of a block's own rows of a matrix with the rows of rows.cuh, by ordinary arithmetic.
// int8 multiplies 8-bit weights with 14-bit inputs exactly, with the bits of csrc/cpu (int8.h).
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/memory.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/shape.cuh"

namespace srnn {

// A block's own rows of some gates of a matrix: row i of gate g is at
// first + i * stride + g * gate_stride.
struct MatrixRows {
  const unsigned char* first;
  uint64_t stride, gate_stride;
  const float* scales;  // int8: the scale of row i of gate g is scales[i + g * gate_scales]
  int gate_scales;
};

// The slice of kSlice rows that this block owns of gate `gate`, in a matrix of gates of kRows rows
// with kCols columns. The matrix begins at `offset` in the block of weights and has all_rows rows;
// `stay` says whether the slice is in shared memory.
template <int kCols, int kRows, int kSlice>
SRNN_DEVICE MatrixRows own_rows(const Block& b, Resident stay, uint64_t offset, uint64_t all_rows,
                                int gate) {
  constexpr uint64_t kBytes = row_bytes(kCols), kStay = resident_bytes(kCols);
  const uint64_t at = uint64_t{1} * gate * kRows + b.index * kSlice;
  const unsigned char* matrix = b.p.weights + offset;
  const uint64_t scales = scales_offset(all_rows, kCols);
  MatrixRows rows;
  const unsigned char* resident = shared_memory() + stay.offset;
  rows.scales =
      stay.on ? reinterpret_cast<const float*>(resident + resident_rows_bytes(kSlice, stay.gates)) +
                    gate * kSlice
              : reinterpret_cast<const float*>(matrix + scales) + at;
  rows.gate_scales = stay.on ? kSlice : kRows;
  rows.stride = stay.on ? kStay : kBytes;
  rows.gate_stride = stay.on ? kSlice * kStay : kRows * kBytes;
  rows.first = stay.on ? resident + uint64_t{1} * gate * kSlice * kStay : matrix + at * kBytes;
  return rows;
}

SRNN_DEVICE Quad read_quad(const unsigned char* from) {
  return *reinterpret_cast<const Quad*>(from);
}

// Limit of a lane's loads that are under way at once in a loop over columns. More of them make the
// kernel longer but not faster. Two teams have fewer registers for them. One stream in float32
// waits for weights from L2, so it takes what registers sm_90 and sm_100 leave.
constexpr bool kWaitsForWeights = kTagged && !kInt8 && !kBfloat16 && kBatch == 1 && kMoreRegisters;
constexpr int kLoadsAhead = kTeams == 1 || kWaitsForWeights ? 8 : 4;
// A lane keeps the results of at most so many loads of weights during a wait.
constexpr int kMostEarly = kSpareRegisters ? 2 : 0;

// A row of a product, whose rows are counted gate by gate, kSlice for each gate. In its place
// stands the gate's first row where this block owns only `own` of them; that sum is not used.
template <int kSlice>
SRNN_DEVICE const unsigned char* row_of(const MatrixRows& w, int row, int own) {
  const int unit = row % kSlice < own ? row % kSlice : 0;
  return w.first + unit * w.stride + row / kSlice * w.gate_stride;
}

// A lane's sum of products of one row with one stream.
struct FloatSum {
  float sum = 0.0f;
  // Adds the products of four weights.
  SRNN_DEVICE_MEMBER void add(const Block& b, Quad w, int stream, int col) {
    const float* x = b.floats(stream) + col;
    sum = fma_rn(float_of(w.x), x[0], sum);
    sum = fma_rn(float_of(w.y), x[1], sum);
    sum = fma_rn(float_of(w.z), x[2], sum);
    sum = fma_rn(float_of(w.w), x[3], sum);
  }
  SRNN_DEVICE_MEMBER uint32_t of_warp() const { return bits_of(warp_sum(sum)); }
};
// Returns an int8 sum, of the sums of its two planes. It is unsigned, because a part may pass 2^31;
// the whole sum does not.
SRNN_DEVICE uint32_t sum_of_planes(uint32_t high, uint32_t low) { return (high << 7) + low; }

// In int8 the sums are integers, two of each plane, so that fewer additions wait for each other.
struct CodeSum {
  int32_t high[2] = {0, 0}, low[2] = {0, 0};
  // Adds the products of sixteen weights.
  SRNN_DEVICE_MEMBER void add(const Block& b, Quad w, int stream, int col) {
    const Quad h = read_quad(b.codes(stream) + col), l = read_quad(b.codes(kTile + stream) + col);
    high[0] = add_bytes(w.x, h.x, high[0]), low[0] = add_bytes(w.x, l.x, low[0]);
    high[1] = add_bytes(w.y, h.y, high[1]), low[1] = add_bytes(w.y, l.y, low[1]);
    high[0] = add_bytes(w.z, h.z, high[0]), low[0] = add_bytes(w.z, l.z, low[0]);
    high[1] = add_bytes(w.w, h.w, high[1]), low[1] = add_bytes(w.w, l.w, low[1]);
  }
  SRNN_DEVICE_MEMBER uint32_t of_warp() const {
    const auto whole = [](const int32_t (&x)[2]) {
      return static_cast<uint32_t>(x[0]) + static_cast<uint32_t>(x[1]);
    };
    return warp_sum(sum_of_planes(whole(high), whole(low)));
  }
};
typedef Either<kInt8, CodeSum, FloatSum>::Type LaneSum;

// The rows of a product that a warp computes together: of kRows rows, number `begin` and every
// kWarps-th after it, where 0 is row `first` of the matrix. A sum is added up in the same order for
// any number of streams: first the inputs of each lane, then a tree over the lanes.
template <int kCols, int kSlice, int kRows>
struct WarpRows {
  static constexpr int kTogether = smaller(divide_up(kRows, kWarps), 4);
  static constexpr int kStep = kWarps * kTogether;
  static constexpr int kPadded = padded_cols(kCols), kColStep = kWarpSize * kRowUnit;
  static constexpr int kSteps = divide_up(kPadded, kColStep);
  // This says whether a lane reads its weights when the rows are chosen, because they are few.
  // Where that is before the inputs come (SentRows), less of shared memory is then wanted at once.
  static constexpr bool kReadsEarly = kSmallPackets && kTogether == 1 && kSteps <= kMostEarly;
  int begin;
  const unsigned char* row[kTogether];
  Quad weights[kReadsEarly ? kSteps : 1];

  SRNN_DEVICE_MEMBER WarpRows(const Block& b, const MatrixRows& w, int first, int begin_, int own)
      : begin(begin_) {
    for (int i = 0; i < kTogether; ++i) row[i] = row_of<kSlice>(w, first + number(i), own);
    for (int step = 0; kReadsEarly && step < kSteps; ++step) {
      const int col = step * kColStep + b.lane * kRowUnit;
      if (has_col(col)) weights[step] = read_quad(row[0] + col * kWeightSize);
    }
  }

  SRNN_DEVICE_MEMBER static bool has_col(int col) {
    return kPadded % kColStep == 0 || col < kPadded;
  }

  // The number of row i, in whose place the last one stands where there is none.
  SRNN_DEVICE_MEMBER int number(int i) const { return smaller(begin + i * kWarps, kRows - 1); }

  // Calls take(i, stream, sum) for each of the rows and every stream, in all lanes.
  template <class Take>
  SRNN_DEVICE_MEMBER void multiply(const Block& b, const Take& take) const {
    constexpr int kLoads = kInt8 ? 2 : 1;
    constexpr int kAhead = larger(1, kLoadsAhead / kLoads / kTogether);
    LaneSum sums[kTogether][kTile];
    SRNN_UNROLL(kAhead)
    for (int step = 0; step < kSteps; ++step) {
      const int col = step * kColStep + b.lane * kRowUnit;
      if (!has_col(col)) break;
      SRNN_UNROLL(kTogether)
      for (int i = 0; i < kTogether; ++i) {
        const Quad quad = kReadsEarly ? weights[step] : read_quad(row[i] + col * kWeightSize);
        SRNN_UNROLL(kTile)
        for (int s = 0; s < kTile; ++s) sums[i][s].add(b, quad, s, col);
      }
    }
    SRNN_UNROLL(kTogether)
    for (int i = 0; i < kTogether; ++i) {
      SRNN_UNROLL(kTile)
      for (int s = 0; s < kTile; ++s) {
        const uint32_t sum = sums[i][s].of_warp();
        if (kRows % kStep == 0 || begin + i * kWarps < kRows) take(i, s, sum);
      }
    }
  }
};

// Puts the sums of rows `first` to first + kRows - 1 with every stream into b.parts.
template <int kCols, int kSlice, int kRows>
SRNN_DEVICE void sum_rows(const Block& b, const MatrixRows& w, int first, int own) {
  using Rows = WarpRows<kCols, kSlice, kRows>;
  SRNN_UNROLL(1)
  for (int begin = b.warp; begin < kRows; begin += Rows::kStep) {
    const Rows rows(b, w, first, begin, own);
    rows.multiply(b, [&](int i, int stream, uint32_t sum) {
      if (b.lane == 0) b.part(0, rows.number(i), stream) = sum;
    });
  }
}

}  // namespace srnn
