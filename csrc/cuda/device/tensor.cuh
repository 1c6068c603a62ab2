// Products by tensor cores, and each_product, which chooses between them and product.cuh.
//
// The warps share out the inputs, 64 bytes of every row at a time, and their sums are added in the
// order of the warps. A lane reads 16 bytes of a row at once. These are not the inputs that the
// hardware's layout of a tile names, but weights and rows are permuted alike, so both stay in
// memory as they are.
#pragma once

#include "cuda/device/block.cuh"
#include "cuda/device/prims.h"
#include "cuda/device/product.cuh"
#include "cuda/device/shape.cuh"

namespace srnn {

constexpr int kTileBytes = 64;  // bytes of a row that one step of a warp reads
// A lane reads rows that are eight apart, so kTensorRows rows are this many rows for each lane.
constexpr int kTileEights = kTensorRows / 8;
constexpr Quad kNoQuad = {0, 0, 0, 0};

template <bool kWhole>
struct SumOf {
  typedef float Number;
};
template <>
struct SumOf<true> {
  typedef int32_t Number;
};

// The sums of 8 * kEights rows: of bfloat16 products, or of one plane of int8.
template <class Number, int kEights>
struct TileSums {
  Number value[kTileEights / 2][4] = {};

  // Adds two steps of the tile. The 16 bytes of a lane are both halves of the inputs of each step.
  SRNN_DEVICE_MEMBER void add(const Quad (&w)[kTileEights], Quad x) {
    for (int t = 0; t < divide_up(kEights, 2); ++t) {
      const Quad low = w[2 * t], high = w[2 * t + 1];
      multiply_tile(value[t], low.x, high.x, low.y, high.y, x.x, x.y);
      multiply_tile(value[t], low.z, high.z, low.w, high.w, x.z, x.w);
    }
  }
};

// Puts this warp's sums for 8 * kEights rows, from first_row on, into b.partial. Rows are counted
// gate by gate, kSlice for each gate, of which this block owns `own`. For rows that it does not own
// other rows are read, and their sums are not used.
template <int kCols, int kSlice, int kEights>
SRNN_DEVICE void sum_tiles(const Block& b, const MatrixRows& w, int first_row, int rows, int own) {
  constexpr int kBytes = static_cast<int>(row_bytes(kCols));
  const int quarter = b.lane % 4, eighth = b.lane / 4;
  const unsigned char* row[kEights];
  for (int i = 0; i < kEights; ++i) {
    const int at = first_row + i * 8 + eighth, gate = at < rows ? at / kSlice : 0;
    const int unit = at < rows && at % kSlice < own ? at % kSlice : 0;
    row[i] = w.first + unit * w.stride + gate * w.gate_stride;
  }
  const int stream = eighth < kTile ? eighth : 0;
  TileSums<typename SumOf<kInt8>::Number, kEights> sums, low_sums;
  SRNN_UNROLL(2)
  for (int byte = b.warp * kTileBytes + quarter * 16; byte - quarter * 16 < kBytes;
       byte += kWarps * kTileBytes) {
    const bool inside = byte < kBytes;
    Quad weights[kTileEights];
    for (int i = 0; i < kTileEights; ++i) {
      weights[i] = inside && i < kEights ? read_quad(row[smaller(i, kEights - 1)] + byte) : kNoQuad;
    }
    sums.add(weights, inside ? read_quad(b.codes(stream) + byte) : kNoQuad);
    if constexpr (kInt8) {
      low_sums.add(weights, inside ? read_quad(b.codes(kTile + stream) + byte) : kNoQuad);
    }
  }
  for (int eight = 0; eight < kEights; ++eight) {
    for (int i = 0; i < 2; ++i) {
      uint32_t* to = b.partial(b.warp, eight * 8 + eighth) + quarter * 2 + i;
      const auto sum = sums.value[eight / 2][eight % 2 * 2 + i];
      if constexpr (kInt8) {
        // The sums are unsigned, because a part may pass 2^31; the whole sum does not.
        const auto low = low_sums.value[eight / 2][eight % 2 * 2 + i];
        *to = (static_cast<uint32_t>(sum) << 7) + static_cast<uint32_t>(low);
      } else {
        *to = bits_of(sum);
      }
    }
  }
}

// Adds up the sums of all warps for one row and stream.
template <int kSlice>
SRNN_DEVICE float sum_of_warps(const Block& b, const MatrixRows& w, int row_of_tile, int row,
                               int own, int stream) {
  if constexpr (kInt8) {
    uint32_t sum = 0;
    for (int warp = 0; warp < kWarps; ++warp) sum += b.partial(warp, row_of_tile)[stream];
    if (row % kSlice >= own || stream >= kTile) return 0.0f;
    const float scale = w.scales[row % kSlice + row / kSlice * w.gate_scales];
    return float_rn(static_cast<int32_t>(sum)) * (scale * b.scales()[stream]);
  } else {
    float sum = 0.0f;
    for (int warp = 0; warp < kWarps; ++warp) {
      sum += float_of(b.partial(warp, row_of_tile)[stream]);
    }
    return sum;
  }
}

// Puts the products of 8 * kEights rows, from row `first` on, into b.products.
template <int kCols, int kRows, int kSlice, int kEights>
SRNN_DEVICE void multiply_eights(const Block& b, const MatrixRows& w, int first, int own) {
  sum_tiles<kCols, kSlice, kEights>(b, w, first, kRows, own);
  block_sync();
  for (int i = b.thread; i < kEights * 8 * kTensorStreams; i += kThreads) {
    const int at = i / kTensorStreams, stream = i % kTensorStreams;
    if (first + at >= kRows) continue;
    b.products(first + at)[stream] = sum_of_warps<kSlice>(b, w, at, first + at, own, stream);
  }
  block_sync();
}

// Puts the products of `own` rows of each of kCount gates into b.products. The rows of rows.cuh
// must be complete. Ends with a barrier.
template <int kCols, int kCount, int kSlice>
SRNN_DEVICE void multiply_tiles(const Block& b, const MatrixRows& w, int own) {
  constexpr int kRows = kCount * kSlice, kWhole = kRows / kTensorRows * kTensorRows;
  constexpr int kLeft = divide_up(kRows - kWhole, 8);
  if (own <= 0) return;  // the same for the whole block
  for (int first = 0; first < kWhole; first += kTensorRows) {
    multiply_eights<kCols, kRows, kSlice, kTileEights>(b, w, first, own);
  }
  if constexpr (kLeft > 0) multiply_eights<kCols, kRows, kSlice, kLeft>(b, w, kWhole, own);
}

// Multiplies `own` rows of each of kCount gates with the rows of `rows` streams from `first` on,
// and calls take(row, stream, terms) for each row and stream that this lane owns (each_owned).
template <int kCols, int kCount, int kSlice, class Take>
SRNN_DEVICE void each_product(const Block& b, const MatrixRows& w, int own, int first, int rows,
                              const Take& take) {
  if constexpr (kTensor) {
    multiply_tiles<kCols, kCount, kSlice>(b, w, own);
    each_owned<kSlice>(b, own, first, rows, [&](int row, int stream) {
      float terms[kCount];
      for (int g = 0; g < kCount; ++g) terms[g] = b.products(g * kSlice + row)[stream - first];
      take(row, stream, terms);
    });
  } else {
    constexpr int kTogether = rows_together<kSlice>();
    const int mine = b.lane / kTile, stream = b.lane % kTile;
    for (int begin = b.warp; begin < own; begin += kWarps * kTogether) {
      float terms[kCount];
      multiply<kCols>(b, w, begin, terms);
      SRNN_UNROLL(1)
      for (int i = 1; i < kTogether && begin + i * kWarps < own; ++i) {
        float other[kCount];
        multiply<kCols>(b, w, begin + i * kWarps, other);
        for (int g = 0; g < kCount; ++g) terms[g] = mine == i ? other[g] : terms[g];
      }
      const int row = begin + mine * kWarps;
      if (mine < kTogether && row < own && stream < rows) take(row, first + stream, terms);
    }
  }
}

// Computes `parts` products of kCount gates for every own unit and stream, with rows that
// fill(first stream, streams) fills, and calls take(part, unit, stream, terms). rows_of(part)
// returns the own rows of a matrix. Returns false when the time is up.
template <int kCols, int kCount, class Fill, class RowsOf, class Take>
SRNN_DEVICE bool with_products(const Block& b, int parts, const Fill& fill, const RowsOf& rows_of,
                               const Take& take) {
  for (int first = 0; first < kBatch; first += kTile) {
    const int rows = rows_of_tile(first);
    if (!fill(first, rows)) return false;
    for (int part = 0; part < parts; ++part) {
      each_product<kCols, kCount, kUnits>(
          b, rows_of(part), b.units, first, rows,
          [&](int u, int stream, float (&terms)[kCount]) { take(part, u, stream, terms); });
    }
  }
  return true;
}

}  // namespace srnn
