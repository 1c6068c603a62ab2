// Products of own rows of a matrix with staged vectors, in the numeric mode of the kernel.
//
// A warp makes one output of each gate for all streams of a tile. The sum of a row takes the same
// order for any batch and any number of blocks: each lane's inputs, then a tree over the lanes.
// int8 is W8A14, exact: see csrc/cpu/int8.h, whose bits these are.
#pragma once

#include "cuda/exchange.cuh"

namespace srnn {

// --- vectors that are read --------------------------------------------------------------------

// Codes of a staged row, as two planes of 7 bits: code = 128 high + low, low from 0 to 127. Some
// warps may share a row; each finds its largest magnitude for itself.
template <int kCols>
SRNN_DEVICE void quantise_row(const Block& b, int row, int part, int parts) {
  constexpr int kPadded = padded_cols(kCols), kMost = 2147483647 / 127 / kCols;
  constexpr int kLimit = kMost < 8191 ? kMost : 8191;
  const float* x = b.raw(row);
  int32_t peak_bits = 0;
  SRNN_UNROLL(4)
  for (int i = b.lane; i < kCols; i += kWarpSize) {
    const int32_t bits = static_cast<int32_t>(bits_of(x[i]) & 0x7fffffffu);
    peak_bits = bits > peak_bits ? bits : peak_bits;
  }
  peak_bits = warp_max(peak_bits);
  const float peak = float_of(static_cast<uint32_t>(peak_bits));
  const bool finite = peak_bits < 0x7f800000, zero = !finite || peak < 1e-30f;
  const float top = static_cast<float>(kLimit), per_unit = zero ? 0.0f : divide_rn(top, peak);
  unsigned char *high = b.codes(row), *low = b.codes(kTile + row);
  SRNN_UNROLL(2)
  for (int i = part * kWarpSize + b.lane; i < kPadded; i += parts * kWarpSize) {
    const float scaled = zero || i >= kCols ? 0.0f : x[i] * per_unit;
    const int code = static_cast<int>(scaled + (scaled < 0.0f ? -0.5f : 0.5f));
    high[i] = static_cast<unsigned char>(code >> 7);
    low[i] = static_cast<unsigned char>(code & 127);
  }
  if (part == 0 && b.lane == 0) {
    const float not_a_number = float_of(0x7fc00000u);
    b.scales()[row] = !finite ? not_a_number : zero ? 0.0f : divide_rn(peak, top);
  }
}

// Makes staged rows of kCols what products read. Ends with a barrier.
template <int kCols>
SRNN_DEVICE void finish_staging(const Block& b, int rows) {
  if constexpr (kInt8) {
    constexpr int kParts = kWarps > kTile ? kWarps / kTile : 1;
    for (int row = b.warp / kParts; row < rows; row += kWarps / kParts) {
      quantise_row<kCols>(b, row, b.warp % kParts, kParts);
    }
    block_sync();
  } else {
    constexpr int kPadding = padded_cols(kCols) - kCols;
    if constexpr (kPadding > 0) {  // 0 times anything that is there might be NaN
      for (int i = b.thread; i < rows * kPadding; i += kThreads) {
        b.raw(i / kPadding)[kCols + i % kPadding] = 0.0f;
      }
      block_sync();
    }
  }
}

// Puts an exchanged number where products read it.
struct Stager {
  const Block& b;
  int col_offset;
  SRNN_DEVICE_MEMBER void operator()(int row, int col, float x) const {
    b.raw(row)[col_offset + col] = kBfloat16 ? round_bfloat16(x) : x;
  }
};

// Stages an exchange of vectors of dim D, streams first, ..., first + rows - 1.
SRNN_DEVICE bool stage(const Block& b, int place, uint32_t count, Age age, int first, int rows) {
  if (!gather<UnitVectors>(b, place, count, age, first, rows, Stager{b, 0})) return false;
  finish_staging<kDim>(b, rows);
  return true;
}

// --- products ---------------------------------------------------------------------------------

// Rows of a matrix: row(i) is that of output i of this block; `stride` outputs lie between gates.
struct Rows {
  const unsigned char* first;
  const float* scales;  // int8
  uint64_t gate_stride;
  int gate_scales;
};

// A matrix of `blocks` blocks of kRows rows, and what this block of the grid has of one of them:
// its chunk of rows, in shared memory or in the block of weights.
template <int kCols, int kRows, int kChunk>
SRNN_DEVICE Rows own_rows(const Block& b, const unsigned char* resident, uint64_t offset,
                          uint64_t all_rows, int matrix_block) {
  constexpr uint64_t kBytes = row_bytes(kCols);
  Rows rows;
  const uint64_t at = uint64_t{1} * matrix_block * kRows + b.index * kChunk;
  const unsigned char* matrix = b.p.weights + offset;
  const uint64_t scales = (all_rows * kBytes + 255) / 256 * 256;
  rows.scales = reinterpret_cast<const float*>(matrix + scales) + at;
  rows.gate_scales = kRows;
  if (resident != nullptr) {
    rows.first = resident + uint64_t{1} * matrix_block * kChunk * kBytes;
    rows.gate_stride = kChunk * kBytes;
  } else {
    rows.first = matrix + at * kBytes;
    rows.gate_stride = kRows * kBytes;
  }
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
SRNN_DEVICE void add_bfloat16_pair(uint32_t pair, const float* x, float& sum) {
  sum = fma_rn(bfloat16_low(pair), x[0], sum);
  sum = fma_rn(bfloat16_high(pair), x[1], sum);
}

// sums[g][s] = own row `row` of gate g times staged row s, whole in every lane.
template <int kCols, int kCount>
SRNN_DEVICE void multiply_floats(const Block& b, const Rows& w, int row,
                                 float (&sums)[kCount][kTile]) {
  constexpr int kPadded = padded_cols(kCols), kAhead = larger(1, kLoadsAhead / kCount);
  for (int g = 0; g < kCount; ++g) {
    for (int s = 0; s < kTile; ++s) sums[g][s] = 0.0f;
  }
  const unsigned char* weights = w.first + row * row_bytes(kCols);
  SRNN_UNROLL(kAhead)
  for (int col = b.lane * kRowUnit; col < kPadded; col += kWarpSize * kRowUnit) {
    Quad quads[kCount];
    for (int g = 0; g < kCount; ++g) {
      quads[g] = read_quad(weights + g * w.gate_stride + col * kWeightSize);
    }
    for (int s = 0; s < kTile; ++s) {
      const float* x = b.raw(s) + col;
      for (int g = 0; g < kCount; ++g) {
        if constexpr (kBfloat16) {
          add_bfloat16_pair(quads[g].x, x, sums[g][s]);
          add_bfloat16_pair(quads[g].y, x + 2, sums[g][s]);
          add_bfloat16_pair(quads[g].z, x + 4, sums[g][s]);
          add_bfloat16_pair(quads[g].w, x + 6, sums[g][s]);
        } else {
          add_float_quad(quads[g], x, sums[g][s]);
        }
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
  const unsigned char* weights = w.first + row * row_bytes(kCols);
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

// The product of own row `row` of kCount gates with this lane's stream of the tile.
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
    for (int s = 1; s < kTile; ++s) terms[g] = b.lane == s ? sums[g][s] : terms[g];
  }
}

}  // namespace srnn
