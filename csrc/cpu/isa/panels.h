// Matrices in panels of kPanel outputs, and the loop over panels that all numeric modes but the
// tiles share.
//
// A matrix has `gates` gates of `rows` outputs. Each gate is padded to whole panels, so that one
// thread can own the same units of every gate. Each output has accumulators of its own, which take
// the inputs in ascending order for any batch, panel or thread. So the numbers of a stream do not
// depend on the streams beside it.
#pragma once

#include "cpu/kernels.h"
#include "simd.h"

namespace srnn {
namespace SRNN_ISA {

inline long round_up(long value, long unit) { return (value + unit - 1) / unit * unit; }
inline int panels_of(int rows) { return static_cast<int>((rows + kPanel - 1L) / kPanel); }

// Calls tile.run<vectors, panels, rows>(panel, first vector, row) for every panel of `slice` in
// every gate and for `rows` rows. One row takes whole panels, or two at once if one panel has too
// few sums to hide the latency of an addition. Several rows take parts of a panel, which stay in
// the nearest cache while all rows use them. The sums of one call must fit the registers.
template <class Tile>
inline void for_each_panel(int gates, int panels, PanelSlice slice, int rows, const Tile& tile) {
  constexpr int kRows = Tile::kRows, kPart = Tile::kPart;
  for (int gate = 0; gate < gates; ++gate) {
    int panel = gate * panels + slice.first;
    const int last = gate * panels + slice.last;
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
