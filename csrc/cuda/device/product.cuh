// Products of own rows of a matrix with staged vectors, in the numeric mode of the kernel.
//
// A warp makes one output of each gate for all streams of a tile; where there are tensor cores for
// the mode, the warps make them together (tensor.cuh). The sum of a row takes the same order for
// any batch: each lane's inputs, then a tree over the lanes. int8 is W8A14, exact: see
// csrc/cpu/int8.h, whose bits these are.
#pragma once

#include "cuda/device/rows.cuh"

namespace srnn {

// What a block has of some blocks of rows (gates) of a matrix: row i of gate g is
// first + i * stride + g * gate_stride.
struct Rows {
  const unsigned char* first;
  uint64_t stride, gate_stride;
  const float* scales;  // int8: scales[i + g * gate_scales]
  int gate_scales;
};

// A matrix of blocks of kRows rows, and this block's chunk of one of them: in shared memory or in
// the block of weights.
template <int kCols, int kRows, int kChunk>
SRNN_DEVICE Rows own_rows(const Block& b, Resident stay, uint64_t offset, uint64_t all_rows,
                          int matrix_block) {
  constexpr uint64_t kBytes = row_bytes(kCols), kStay = resident_bytes(kCols);
  const uint64_t at = uint64_t{1} * matrix_block * kRows + b.index * kChunk;
  const unsigned char* matrix = b.p.weights + offset;
  const uint64_t scales = (all_rows * kBytes + 255) / 256 * 256;
  Rows rows;
  rows.scales = reinterpret_cast<const float*>(matrix + scales) + at;
  rows.gate_scales = kRows;
  rows.stride = stay.on ? kStay : kBytes;
  rows.gate_stride = stay.on ? kChunk * kStay : kRows * kBytes;
  rows.first = stay.on ? shared_memory() + stay.offset +
                             uint64_t{1} * (matrix_block - stay.first) * kChunk * kStay
                       : matrix + at * kBytes;
  return rows;
}

SRNN_DEVICE Quad read_quad(const unsigned char* from) {
  return *reinterpret_cast<const Quad*>(from);
}

// A loop over columns keeps about so many loads of a lane on their way; more only makes the kernel
// longer.
constexpr int kLoadsAhead = 8;

// What a row of 16 bytes of weights adds to a lane's sums.
SRNN_DEVICE void add_float_quad(Quad w, const float* x, float& sum) {
  sum = fma_rn(float_of(w.x), x[0], sum);
  sum = fma_rn(float_of(w.y), x[1], sum);
  sum = fma_rn(float_of(w.z), x[2], sum);
  sum = fma_rn(float_of(w.w), x[3], sum);
}
// sums[g][s] = own row `row` of gate g times staged row s, whole in every lane.
template <int kCols, int kCount>
SRNN_DEVICE void multiply_floats(const Block& b, const Rows& w, int row,
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

template <int kCols, int kCount>
SRNN_DEVICE void multiply_codes(const Block& b, const Rows& w, int row,
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
      // Unsigned: a part may pass 2^31, the exact sum does not.
      const uint32_t sum =
          (static_cast<uint32_t>(high[g][s]) << 7) + static_cast<uint32_t>(low[g][s]);
      sums[g][s] = float_rn(static_cast<int32_t>(warp_sum(sum))) * (scale * b.scales()[s]);
    }
  }
}

// The product of own row `row` of kCount gates with this lane's stream of the tile, by all lanes.
template <int kCols, int kCount>
SRNN_DEVICE void multiply(const Block& b, const Rows& w, int row, float (&terms)[kCount]) {
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
