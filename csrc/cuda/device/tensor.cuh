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

// In bfloat16 the inputs that a lane reads at once are two halves, words x and z and words y and w,
// which have sums of their own, so that fewer products of tiles wait for each other. They are the
// same sums for any number of streams. With one stream the halves are two columns of a tile, and
// their weights its upper and lower rows, as they lie in a lane's registers.
constexpr bool kHalvesBeside = kBfloat16 && kBatch == 1;

// The sums of 8 * kEights rows: of bfloat16 products, or of one plane of int8.
template <class Number, int kEights>
class TileSums {
 public:
  // Adds two products of tiles for each 16 rows.
  SRNN_DEVICE_MEMBER void add(const Quad (&w)[kTileEights], Quad x) {
    SRNN_UNROLL(kTileEights)
    for (int t = 0; t < divide_up(kEights, 2); ++t) {
      const Quad low = w[2 * t], high = w[2 * t + 1];
      if constexpr (kBfloat16) {
        multiply_tile(first_[t], low.x, high.x, low.z, high.z, x.x, x.z);
        multiply_tile(second_[t], low.y, high.y, low.w, high.w, x.y, x.w);
      } else {
        multiply_tile(first_[t], low.x, high.x, low.y, high.y, x.x, x.y);
        multiply_tile(first_[t], low.z, high.z, low.w, high.w, x.z, x.w);
      }
    }
  }
  // Returns the sum of the lane's row `eight`, for number i, 0 or 1, of its columns.
  SRNN_DEVICE_MEMBER Number of(int eight, int i) const {
    const int at = eight % 2 * 2 + i;
    return first_[eight / 2][at] + second_[eight / 2][at];
  }

 private:
  // In int8 the second sums stay 0, and the compiler drops them.
  Number first_[kTileEights / 2][4] = {}, second_[kTileEights / 2][4] = {};
};

// This class makes the same sums with kHalvesBeside.
template <class Number, int kEights>
class HalfSums {
 public:
  // Adds one product of a tile for each eight rows. Words x and z are those of the lane's column.
  SRNN_DEVICE_MEMBER void add(const Quad (&w)[kTileEights], Quad x) {
    SRNN_UNROLL(kTileEights)
    for (int i = 0; i < kEights; ++i) {
      multiply_tile(value_[i], w[i].x, w[i].y, w[i].z, w[i].w, x.x, x.z);
    }
  }
  // Adds what the row has in column 0 and what the tile's lower rows have in column 1.
  SRNN_DEVICE_MEMBER Number of(int eight, int) const { return value_[eight][0] + value_[eight][3]; }

 private:
  Number value_[kTileEights][4] = {};
};

// Returns the part of a sum that a warp leaves. In int8 it is made of the sums of both planes.
SRNN_DEVICE uint32_t part_of_sum(int32_t high, int32_t low) {
  return sum_of_planes(static_cast<uint32_t>(high), static_cast<uint32_t>(low));
}
SRNN_DEVICE uint32_t part_of_sum(float sum, float) { return bits_of(sum); }

// Reads what a lane's column needs of the 16 bytes of inputs at `from`. With kHalvesBeside these
// are two words, and all lanes of a warp together read eight words in one turn of the banks.
SRNN_DEVICE Quad read_inputs(const unsigned char* from, int column) {
  if constexpr (kHalvesBeside) {
    const uint32_t* words = reinterpret_cast<const uint32_t*>(from) + column % 2;
    return {words[0], 0, words[2], 0};
  } else {
    return read_quad(from);
  }
}

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
  using Number = Either<kInt8, int32_t, float>::Type;
  typename Either<kHalvesBeside, HalfSums<Number, kEights>, TileSums<Number, kEights>>::Type sums,
      low_sums;
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
      // Rows that are not there would take turns of the banks, too.
      const bool there =
          inside && i < kEights && (!kHalvesBeside || first_row + i * 8 + eighth < rows);
      weights[i] = there ? read_quad(row[smaller(i, kEights - 1)] + byte) : kNoQuad;
    }
    sums.add(weights, inside ? read_inputs(codes + byte, eighth) : kNoQuad);
    if constexpr (kInt8 && !kPlanesBeside) {
      low_sums.add(weights, inside ? read_quad(codes + kTile * kRowBytes + byte) : kNoQuad);
    }
  }
  SRNN_UNROLL(kEights)
  for (int eight = 0; eight < kEights; ++eight) {
    const int row = eight * 8 + eighth;
    if constexpr (kPlanesBeside) {
      if (quarter < kTile)
        b.part(b.warp, row, quarter) = part_of_sum(sums.of(eight, 0), sums.of(eight, 1));
    } else {
      SRNN_UNROLL(2)
      for (int i = 0; i < 2; ++i) {
        const int stream = quarter * 2 + i;
        if (stream < kTile)
          b.part(b.warp, row, stream) = part_of_sum(sums.of(eight, i), low_sums.of(eight, i));
      }
    }
  }
}

}  // namespace srnn
