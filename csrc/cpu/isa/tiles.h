// Products on tile registers (AMX), which take 16 rows of inputs at once, bytes or bfloat16.
//
// Tests run the same text on processors without tiles: the tiles then lie in memory, which is slow.
#pragma once

#include <vector>

#include "float32.h"
#include "int8.h"

namespace srnn {
namespace SRNN_ISA {

// The size of a tile: its rows, and the bytes of a row.
constexpr int kTileRows = 16;
constexpr int kTileBytes = 64;
static_assert(kPanel == 64 && kRowUnit == kTileRows, "panels and rows are cut into whole tiles");

// Makes the compiler finish its stores first. The tile intrinsics of some compilers do not say
// which memory they read.
inline void settle_memory() { asm volatile("" ::: "memory"); }

#if defined(__AMX_TILE__)

// These are macros because the intrinsics take register numbers as text.
#define SRNN_TILE_ZERO(tile) _tile_zero(tile)
#define SRNN_TILE_LOAD(tile, from, stride) _tile_loadd(tile, from, stride)
#define SRNN_TILE_STORE(tile, to, stride) _tile_stored(tile, to, stride)
#define SRNN_TILE_DOT_BYTES(sum, a, b) _tile_dpbssd(sum, a, b)
#define SRNN_TILE_DOT_BFLOAT16(sum, a, b) _tile_dpbf16ps(sum, a, b)

inline void set_up_tiles() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int tile = 0; tile < 8; ++tile) config.bytes[tile] = kTileBytes, config.rows[tile] = 16;
  settle_memory();
  _tile_loadconfig(&config);
}
inline void release_tiles() { _tile_release(); }

#else

struct EmulatedTile {
  unsigned char row[kTileRows][kTileBytes];

  void zero() { std::memset(row, 0, sizeof(row)); }
  void load(const void* from, long stride) {
    for (int i = 0; i < kTileRows; ++i) {
      std::memcpy(row[i], static_cast<const char*>(from) + i * stride, kTileBytes);
    }
  }
  void store(void* to, long stride) const {
    for (int i = 0; i < kTileRows; ++i) {
      std::memcpy(static_cast<char*>(to) + i * stride, row[i], kTileBytes);
    }
  }
  // Returns element k of row i. In the left factor a row holds inputs one by one; in the right
  // factor a row holds one group of inputs, as many as fill a lane, for each column.
  template <class T>
  T at(int i, int k) const {
    T value;
    std::memcpy(&value, row[i] + k * sizeof(T), sizeof(T));
    return value;
  }
  template <class T, class Sum, class Convert>
  void add_dot(const EmulatedTile& a, const EmulatedTile& b, Convert convert) {
    constexpr int kInLane = 4 / sizeof(T);
    for (int m = 0; m < kTileRows; ++m) {
      for (int n = 0; n < kTileRows; ++n) {
        Sum sum = at<Sum>(m, n);
        for (int k = 0; k < kTileRows * kInLane; ++k) {
          sum += convert(a.at<T>(m, k)) * convert(b.at<T>(k / kInLane, n * kInLane + k % kInLane));
        }
        std::memcpy(row[m] + n * 4, &sum, 4);
      }
    }
  }
};

inline EmulatedTile& emulated_tile(int index) {
  static thread_local EmulatedTile tiles[8];
  return tiles[index];
}

#define SRNN_TILE_ZERO(tile) emulated_tile(tile).zero()
#define SRNN_TILE_LOAD(tile, from, stride) emulated_tile(tile).load(from, stride)
#define SRNN_TILE_STORE(tile, to, stride) emulated_tile(tile).store(to, stride)
#define SRNN_TILE_DOT_BYTES(sum, a, b)                                            \
  emulated_tile(sum).add_dot<int8_t, int32_t>(emulated_tile(a), emulated_tile(b), \
                                              [](int8_t x) { return int32_t{x}; })
#define SRNN_TILE_DOT_BFLOAT16(sum, a, b)                                         \
  emulated_tile(sum).add_dot<uint16_t, float>(emulated_tile(a), emulated_tile(b), \
                                              [](uint16_t x) { return from_bfloat16(x); })

inline void set_up_tiles() {}
inline void release_tiles() {}

#endif

