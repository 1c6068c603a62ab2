// Matrices in panels of kPanel outputs, and the walk over them that every numeric mode shares.
//
// A matrix has `blocks` blocks (the gates) of `rows` outputs; each block is padded to whole panels,
// so that one thread can own the same units of every gate. Each output has accumulators of its own
// that take the inputs in ascending order, whatever the batch, the panel or the thread: a stream's
// numbers do not depend on what is computed beside it.
#pragma once

#include "memory.h"
#include "simd.h"
#include "team.h"

namespace srnn {
namespace SRNN_ISA {

inline long round_up(long value, long unit) { return (value + unit - 1) / unit * unit; }
inline int panels_of(int rows) { return static_cast<int>((rows + kPanel - 1L) / kPanel); }

// Where the matrix comes from: element (block, row, col) of a plain float array.
struct Source {
  const float* data;
  int blocks, rows, cols;

  float at(int block, int row, int col) const {
    return row < rows && col < cols ? data[(long{block} * rows + row) * cols + col] : 0.0f;
  }
};

// Calls tile<panels, rows>(panel, row) so that every panel of `share` in every block meets rows
// [first_row, first_row + rows).
template <class Tile>
inline void walk_panels(int blocks, int panels, Share share, int rows, const Tile& tile) {
  constexpr int kRows = Tile::kRows;
  for (int block = 0; block < blocks; ++block) {
    int panel = block * panels + share.first;
    const int last = block * panels + share.last;
    if constexpr (Tile::kPairs) {
      for (; rows == 1 && panel + 2 <= last; panel += 2) tile.template run<2, 1>(panel, 0);
    }
    for (; panel < last; ++panel) {
      int row = 0;
      for (; row + kRows <= rows; row += kRows) tile.template run<1, kRows>(panel, row);
      for (; row + 2 <= rows; row += 2) tile.template run<1, 2>(panel, row);
      if (row < rows) tile.template run<1, 1>(panel, row);
    }
  }
}

}  // namespace SRNN_ISA
}  // namespace srnn
