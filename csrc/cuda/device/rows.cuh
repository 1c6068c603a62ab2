// Rows: the vectors that products read, copied from an exchange into this block's memory, one row
// for each stream of a tile, in the format of the weights. int8 is quantized as in csrc/cpu.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/exchange.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/profile.cuh"

namespace srnn {

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
      reinterpret_cast<unsigned short*>(b.codes(row))[col_offset + col] =
          static_cast<unsigned short>(bfloat16_pair(x, 0.0f));
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

  // Writes four numbers of a row that is as wide as its padding, without a look at them.
  SRNN_DEVICE_MEMBER void store(int row, int col, Four x) const {
    if constexpr (kBfloat16) {
      uint32_t* to = reinterpret_cast<uint32_t*>(b.codes(row) + col * 2);
      to[0] = bfloat16_pair(x.a, x.b), to[1] = bfloat16_pair(x.c, x.d);
    } else {
      *reinterpret_cast<Quad*>(b.floats(row) + col) = {bits_of(x.a), bits_of(x.b), bits_of(x.c),
                                                       bits_of(x.d)};
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
      int32_t& of_row = b.peaks(row)[b.warp % kWarpsOfRow];
      if (b.lane == 0) of_row = col_offset > 0 && of_row > of_warp ? of_row : of_warp;
      peak = 0;
    }
  }
};

// int8: codes of a row of kCols numbers, whose largest magnitude the peaks of its warps tell. A
// code has 14 bits and a sign, and is stored in two planes of bytes: code = 128 high + low, with
// low from 0 to 127.
template <int kCols>
struct RowCodes {
  float per_unit;

  // All threads that share the row call this.
  SRNN_DEVICE_MEMBER RowCodes(const Block& b, int row) {
    constexpr int kMost = 2147483647 / 127 / kCols, kLimit = kMost < 8191 ? kMost : 8191;
    constexpr float kTop = static_cast<float>(kLimit), kPerTop = 1.0f / kTop;
    static_assert(kWarpsOfRow <= kWarpSize, "a lane has a peak");
    const int lane = smaller(b.lane, kWarpsOfRow - 1);
    const int32_t peak_bits = warp_max(b.peaks(row)[lane]);
    const float peak = float_of(static_cast<uint32_t>(peak_bits));
    const bool finite = peak_bits < 0x7f800000, zero = !finite || peak < 1e-30f;
    const float all = divide_rn(kTop, peak);
    per_unit = zero ? 0.0f : all;
    // peak / kTop, rounded: the product with the rounded 1 / kTop, and a correction by what is
    // left.
    const float near = peak * kPerTop, scale = fma_rn(fma_rn(-kTop, near, peak), kPerTop, near);
    // All threads store the same: a condition would make the first warp later than the others.
    b.row_scale = !finite ? float_of(0x7fc00000u) : zero ? 0.0f : scale;
    b.scales()[row] = b.row_scale;
  }

  // Stores the codes of four numbers, of which none is negative with kUnsigned. Those of numbers
  // that are not finite mean nothing: the row's scale is NaN then.
  template <bool kUnsigned = false>
  SRNN_DEVICE_MEMBER void store(const Block& b, int row, int col, const uint32_t (&bits)[4]) const {
    uint32_t code[4];  // The lower 16 bits are the code.
    for (int k = 0; k < 4; ++k) {
      const float scaled = float_of(bits[k]) * per_unit;
      // Rounded to the nearest, ties away from zero. Beside 2^23 a float has no bits after the
      // point.
      const uint32_t negative = kUnsigned ? 0 : bits_of(scaled) >> 31;
      const float whole = add_rz(magnitude(scaled) + 0.5f, 8388608.0f);
      code[k] = (bits_of(whole) ^ (0 - negative)) + negative;
    }
    // The planes are cut out of two codes at a time. Shifted by one bit, a code has the higher
    // plane's byte in its second byte.
    const uint32_t first = pick_bytes(code[0], code[1], 0x5410);
    const uint32_t second = pick_bytes(code[2], code[3], 0x5410);
    const uint32_t low = pick_bytes(first, second, 0x6420) & 0x7f7f7f7fu;
    const uint32_t high = pick_bytes(first << 1, second << 1, 0x7531);
    *reinterpret_cast<uint32_t*>(b.codes(row) + col) = high;
    *reinterpret_cast<uint32_t*>(b.codes(kTile + row) + col) = low;
  }
};

