// Products in float32, and in bfloat16 on processors without tiles. bfloat16 has weights and inputs
// of 16 bits, and sums in float32.
#pragma once

#include <cmath>

#include "panels.h"

namespace srnn {
namespace SRNN_ISA {

inline uint16_t to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 64);  // NaN
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
inline float from_bfloat16(uint16_t x) {
  const uint32_t bits = uint32_t{x} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The inputs of a product, one row for each stream or time step.
template <bool kBfloat16>
struct FloatRows : srnn::Rows {
  int cols = 0;
  long stride = 0;
  Buffer<float> values;

  FloatRows() = default;
  FloatRows(int rows, int cols_)
      : cols(cols_), stride(round_up(cols_, 16)), values(size_t{1} * rows * stride) {}

  void set(int row, const float* x) {
    float* to = values.data() + row * stride;
    if (!kBfloat16) {
      std::memcpy(to, x, sizeof(float) * cols);
    } else {
      for (int i = 0; i < cols; ++i) to[i] = from_bfloat16(to_bfloat16(x[i]));
    }
  }
  void copy(int row, const FloatRows& from, int from_row) {
    std::memcpy(values.data() + row * stride, from.values.data() + from_row * from.stride,
                sizeof(float) * cols);
  }
};

struct Float32 {
  static constexpr bool kBfloat16 = false;
  typedef float Weight;
  static constexpr int kGroup = 1;    // neighbouring inputs that lie together for each output
  static constexpr int kColumns = 1;  // inputs are padded to a multiple of this
};

struct Bfloat16 {
  static constexpr bool kBfloat16 = true;
  typedef uint16_t Weight;
  static constexpr int kGroup = 2, kColumns = 2;
};

template <class Format>
struct FloatMatrix : srnn::Matrix {
  int gates = 0, panels = 0, cols = 0;  // cols includes the padding of zeros
  const typename Format::Weight* data = nullptr;

  FloatMatrix() = default;
  FloatMatrix(const Source& from, Arena& arena)
      : gates(from.gates),
        panels(panels_of(from.rows)),
        cols(static_cast<int>(round_up(from.cols, Format::kColumns))) {
    auto* to = arena.take<typename Format::Weight>(size_t{1} * gates * panels * kPanel * cols);
    data = to;
    for (int gate = 0; gate < gates; ++gate) {
      for (int panel = 0; panel < panels; ++panel) {
        for (int group = 0; group < cols; group += Format::kGroup) {
          for (int row = panel * kPanel; row < (panel + 1) * kPanel; ++row) {
            for (int col = group; col < group + Format::kGroup; ++col) {
              put(to++, from.at(gate, row, col));
            }
          }
        }
      }
    }
  }
  const typename Format::Weight* panel(int index) const {
    return data + size_t{1} * index * kPanel * cols;
  }

 private:
  static void put(float* to, float value) { *to = value; }
  static void put(uint16_t* to, float value) { *to = to_bfloat16(value); }
};

// Adds to sum[r][p][v] the weights of one group of inputs, which start at `at` in each panel, times
// the inputs x.
template <int V, int P, int R>
SRNN_INLINE void add_group(const float* const* w, long at, const float* const* x, int col,
                           Floats (&sum)[R][P][V]) {
  unrolled<R>([&](auto r) SRNN_INLINED {
    const Floats input = broadcast(x[r][col]);
    unrolled<P>([&](auto p) SRNN_INLINED {
      unrolled<V>([&](auto v) SRNN_INLINED {
        sum[r][p][v] = fma(load<Floats>(w[p] + at + v * kLanes), input, sum[r][p][v]);
      });
    });
  });
}
template <int V, int P, int R>
SRNN_INLINE void add_group(const uint16_t* const* w, long at, const float* const* x, int col,
                           Floats (&sum)[R][P][V]) {
  unrolled<P>([&](auto p) SRNN_INLINED {
    unrolled<V>([&](auto v) SRNN_INLINED {
      // The lower half of a lane belongs to the earlier input.
      const Ints pair = load<Ints>(w[p] + at + v * kLanes * 2);
      const Floats first = (Floats)(pair << 16), second = (Floats)(pair & -65536);
      unrolled<R>([&](auto r) SRNN_INLINED {
        sum[r][p][v] = fma(first, broadcast(x[r][col]), sum[r][p][v]);
        sum[r][p][v] = fma(second, broadcast(x[r][col + 1]), sum[r][p][v]);
      });
    });
  });
}

template <class Format>
struct FloatTile {
  static constexpr int kRows = Format::kBfloat16 ? 4 : 6, kPart = kLanes == 16 ? 4 : 2;
  static constexpr bool kPairs = true;

  const FloatMatrix<Format>& w;
  const float* x;
  long x_stride;
  float* y;
  long y_stride;

  template <int V, int P, int R>
  void run(int panel, int first_vector, int row) const {
    Floats sum[R][P][V];
    const float* inputs[R];
    float* outputs[R];
    const typename Format::Weight* weights[P];
    unrolled<P>([&](auto p) SRNN_INLINED {
      weights[p] = w.panel(panel + p) + first_vector * kLanes * Format::kGroup;
    });
    unrolled<R>([&](auto r) SRNN_INLINED {
      inputs[r] = x + (row + r) * x_stride;
      outputs[r] = y + (row + r) * y_stride + long{panel} * kPanel + first_vector * kLanes;
      unrolled<P>([&](auto p) SRNN_INLINED {
        unrolled<V>([&](auto v) SRNN_INLINED {
          sum[r][p][v] = load<Floats>(outputs[r] + p * kPanel + v * kLanes);
        });
      });
    });
    for (int col = 0; col < w.cols; col += Format::kGroup) {
      add_group<V, P, R>(weights, long{col} * kPanel, inputs, col, sum);
    }
    unrolled<R>([&](auto r) SRNN_INLINED {
      unrolled<P>([&](auto p) SRNN_INLINED {
        unrolled<V>([&](auto v) SRNN_INLINED {
          store(outputs[r] + p * kPanel + v * kLanes, sum[r][p][v]);
        });
      });
    });
  }
};

// A numeric mode: the form of weights and inputs, and their product.
template <class Format>
struct FloatMode {
  typedef FloatMatrix<Format> Matrix;
  typedef FloatRows<Format::kBfloat16> Rows;

  static void product(const Matrix& w, const Rows& x, int rows, PanelSlice slice, float* y,
                      long y_stride) {
    for_each_panel(w.gates, w.panels, slice, rows,
                   FloatTile<Format>{w, x.values.data(), x.stride, y, y_stride});
  }
};

}  // namespace SRNN_ISA
}  // namespace srnn
