// Vectors that products read: from an exchange into this block's memory, in the format of the mode.
#pragma once

#include "cuda/device/exchange.cuh"

namespace srnn {

// Puts an exchanged number where products read it, or in int8 where its code is made from. Whoever
// stages rows gives every one to the threads of each_row, and begins with col_offset 0.
struct Stager {
  const Block& b;
  int col_offset;
  mutable int32_t peak = 0;  // int8: the largest magnitude that this thread has of a row, as bits

  SRNN_DEVICE_MEMBER void operator()(int row, int col, float x) const {
    if constexpr (kBfloat16) {
      reinterpret_cast<unsigned short*>(b.codes(row))[col_offset + col] = bfloat16_bits(x);
    } else if constexpr (kInt8) {
      b.raw(row)[col_offset + col] = x;
    } else {
      b.floats(row)[col_offset + col] = x;
    }
    if constexpr (kInt8) {
      const int32_t bits = static_cast<int32_t>(bits_of(x) & 0x7fffffffu);
      peak = bits > peak ? bits : peak;
    }
  }

  // All lanes of a warp, once they have put what they have of a row.
  SRNN_DEVICE_MEMBER void end_row(int row) const {
    if constexpr (kInt8) {
      const int32_t of_warp = warp_max(peak);
      int32_t& kept = b.peaks(row)[b.warp % kWarpsOfRow];
      if (b.lane == 0) kept = col_offset > 0 && kept > of_warp ? kept : of_warp;
      peak = 0;
    }
  }
};

// Codes of a staged row, as two planes of 7 bits: code = 128 high + low, low from 0 to 127. By the
// threads that share the row out, of which this is one.
template <int kCols>
SRNN_DEVICE void quantise_row(const Block& b, int row, int number) {
  constexpr int kPadded = padded_cols(kCols), kMost = 2147483647 / 127 / kCols;
  constexpr int kLimit = kMost < 8191 ? kMost : 8191, kStep = threads_of_row<kTile>() * 4;
  int32_t peak_bits = 0;
  for (int i = 0; i < kWarpsOfRow; ++i) {
    const int32_t bits = b.peaks(row)[i];
    peak_bits = bits > peak_bits ? bits : peak_bits;
  }
  const float peak = float_of(static_cast<uint32_t>(peak_bits));
  const bool finite = peak_bits < 0x7f800000, zero = !finite || peak < 1e-30f;
  const float top = static_cast<float>(kLimit), per_unit = zero ? 0.0f : divide_rn(top, peak);
  SRNN_UNROLL(4)
  for (int col = number * 4; col < kPadded; col += kStep) {
    const Quad x = *reinterpret_cast<const Quad*>(b.raw(row) + col);
    const uint32_t word[4] = {x.x, x.y, x.z, x.w};
    uint32_t high = 0, low = 0;
    for (int k = 0; k < 4; ++k) {
      const float scaled = zero || col + k >= kCols ? 0.0f : float_of(word[k]) * per_unit;
      const int code = static_cast<int>(scaled + (scaled < 0.0f ? -0.5f : 0.5f));
      high |= (static_cast<uint32_t>(code >> 7) & 255u) << (8 * k);
      low |= (static_cast<uint32_t>(code) & 127u) << (8 * k);
    }
    *reinterpret_cast<uint32_t*>(b.codes(row) + col) = high;
    *reinterpret_cast<uint32_t*>(b.codes(kTile + row) + col) = low;
  }
  if (number == 0) {
    const float not_a_number = float_of(0x7fc00000u);
    b.scales()[row] = !finite ? not_a_number : zero ? 0.0f : divide_rn(peak, top);
  }
}

// Makes staged rows of kCols what products read. Ends with a barrier.
template <int kCols>
SRNN_DEVICE void finish_staging(const Block& b, int rows) {
  if constexpr (kInt8) {
    each_row<kTile>(b, rows, [&](int row, int number) { quantise_row<kCols>(b, row, number); });
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
