// Rows: the vectors that products read, copied from an exchange into this block's memory, one row
// for each stream of a tile, in the format of the weights. int8 is quantized as in csrc/cpu.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/prims.h"

namespace srnn {

// The nearest bfloat16, ties to even. NaN stays NaN.
SRNN_DEVICE unsigned short bfloat16_bits(float x) {
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<unsigned short>(bits >> 16 | 64);
  return static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

// Four neighbouring numbers of a vector of width D.
struct Four {
  float a, b, c, d;
};
SRNN_DEVICE Four operator+(Four x, Four y) { return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d}; }

// Reads numbers col to col + 3 of a vector, as far as it has them, with col a multiple of 4. kTable
// says whether it is a row of a large table.
template <bool kTable = false>
SRNN_DEVICE Four read_four(const float* vector, int col) {
  if constexpr (kDim % 4 == 0) {
    const Quad q =
        kTable ? read_rarely(vector + col) : *reinterpret_cast<const Quad*>(vector + col);
    return {float_of(q.x), float_of(q.y), float_of(q.z), float_of(q.w)};
  }
  const auto at = [&](int k) { return col + k < kDim ? vector[col + k] : 0.0f; };
  return {at(0), at(1), at(2), at(3)};
}
SRNN_DEVICE void write_four(float* vector, int col, Four x) {
  if constexpr (kDim % 4 == 0) {
    *reinterpret_cast<Quad*>(vector + col) = {bits_of(x.a), bits_of(x.b), bits_of(x.c),
                                              bits_of(x.d)};
    return;
  }
  const float number[4] = {x.a, x.b, x.c, x.d};
  for (int k = 0; k < 4 && col + k < kDim; ++k) vector[col + k] = number[k];
}

// Writes numbers into rows; in int8 into the float32 rows that finish_rows quantizes. Rows may be
// written in parts from several column offsets: the first part must have offset 0, and every part
// is shared out among threads by each_row.
struct RowWriter {
  const Block& b;
  int col_offset;
  mutable int32_t peak = 0;  // int8: bits of the largest magnitude that this thread wrote to a row

  // Writes `count` neighbouring numbers of the part, from `col` on.
  template <int kCount, class Sure>
  SRNN_DEVICE_MEMBER void operator()(int row, int col, const float (&numbers)[kCount], int count,
                                     Sure) const {
    for (int k = 0; k < kCount; ++k) {
      if (k < Sure::value || k < count) put(row, col + k, numbers[k]);
    }
  }

  SRNN_DEVICE_MEMBER void put(int row, int col, float x) const {
    if constexpr (kBfloat16) {
      reinterpret_cast<unsigned short*>(b.codes(row))[col_offset + col] = bfloat16_bits(x);
    } else if constexpr (kInt8) {
      b.raw(row)[col_offset + col] = x;
    } else {
      b.floats(row)[col_offset + col] = x;
    }
    look(x);
  }

  // Writes four neighbouring numbers, those from `col` on that the vector has.
  SRNN_DEVICE_MEMBER void put(int row, int col, Four x) const {
    if constexpr (kBfloat16 || kDim % 4 != 0) {
      const float number[4] = {x.a, x.b, x.c, x.d};
      for (int k = 0; k < 4 && col + k < kDim; ++k) put(row, col + k, number[k]);
    } else {
      write_four((kInt8 ? b.raw(row) : b.floats(row)) + col_offset, col, x);
      look(x.a), look(x.b), look(x.c), look(x.d);
    }
  }

  SRNN_DEVICE_MEMBER void look(float x) const {
    if constexpr (kInt8) {
      const int32_t bits = static_cast<int32_t>(bits_of(x) & 0x7fffffffu);
      peak = bits > peak ? bits : peak;
    }
  }

