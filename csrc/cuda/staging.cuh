// Vectors that products read: from an exchange into this block's memory, in the format of the mode.
#pragma once

#include "cuda/exchange.cuh"

namespace srnn {

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

// Puts an exchanged number where products read it, or in int8 where its code is made from.
struct Stager {
  const Block& b;
  int col_offset;
  SRNN_DEVICE_MEMBER void operator()(int row, int col, float x) const {
    if constexpr (kBfloat16) {
      reinterpret_cast<unsigned short*>(b.codes(row))[col_offset + col] = bfloat16_bits(x);
    } else {
      b.raw(row)[col_offset + col] = x;
    }
  }
};

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
      const Stager stager{b, kCols};
      for (int i = b.thread; i < rows * kPadding; i += kThreads) {
        stager(i / kPadding, i % kPadding, 0.0f);
      }
      block_sync();
    }
  }
}

// Stages an exchange of vectors of dim D, streams first, ..., first + rows - 1.
template <class V>
SRNN_DEVICE bool stage(const Block& b, int place, uint32_t count, Age age, int first, int rows) {
  if (!gather<V>(b, place, count, age, first, rows, Stager{b, 0})) return false;
  finish_staging<kDim>(b, rows);
  return true;
}

}  // namespace srnn