// Adds to y the scaled sums of half a panel for up to 16 rows; `high` and `low` hold the sums of
// the two planes.
inline void add_tile_sums(const CodeMatrix& w, int panel, int half, const CodeRows& x, int row,
                          int rows, const int32_t (*high)[32], const int32_t (*low)[32], float* y,
                          long y_stride) {
  const long output = long{panel} * kPanel + half * 32;
  for (int r = 0; r < rows; ++r) {
    float* to = y + (row + r) * y_stride + output;
    for (int at = 0; at < 32; at += kLanes) {
      const Ints sum = join_planes(load<Ints>(high[r] + at), load<Ints>(low[r] + at),
                                   load<Ints>(w.offset + output + at));
      add_scaled(to + at, sum, w.scales + output + at, x.scales[row + r]);
    }
  }
}

// Calls tile(panel, row, count) for every panel of `slice` in every gate and for every 16 rows, of
// which the last call gets `count` only.
template <class Tile>
inline void for_each_tile(int gates, int panels, PanelSlice slice, int rows, const Tile& tile) {
  for (int gate = 0; gate < gates; ++gate) {
    for (int panel = slice.first; panel < slice.last; ++panel) {
      for (int row = 0; row < rows; row += kTileRows) {
        tile(gate * panels + panel, row, std::min(kTileRows, rows - row));
      }
    }
  }
}

// Sums the products of 16 rows and 32 outputs, both planes of the inputs at once.
inline void sum_half_panel(const int8_t* weights, int cols, const uint8_t* high_in,
                           const uint8_t* low_in, long stride, int32_t (*high)[32],
                           int32_t (*low)[32]) {
  constexpr long kLine = kPanel * kGroup;  // bytes of a panel for one group of inputs
  settle_memory();
  SRNN_TILE_ZERO(0);
  SRNN_TILE_ZERO(1);
  SRNN_TILE_ZERO(2);
  SRNN_TILE_ZERO(3);
  for (int col = 0; col < cols; col += kTileBytes) {
    SRNN_TILE_LOAD(4, high_in + col, stride);
    SRNN_TILE_LOAD(6, weights, kLine);
    SRNN_TILE_DOT_BYTES(0, 4, 6);
    SRNN_TILE_LOAD(7, weights + kTileBytes, kLine);
    SRNN_TILE_DOT_BYTES(1, 4, 7);
    SRNN_TILE_LOAD(5, low_in + col, stride);
    SRNN_TILE_DOT_BYTES(2, 5, 6);
    SRNN_TILE_DOT_BYTES(3, 5, 7);
    weights += kTileRows * kLine;
  }
  SRNN_TILE_STORE(0, high[0], sizeof(high[0]));
  SRNN_TILE_STORE(1, high[0] + 16, sizeof(high[0]));
  SRNN_TILE_STORE(2, low[0], sizeof(low[0]));
  SRNN_TILE_STORE(3, low[0] + 16, sizeof(low[0]));
}

inline void tile_product(const CodeMatrix& w, const CodeRows& x, int rows, PanelSlice slice,
                         float* y, long y_stride) {
  alignas(64) int32_t high[kTileRows][32], low[kTileRows][32];
  for_each_tile(w.gates, w.panels, slice, rows, [&](int panel, int row, int count) {
    for (int half = 0; half < 2; ++half) {
      sum_half_panel(w.panel(panel) + half * 2 * kTileBytes, w.cols, x.high.data() + row * x.stride,
                     x.low.data() + row * x.stride, x.stride, high, low);
      add_tile_sums(w, panel, half, x, row, count, high, low, y, y_stride);
    }
  });
}

// Inputs in bfloat16, 16 rows to a tile.
struct TileRows : srnn::Rows {
  int cols = 0;
  long stride = 0;
  Buffer<uint16_t> values;

  TileRows() = default;
  TileRows(int rows, int cols_)
      : cols(cols_),
        stride(round_up(cols_, kTileBytes / 2)),
        values(round_up(rows, kTileRows) * stride) {}

  void set(int row, const float* x) {
    uint16_t* to = values.data() + row * stride;
    for (int i = 0; i < cols; ++i) to[i] = to_bfloat16(x[i]);
  }
  void copy(int row, const TileRows& from, int from_row) {
    std::memcpy(values.data() + row * stride, from.values.data() + from_row * from.stride,
                sizeof(uint16_t) * cols);
  }
};

struct TileFormat : Bfloat16 {
  static constexpr int kColumns = kTileBytes / 2;
};

// This mode uses tiles for any number of rows, because another order of the sums gives other bits.
struct TileBfloat16Mode {
  typedef FloatMatrix<TileFormat> Matrix;
  typedef TileRows Rows;

