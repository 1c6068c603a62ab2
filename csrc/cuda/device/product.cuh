// Products of a block's own rows of a matrix with the rows of rows.cuh, by ordinary arithmetic.
//
// A warp computes one output of each gate for all streams of a tile. A sum is added up in the same
// order for any number of streams: first the inputs of each lane, then a tree over the lanes. int8
// multiplies 8-bit weights with 14-bit inputs exactly, with the bits of csrc/cpu (int8.h).
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
  const uint64_t scales = (all_rows * kBytes + 255) / 256 * 256;
  MatrixRows rows;
  rows.scales = reinterpret_cast<const float*>(matrix + scales) + at;
  rows.gate_scales = kRows;
  rows.stride = stay.on ? kStay : kBytes;
  rows.gate_stride = stay.on ? kSlice * kStay : kRows * kBytes;
  rows.first = stay.on ? shared_memory() + stay.offset + uint64_t{1} * gate * kSlice * kStay
                       : matrix + at * kBytes;
  return rows;
}

SRNN_DEVICE Quad read_quad(const unsigned char* from) {
  return *reinterpret_cast<const Quad*>(from);
}

// Limit of a lane's loads that are under way at once in a loop over columns. More of them make the
// kernel longer but not faster.
constexpr int kLoadsAhead = 8;

// Adds the products of four float32 weights to a lane's sum.
SRNN_DEVICE void add_float_quad(Quad w, const float* x, float& sum) {
  sum = fma_rn(float_of(w.x), x[0], sum);
  sum = fma_rn(float_of(w.y), x[1], sum);
  sum = fma_rn(float_of(w.z), x[2], sum);
  sum = fma_rn(float_of(w.w), x[3], sum);
}
// Sets sums[g][s], in every lane, to own row `row` of gate g times the row of stream s.
template <int kCols, int kCount>
SRNN_DEVICE void multiply_floats(const Block& b, const MatrixRows& w, int row,
                                 float (&sums)[kCount][kTile]) {
  constexpr int kPadded = padded_cols(kCols), kAhead = larger(1, kLoadsAhead / kCount);
  for (int g = 0; g < kCount; ++g) {
    for (int s = 0; s < kTile; ++s) sums[g][s] = 0.0f;
  }
  const unsigned char* weights = w.first + row * w.stride;
  SRNN_UNROLL(kAhead)
  for (int col = b.lane * kRowUnit; col < kPadded; col += kWarpSize * kRowUnit) {
    Quad quads[kCount];
    for (int g = 0; g < kCount; ++g) {
      quads[g] = read_quad(weights + g * w.gate_stride + col * kWeightSize);
    }
    for (int s = 0; s < kTile; ++s) {
      const float* x = b.floats(s) + col;
      for (int g = 0; g < kCount; ++g) {
        add_float_quad(quads[g], x, sums[g][s]);
      }
    }
  }
  for (int g = 0; g < kCount; ++g) {
    for (int s = 0; s < kTile; ++s) sums[g][s] = warp_sum(sums[g][s]);
  }
}

// Does the same in int8, with integer sums of both planes.
template <int kCols, int kCount>
SRNN_DEVICE void multiply_codes(const Block& b, const MatrixRows& w, int row,
                                float (&sums)[kCount][kTile]) {
  constexpr int kPadded = padded_cols(kCols), kAhead = larger(1, kLoadsAhead / 2 / kCount);
  int32_t high[kCount][kTile] = {}, low[kCount][kTile] = {};
  const unsigned char* weights = w.first + row * w.stride;
  SRNN_UNROLL(kAhead)
  for (int col = b.lane * kRowUnit; col < kPadded; col += kWarpSize * kRowUnit) {
    for (int g = 0; g < kCount; ++g) {
      const Quad q = read_quad(weights + g * w.gate_stride + col);
      for (int s = 0; s < kTile; ++s) {
        const Quad h = read_quad(b.codes(s) + col), l = read_quad(b.codes(kTile + s) + col);
        high[g][s] = add_bytes(q.x, h.x, high[g][s]), low[g][s] = add_bytes(q.x, l.x, low[g][s]);
        high[g][s] = add_bytes(q.y, h.y, high[g][s]), low[g][s] = add_bytes(q.y, l.y, low[g][s]);
        high[g][s] = add_bytes(q.z, h.z, high[g][s]), low[g][s] = add_bytes(q.z, l.z, low[g][s]);
        high[g][s] = add_bytes(q.w, h.w, high[g][s]), low[g][s] = add_bytes(q.w, l.w, low[g][s]);
      }
    }
  }
  for (int g = 0; g < kCount; ++g) {
    const float scale = w.scales[row + g * w.gate_scales];
    for (int s = 0; s < kTile; ++s) {
      // The sums are unsigned, because a part may pass 2^31; the whole sum does not.
      const uint32_t sum =
          (static_cast<uint32_t>(high[g][s]) << 7) + static_cast<uint32_t>(low[g][s]);
      sums[g][s] = float_rn(static_cast<int32_t>(warp_sum(sum))) * (scale * b.scales()[s]);
    }
  }
}

// Sets terms[g] to the product of own row `row` of gate g with the row of this lane's stream
// (lane % kTile). All lanes of the warp call it.
template <int kCols, int kCount>
SRNN_DEVICE void multiply(const Block& b, const MatrixRows& w, int row, float (&terms)[kCount]) {
  float sums[kCount][kTile];
  if constexpr (kInt8) {
    multiply_codes<kCols>(b, w, row, sums);
  } else {
    multiply_floats<kCols>(b, w, row, sums);
  }
  for (int g = 0; g < kCount; ++g) {
    terms[g] = sums[g][0];
    for (int s = 1; s < kTile; ++s) terms[g] = b.lane % kTile == s ? sums[g][s] : terms[g];
  }
}

}  // namespace srnn