  // All lanes of a warp call this after they have written their share of a row.
  SRNN_DEVICE_MEMBER void end_row(int row) const {
    if constexpr (kInt8) {
      const int32_t of_warp = warp_max(peak);
      int32_t& kept = b.peaks(row)[b.warp % kWarpsOfRow];
      if (b.lane == 0) kept = col_offset > 0 && kept > of_warp ? kept : of_warp;
      peak = 0;
    }
  }
};

// Quantizes a row to signed codes of 14 bits, stored as two planes of bytes: code = 128 high + low,
// with low from 0 to 127. The threads that share the row call this; `number` counts them.
template <int kCols>
SRNN_DEVICE void quantize_row(const Block& b, int row, int number) {
  constexpr int kPadded = padded_cols(kCols), kMost = 2147483647 / 127 / kCols;
  constexpr int kLimit = kMost < 8191 ? kMost : 8191, kStep = threads_of_row<kTile>() * 4;
  constexpr float kTop = static_cast<float>(kLimit), kPerTop = 1.0f / kTop;
  const auto read = [&](int col) { return *reinterpret_cast<const Quad*>(b.raw(row) + col); };
  const Quad first = read(smaller(number * 4, kPadded - 4));  // on its way beside the peaks
  int32_t peak_bits = 0;
  for (int i = 0; i < kWarpsOfRow; ++i) {
    const int32_t bits = b.peaks(row)[i];
    peak_bits = bits > peak_bits ? bits : peak_bits;
  }
  const float peak = float_of(static_cast<uint32_t>(peak_bits));
  const bool finite = peak_bits < 0x7f800000, zero = !finite || peak < 1e-30f;
  const float per_unit = zero ? 0.0f : divide_rn(kTop, peak);
  // peak / kTop, rounded: the product with the rounded 1 / kTop, and a correction by what is left.
  const float near = peak * kPerTop, scale = fma_rn(fma_rn(-kTop, near, peak), kPerTop, near);
  if (number == 0) b.scales()[row] = !finite ? float_of(0x7fc00000u) : zero ? 0.0f : scale;
  SRNN_UNROLL(4)
  for (int step = 0; step < divide_up(kPadded, kStep); ++step) {
    const int col = step * kStep + number * 4;
    if (kPadded % kStep != 0 && col >= kPadded) break;
    const Quad x = step == 0 ? first : read(col);
    const uint32_t word[4] = {x.x, x.y, x.z, x.w};
    uint32_t high = 0, low = 0;
    for (int k = 0; k < 4; ++k) {
      const bool none = zero || (kPadded != kCols && col + k >= kCols);
      const float scaled = none ? 0.0f : float_of(word[k]) * per_unit;
      const int code = static_cast<int>(scaled + (scaled < 0.0f ? -0.5f : 0.5f));
      high |= (static_cast<uint32_t>(code >> 7) & 255u) << (8 * k);
      low |= (static_cast<uint32_t>(code) & 127u) << (8 * k);
    }
    *reinterpret_cast<uint32_t*>(b.codes(row) + col) = high;
    *reinterpret_cast<uint32_t*>(b.codes(kTile + row) + col) = low;
  }
}

// Completes rows of kCols numbers after they were written: quantizes them, or pads them with zeros.
// Ends with a barrier where it writes anything.
template <int kCols>
SRNN_DEVICE void finish_rows(const Block& b, int rows) {
  if constexpr (kInt8) {
    each_row<kTile>(b, rows, [&](int row, int number) { quantize_row<kCols>(b, row, number); });
    barrier_sync(b.barrier(), kThreads);
  } else {
    constexpr int kPadding = padded_cols(kCols) - kCols;
    if constexpr (kPadding > 0) {  // old memory may hold NaN, and 0 times NaN is NaN
      const RowWriter writer{b, kCols};
      for (int i = b.thread; i < rows * kPadding; i += kThreads) {
        writer.put(i / kPadding, i % kPadding, 0.0f);
      }
      barrier_sync(b.barrier(), kThreads);
    }
  }
}

// Fills rows with vectors of width D from an exchange, for streams first, ..., first + rows - 1.
// Returns false when the time is up.
template <class V>
SRNN_DEVICE bool fill_rows(const Block& b, int place, uint32_t sequence, int first, int rows) {
  if (!gather<V>(b, place, sequence, first, rows, RowWriter{b, 0})) return false;
  finish_rows<kDim>(b, rows);
  return true;
}

}  // namespace srnn