  static void product(const Matrix& w, const Rows& x, int rows, PanelSlice slice, float* y,
                      long y_stride) {
    alignas(64) float sums[kTileRows][kPanel];
    for_each_tile(w.gates, w.panels, slice, rows, [&](int panel, int row, int count) {
      sum_panel(w.panel(panel), w.cols, x.values.data() + row * x.stride, x.stride, sums);
      for (int r = 0; r < count; ++r) {
        float* to = y + (row + r) * y_stride + long{panel} * kPanel;
        for (int at = 0; at < kPanel; at += kLanes) {
          store(to + at, load<Floats>(to + at) + load<Floats>(sums[r] + at));
        }
      }
    });
  }

 private:
  static void sum_panel(const uint16_t* weights, int cols, const uint16_t* x, long stride,
                        float (*sums)[kPanel]) {
    constexpr long kLine = kPanel * TileFormat::kGroup;  // weights for one pair of inputs
    settle_memory();
    SRNN_TILE_ZERO(0);
    SRNN_TILE_ZERO(1);
    SRNN_TILE_ZERO(2);
    SRNN_TILE_ZERO(3);
    for (int col = 0; col < cols; col += TileFormat::kColumns) {
      SRNN_TILE_LOAD(4, x + col, stride * 2);
      SRNN_TILE_LOAD(5, weights, kLine * 2);
      SRNN_TILE_DOT_BFLOAT16(0, 4, 5);
      SRNN_TILE_LOAD(6, weights + 32, kLine * 2);
      SRNN_TILE_DOT_BFLOAT16(1, 4, 6);
      SRNN_TILE_LOAD(7, weights + 64, kLine * 2);
      SRNN_TILE_DOT_BFLOAT16(2, 4, 7);
      SRNN_TILE_LOAD(5, weights + 96, kLine * 2);
      SRNN_TILE_DOT_BFLOAT16(3, 4, 5);
      weights += kTileRows * kLine;
    }
    SRNN_TILE_STORE(0, sums[0], sizeof(sums[0]));
    SRNN_TILE_STORE(1, sums[0] + 16, sizeof(sums[0]));
    SRNN_TILE_STORE(2, sums[0] + 32, sizeof(sums[0]));
    SRNN_TILE_STORE(3, sums[0] + 48, sizeof(sums[0]));
  }
};

// This mode uses tiles for three rows and more, and dot products of bytes for fewer. The bits are
// the same, because the sums are exact.
struct TileInt8Mode {
  typedef CodeMatrix Matrix;
  typedef CodeRows Rows;

  static void product(const Matrix& w, const Rows& x, int rows, PanelSlice slice, float* y,
                      long y_stride) {
    if (rows > 2) {
      tile_product(w, x, rows, slice, y, y_stride);
    } else {
      Int8Mode::product(w, x, rows, slice, y, y_stride);
    }
  }
};

// Returns whether the tiles of this machine compute a small product correctly in both modes.
inline bool tiles_work() {
  constexpr int kInputs = 5, kCols = 2 * kTileBytes;
  std::vector<float> weights(kPanel * kCols), inputs(kInputs * kCols);
  uint32_t state = 1;
  for (std::vector<float>* values : {&weights, &inputs}) {
    for (float& value : *values) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
    }
  }
  Arena arena;
  const Source source{weights.data(), 1, kPanel, kCols};
  const TileInt8Mode::Matrix codes(source, arena);
  const TileBfloat16Mode::Matrix halves(source, arena);
  TileInt8Mode::Rows code_rows(kInputs, kCols);
  TileBfloat16Mode::Rows half_rows(kInputs, kCols);
  for (int row = 0; row < kInputs; ++row) {
    code_rows.set(row, inputs.data() + row * kCols);
    half_rows.set(row, inputs.data() + row * kCols);
  }
  std::vector<float> tiled(kInputs * kPanel), plain(kInputs * kPanel), sums(kInputs * kPanel);
  set_up_tiles();
  TileInt8Mode::product(codes, code_rows, kInputs, {0, 1}, tiled.data(), kPanel);
  Int8Mode::product(codes, code_rows, kInputs, {0, 1}, plain.data(), kPanel);
  TileBfloat16Mode::product(halves, half_rows, kInputs, {0, 1}, sums.data(), kPanel);
  release_tiles();
  for (int at = 0; at < kInputs * kPanel; ++at) {
    double sum = 0;
    for (int col = 0; col < kCols; ++col) {
      sum += double{from_bfloat16(to_bfloat16(inputs[at / kPanel * kCols + col]))} *
             from_bfloat16(to_bfloat16(weights[at % kPanel * kCols + col]));
    }
    if (std::fabs(sums[at] - sum) > 1e-3) return false;
  }
  return tiled == plain;
}

}  // namespace SRNN_ISA
}  // namespace srnn