// Quantizes a row of raw numbers. The threads that share it call this; `number` counts them.
template <int kCols>
SRNN_DEVICE void quantize_row(const Block& b, int row, int number) {
  constexpr int kPadded = padded_cols(kCols), kStep = threads_of_row<kTile>() * 4;
  const auto read = [&](int col) { return *reinterpret_cast<const Quad*>(b.raw(row) + col); };
  const Quad first = read(smaller(number * 4, kPadded - 4));  // on its way beside the peaks
  const RowCodes<kCols> codes(b, row);
  SRNN_UNROLL(4)
  for (int step = 0; step < divide_up(kPadded, kStep); ++step) {
    const int col = step * kStep + number * 4;
    if (kPadded % kStep != 0 && col >= kPadded) break;
    const Quad x = step == 0 ? first : read(col);
    uint32_t bits[4] = {x.x, x.y, x.z, x.w};
    for (int k = 0; k < 4; ++k) bits[k] = kPadded == kCols || col + k < kCols ? bits[k] : 0;
    codes.store(b, row, col, bits);
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

// Small packets: a thread keeps its share of a vector of width D in registers, kShares spans of
// four numbers. share_col is the column of the first number of a span, which may lie behind the
// vector.
constexpr int kShares = divide_up(padded_cols(kDim), 4 * kThreads);
SRNN_DEVICE int share_col(const Block& b, int share) { return (b.thread + share * kThreads) * 4; }
SRNN_DEVICE bool in_vector(int col) { return kDim % (4 * kThreads) == 0 || col < kDim; }
SRNN_DEVICE bool in_row(int col) {
  return padded_cols(kDim) % (4 * kThreads) == 0 || col < padded_cols(kDim);
}

// Makes a row of the shares of all threads, where columns behind D are 0; in int8 write_codes does
// the rest. Ends with a barrier, and another one must have come after the last read of the old row,
// or in int8 of its peaks.
SRNN_DEVICE void write_shares(const Block& b, const Four (&x)[kShares]) {
  const RowWriter writer{b, 0};
  for (int i = 0; i < kShares; ++i) {
    const int col = share_col(b, i);
    if constexpr (kInt8) {
      writer.look(x[i].a), writer.look(x[i].b), writer.look(x[i].c), writer.look(x[i].d);
    } else if (in_row(col)) {
      writer.store(0, col, x[i]);
    }
  }
  writer.end_row(0);
  barrier_sync(b.barrier(), kThreads);
}

// int8: writes the codes of the shares after write_shares; kUnsigned is that of RowCodes::store.
// Ends with a barrier.
template <bool kUnsigned>
SRNN_DEVICE void write_codes(const Block& b, const Four (&x)[kShares]) {
  if constexpr (kInt8) {
    const RowCodes<kDim> codes(b, 0);
    for (int i = 0; i < kShares; ++i) {
      const int col = share_col(b, i);
      const uint32_t bits[4] = {bits_of(x[i].a), bits_of(x[i].b), bits_of(x[i].c), bits_of(x[i].d)};
      if (in_row(col)) codes.template store<kUnsigned>(b, 0, col, bits);
    }
    barrier_sync(b.barrier(), kThreads);
  }
}

// Small packets: fills the row with a vector of width D from an exchange. A thread whose time is up
// tells nobody before the end of the sample, so that no thread waits for what the others say: until
// then all of them go on with numbers that mean nothing, and their waits end soon because an error
// has been reported.
template <class V>
SRNN_DEVICE void fill_shares(const Block& b, int place, uint32_t sequence) {
  Four x[kShares];
  {
    const ExchangeTime time(b);  // with the barrier, where this thread waits for what others read
    constexpr bool kSure = kShares * kThreads * V::kSpan <= V::kCols;
    float numbers[kShares * V::kSpan];
    if (!await_spans<V, kShares, kThreads, kRepeatedReads, kSure>(b, place, sequence, b.thread,
                                                                  numbers)) {
      b.remaining |= kGiveUp;
    }
    for (int i = 0; i < kShares; ++i) {
      const float* from = numbers + i * V::kSpan;
      x[i] = {from[0], from[1], from[2], from[3]};
    }
    write_shares(b, x);
  }
  write_codes<V::kUnsigned>(b, x);
}

// Fills rows with vectors of width D from an exchange, for streams first, ..., first + rows - 1.
// Returns false when the time is up, but true with small packets: fill_shares leaves that to the
// end of the sample.
template <class V>
SRNN_DEVICE bool fill_rows(const Block& b, int place, uint32_t sequence, int first, int rows) {
  if constexpr (kSmallPackets) {
    fill_shares<V>(b, place, sequence);
    return true;
  }
  if (!gather<V>(b, place, sequence, first, rows, RowWriter{b, 0})) return false;
  finish_rows<kDim>(b, rows);
  return true;
}

}  // namespace srnn
