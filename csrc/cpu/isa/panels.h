// Matrices in panels of kPanel outputs, and the walk over them that every numeric mode shares.
//
// A matrix has `blocks` blocks (the gates) of `rows` outputs; each block is padded to whole panels,
// so that one thread can own the same units of every gate. Each output has accumulators of its own
// that take the inputs in ascending order, whatever the batch, the panel or the thread: a stream's
// numbers do not depend on what is computed beside it.
#pragma once

#include "cpu/kernels.h"
#include "simd.h"

namespace srnn {
namespace SRNN_ISA {

inline long round_up(long value, long unit) { return (value + unit - 1) / unit * unit; }
inline int panels_of(int rows) { return static_cast<int>((rows + kPanel - 1L) / kPanel); }

// Calls tile.run<vectors, panels, rows>(panel, first vector, row) so that every panel of `share` in
// every block meets `rows` rows. One row takes whole panels, or two at once where one has too few
// sums to hide the latency of an addition. Several rows take parts of a panel, which stay in the
// nearest cache while all rows pass by; what is summed at once must fit the registers.
template <class Tile>
inline void walk_panels(int blocks, int panels, Share share, int rows, const Tile& tile) {
  constexpr int kRows = Tile::kRows, kPart = Tile::kPart;
  for (int block = 0; block < blocks; ++block) {
    int panel = block * panels + share.first;
    const int last = block * panels + share.last;
    if (rows == 1) {
      for (; Tile::kPairs && panel + 2 <= last; panel += 2) {
        tile.template run<kVectors, 2, 1>(panel, 0, 0);
      }
      for (; panel < last; ++panel) tile.template run<kVectors, 1, 1>(panel, 0, 0);
      continue;
    }
    for (; panel < last; ++panel) {
      for (int part = 0; part < kVectors; part += kPart) {
        int row = 0;
        for (; row + kRows <= rows; row += kRows) {
          tile.template run<kPart, 1, kRows>(panel, part, row);
        }
        for (; row + 2 <= rows; row += 2) tile.template run<kPart, 1, 2>(panel, part, row);
        if (row < rows) tile.template run<kPart, 1, 1>(panel, part, row);
      }
    }
  }
}

}  // namespace SRNN_ISA
}  // namespace srnn
