// Products by tensor cores.
//
// The warps share out the inputs, 64 bytes of every row at a time. A lane reads 16 bytes of a row
// at once. These are not the inputs that the hardware's layout of a tile names, but weights and
// rows are permuted alike, so both stay in memory as they are.
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

// The sums of 8 * kEights rows: of bfloat16 products, or of one plane of int8.
template <class Number, int kEights>
struct TileSums {
  Number value[kTileEights / 2][4] = {};

  // Adds two products of tiles. A lane's words x and y are the halves of its inputs of the first
  // one, z and w those of the second.
  SRNN_DEVICE_MEMBER void add(const Quad (&w)[kTileEights], Quad x) {
    SRNN_UNROLL(kTileEights)
    for (int t = 0; t < divide_up(kEights, 2); ++t) {
      const Quad low = w[2 * t], high = w[2 * t + 1];
      multiply_tile(value[t], low.x, high.x, low.y, high.y, x.x, x.y);
      multiply_tile(value[t], low.z, high.z, low.w, high.w, x.z, x.w);
    }
  }
};

// Returns what a lane leaves of a sum. In int8 it is that of both planes, and unsigned, because a
// part may pass 2^31; the whole sum does not.
SRNN_DEVICE uint32_t part_of_sum(int32_t high, int32_t low) {
  return (static_cast<uint32_t>(high) << 7) + static_cast<uint32_t>(low);
}
SRNN_DEVICE uint32_t part_of_sum(float sum, float) { return bits_of(sum); }

// Puts this warp's sums for 8 * kEights rows, from first_row on, into b.parts. Rows are counted
// gate by gate, kSlice for each gate, of which this block owns `own`. For rows that it does not own
// other rows are read, and their sums are not used.
template <int kCols, int kSlice, int kEights>
SRNN_DEVICE void sum_tiles(const Block& b, const MatrixRows& w, int first_row, int rows, int own) {
  constexpr int kBytes = static_cast<int>(row_bytes(kCols));
  const int quarter = b.lane % 4, eighth = b.lane / 4;
  const unsigned char* row[kEights];
  for (int i = 0; i < kEights; ++i) {
    const int at = first_row + i * 8 + eighth;
    row[i] = row_of<kSlice>(w, at < rows ? at : 0, own);
  }
  const int column = eighth < kTile * (kPlanesBeside ? 2 : 1) ? eighth : 0;
  const unsigned char* codes =
      kPlanesBeside ? b.codes(column % 2 * kTile + column / 2) : b.codes(column);
  TileSums<Either<kInt8, int32_t, float>::Type, kEights> sums, low_sums;
  constexpr int kStep = kWarps * kTileBytes;
  // Loads of one step are under way beside others, as far as there are registers; two teams have
  // half of them each, and one stream in int8 has few rows and steps.
  SRNN_UNROLL(kBatch == 1 && kEights == 1 ? 4 : kTeams == 1 || (kInt8 && kBatch == 1) ? 2 : 1)
  for (int step = 0; step < divide_up(kBytes, kStep); ++step) {
    const int byte = step * kStep + b.warp * kTileBytes + quarter * 16;
    if (kBytes % kStep != 0 && byte - quarter * 16 >= kBytes) break;
    const bool inside = kBytes % kTileBytes == 0 || byte < kBytes;
    Quad weights[kTileEights];
    SRNN_UNROLL(kTileEights)
    for (int i = 0; i < kTileEights; ++i) {
      weights[i] = inside && i < kEights ? read_quad(row[smaller(i, kEights - 1)] + byte) : kNoQuad;
    }
    sums.add(weights, inside ? read_quad(codes + byte) : kNoQuad);
    if constexpr (kInt8 && !kPlanesBeside) {
      low_sums.add(weights, inside ? read_quad(codes + kTile * kRowBytes + byte) : kNoQuad);
    }
  }
  SRNN_UNROLL(kEights)
  for (int eight = 0; eight < kEights; ++eight) {
    uint32_t* to = b.parts(b.warp, eight * 8 + eighth);
    const auto* sum = sums.value[eight / 2] + eight % 2 * 2;
    const auto* low = low_sums.value[eight / 2] + eight % 2 * 2;
    if constexpr (kPlanesBeside) {
      if (quarter < kTile) to[quarter] = part_of_sum(sum[0], sum[1]);
    } else {
      SRNN_UNROLL(2)
      for (int i = 0; i < 2; ++i) {
        const int stream = quarter * 2 + i;
        if (stream < kTile) to[stream] = part_of_sum(sum[i], low[i]);
      }
    }
  }
}

}  // namespace srnn
