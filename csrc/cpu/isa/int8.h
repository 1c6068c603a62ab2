// Products of 8-bit weights and 14-bit inputs (W8A14), summed exactly in 32-bit integers.
//
// A weight is the scale of its row times a code from -127 to 127. An input is the scale of its row
// times a code from -8191 to 8191, or a smaller range if the sum of a long row could overflow. The
// order of an integer sum does not matter, so every instruction set, thread count and batch gives
// the same bits.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "panels.h"

namespace srnn {
namespace SRNN_ISA {

// Returns the largest code of inputs in rows of `cols`, such that 127 * limit * cols < 2^31.
inline int32_t code_limit(int cols) { return std::min<int32_t>(8191, 2147483647 / 127 / cols); }

// Returns the bits of the largest magnitude of a row. Floats without a sign are ordered as their
// bits are.
inline int32_t peak_bits(const float* x, int cols) {
  Ints peaks = {};
  int i = 0;
  for (; i + kLanes <= cols; i += kLanes) peaks = larger(peaks, load<Ints>(x + i) & 0x7fffffff);
  int32_t peak = 0;
  for (int lane = 0; lane < kLanes; ++lane) peak = std::max(peak, peaks[lane]);
  for (; i < cols; ++i) {
    int32_t bits;
    std::memcpy(&bits, x + i, sizeof(bits));
    peak = std::max(peak, bits & 0x7fffffff);
  }
  return peak;
}

SRNN_INLINE Ints code_of(Floats scaled) {
  const Floats half = scaled < 0.0f ? broadcast(-0.5f) : broadcast(0.5f);
  return __builtin_convertvector(scaled + half, Ints);
}

// Writes the codes of one row and returns its scale, which follows from its largest magnitude. A
// row that is not finite gets the scale NaN, so that the logits show it.
inline float quantize_row(const float* x, int cols, int32_t limit, int16_t* codes) {
  const int32_t bits = peak_bits(x, cols);
  float peak;
  std::memcpy(&peak, &bits, sizeof(peak));
  if (bits >= 0x7f800000 || peak < 1e-30f) {
    std::fill(codes, codes + cols, int16_t{0});
    return bits >= 0x7f800000 ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
  }
  const float top = static_cast<float>(limit), per_unit = top / peak;
  int i = 0;
  for (; i + 2 * kLanes <= cols; i += 2 * kLanes) {
    const Ints first = code_of(load<Floats>(x + i) * per_unit);
    const Ints second = code_of(load<Floats>(x + i + kLanes) * per_unit);
    store_narrow(codes + i, first, second);
  }
  for (; i < cols; ++i) {
    const float scaled = x[i] * per_unit;
    codes[i] = static_cast<int16_t>(static_cast<int32_t>(scaled + (scaled < 0 ? -0.5f : 0.5f)));
  }
  return peak / top;
}

// Dot products of bytes (VNNI, tiles) read a code + 8192 as two planes of 7 bits. The other
// instruction sets read a code as one 16-bit number. kGroup neighbouring inputs lie together for
// each output; inputs are padded to a multiple of kColumns, and rows to a multiple of kRowUnit.
#if defined(SRNN_PLANES)
constexpr int kGroup = 4, kColumns = 64, kRowUnit = 16;
#else
constexpr int kGroup = 4, kColumns = 4, kRowUnit = 1;
#endif

struct CodeRows : srnn::Rows {
  int cols = 0;
  int32_t limit = 0;
  long stride = 0;
#if defined(SRNN_PLANES)
  Buffer<uint8_t> high, low;
#else
  Buffer<int16_t> codes;
  Buffer<int32_t> bias;  // the sum that the bias of the even weights adds
#endif
  Buffer<int16_t> scratch;
  Buffer<float> scales;

  CodeRows() = default;
  CodeRows(int rows, int cols_)
      : cols(cols_),
        limit(code_limit(cols_)),
        stride(round_up(cols_, kCacheLine)),
#if defined(SRNN_PLANES)
        high(round_up(rows, kRowUnit) * stride),
        low(round_up(rows, kRowUnit) * stride),
#else
        codes(rows * stride),
        bias(rows),
#endif
        scratch(stride),
        scales(rows) {
  }

  void set(int row, const float* x) {
#if defined(SRNN_PLANES)
    scales[row] = quantize_row(x, cols, limit, scratch.data());
    split(scratch.data(), cols, high.data() + row * stride, low.data() + row * stride);
#else
    int16_t* to = codes.data() + row * stride;
    scales[row] = quantize_row(x, cols, limit, to);
    // This may wrap round; the exact sum that it is subtracted from in the end does not.
    bias[row] = static_cast<int32_t>(static_cast<uint32_t>(sum_of_even(to)) * 128u);
#endif
  }

#if defined(SRNN_PLANES)
  // Writes the two planes of codes. They overlap nothing, which lets a compiler use vectors.
  static void split(const int16_t* codes, int count, uint8_t* __restrict high_plane,
                    uint8_t* __restrict low_plane) {
    for (int i = 0; i < count; ++i) {
      const uint16_t code = static_cast<uint16_t>(codes[i] + 8192);
      high_plane[i] = static_cast<uint8_t>(code >> 7);
      low_plane[i] = static_cast<uint8_t>(code & 127);
    }
  }
#else
  // Returns the sum of the codes of inputs 0 and 1 of every group of four. The padding is 0.
  int32_t sum_of_even(const int16_t* code) const {
    alignas(kCacheLine) static constexpr int16_t kEven[32] = {
        1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0,
        1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0,
    };
    const Shorts even = load<Shorts>(kEven);
    Ints sums = {};
    for (long i = 0; i < stride; i += 2 * kLanes) {
      sums += multiply_pairs(load<Shorts>(code + i), even);
    }
    int32_t sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += sums[lane];
    return sum;
  }
#endif

  void copy(int row, const CodeRows& from, int from_row) {
#if defined(SRNN_PLANES)
    std::memcpy(high.data() + row * stride, from.high.data() + from_row * from.stride, cols);
    std::memcpy(low.data() + row * stride, from.low.data() + from_row * from.stride, cols);
#else
    std::memcpy(codes.data() + row * stride, from.codes.data() + from_row * from.stride,
                sizeof(int16_t) * cols);
    bias[row] = from.bias[from_row];
#endif
    scales[row] = from.scales[from_row];
  }
};

// How the weights of one output become codes.
struct RowCodes {
  float scale, per_unit;

  // A row that is not finite gets codes of 0 and the scale NaN, so that the logits show it.
  RowCodes(const Source& from, int gate, int row) {
    float peak = 0;
    bool finite = true;
    for (int col = 0; col < from.cols; ++col) {
      const float size = std::fabs(from.at(gate, row, col));
      peak = std::max(peak, size);
      finite = finite && std::isfinite(size);
    }
    scale = finite ? peak / 127 : std::numeric_limits<float>::quiet_NaN();
    per_unit = finite && peak > 1e-30f ? 127 / peak : 0;
  }
  int of(float weight) const {
    const float scaled = per_unit != 0 ? weight * per_unit : 0;
    return static_cast<int>(scaled + (scaled < 0 ? -0.5f : 0.5f));
  }
};

// Adds a code's part to the offset of its output, which may wrap round.
inline void add_offset(int32_t* sum, int code) {
  *sum = static_cast<int32_t>(static_cast<uint32_t>(*sum) + 8192u * static_cast<uint32_t>(code));
}

struct CodeMatrix : srnn::Matrix {
  int gates = 0, panels = 0, cols = 0;  // cols includes the padding of zeros
  const int8_t* data = nullptr;
  const float* scales = nullptr;    // one for each output
  const int32_t* offset = nullptr;  // for each output, 8192 times the sum of its codes

  CodeMatrix() = default;
  CodeMatrix(const Source& from, Arena& arena)
      : gates(from.gates),
        panels(panels_of(from.rows)),
        cols(static_cast<int>(round_up(from.cols, kColumns))) {
    const size_t outputs = size_t{1} * gates * panels * kPanel;
    int8_t* to = arena.take<int8_t>(outputs * cols);
    float* scale = arena.take<float>(outputs);
    int32_t* sums = arena.take<int32_t>(outputs);
    data = to, scales = scale, offset = sums;
    for (int gate = 0; gate < gates; ++gate) {
      for (int row = 0; row < panels * kPanel; ++row) {
        const size_t output = size_t{1} * gate * panels * kPanel + row;
        int8_t* panel_data = to + output / kPanel * kPanel * cols;
        pack_output(from, gate, row, panel_data + output % kPanel * kGroup, scale + output,
                    sums + output);
      }
    }
  }
  const int8_t* panel(int index) const { return data + size_t{1} * index * kPanel * cols; }

 private:
  void pack_output(const Source& from, int gate, int row, int8_t* to, float* scale,
                   int32_t* sum) const {
    const RowCodes codes(from, gate, row);
    *scale = codes.scale;
    for (int col = 0; col < cols; ++col) {
      const int code = codes.of(from.at(gate, row, col));
      add_offset(sum, code);
#if defined(SRNN_PLANES)
      to[long{col} / kGroup * kGroup * kPanel + col % kGroup] = static_cast<int8_t>(code);
#else
      // Inputs 0 and 1 of a group lie in the even bytes, 2 and 3 in the odd ones. A product gets
      // the even bytes by masking a 16-bit word, so they have a bias of 128 that makes them
      // positive, and the odd bytes by a shift.
      static constexpr int kPlace[4] = {0, 2, 1, 3};
      const int stored = (col & 2) ? code : code + 128;
      to[long{col} / kGroup * kGroup * kPanel + kPlace[col % kGroup]] =
          static_cast<int8_t>(static_cast<uint8_t>(stored));
#endif
    }
  }
};

// Returns the sum of products with codes, given the sums of products with their two planes.
SRNN_INLINE Ints join_planes(Ints high, Ints low, Ints offset) {
  return subtract(add((Ints)((Words)high << 7), low), offset);
}

// Adds scale_w * scale_x * sum to y for one vector of outputs.
SRNN_INLINE void add_scaled(float* y, Ints sum, const float* w_scale, float x_scale) {
  const Floats factor = load<Floats>(w_scale) * broadcast(x_scale);
  store(y, load<Floats>(y) + __builtin_convertvector(sum, Floats) * factor);
}

// How many bytes ahead weights are requested; measured to be the fastest.
constexpr long kPrefetch = 1024;

struct CodeTile {
  static constexpr int kRows = kLanes == 16 ? 3 : 4, kPart = kLanes == 16 ? kVectors : 2;
  static constexpr bool kPairs = false;

  const CodeMatrix& w;
  const CodeRows& x;
  float* y;
  long y_stride;

  template <int V, int P, int R>
  void run(int panel, int first_vector, int row) const {
    Ints sum[R][V];
    sum_codes<V, R>(panel, first_vector, row, sum);
    const long output = long{panel} * kPanel + first_vector * kLanes;
    unrolled<R>([&](auto r) SRNN_INLINED {
      float* to = y + (row + r) * y_stride + output;
      unrolled<V>([&](auto v) SRNN_INLINED {
        add_scaled(to + v * kLanes, sum[r][v], w.scales + output + v * kLanes, x.scales[row + r]);
      });
    });
  }

 private:
  // A single row reads its weights from a distant cache or memory; with several rows they are near.
  template <int V, int R>
  SRNN_INLINE static void fetch_ahead(const int8_t* weights) {
    for (int line = 0; R == 1 && line < V * kLanes * kGroup; line += kCacheLine) {
      prefetch(weights + kPrefetch + line);
    }
  }

#if defined(SRNN_PLANES)

  template <int V, int R>
  SRNN_INLINE void sum_codes(int panel, int first_vector, int row, Ints (&sum)[R][V]) const {
    Ints high[R][V], low[R][V];
    unrolled<R>([&](auto r) SRNN_INLINED {
      unrolled<V>([&](auto v) SRNN_INLINED { high[r][v] = low[r][v] = Ints{}; });
    });
    const int8_t* weights = w.panel(panel) + first_vector * kLanes * kGroup;
    const uint8_t *high_in = x.high.data() + row * x.stride,
                  *low_in = x.low.data() + row * x.stride;
    for (int col = 0; col < x.cols; col += kGroup) {
      unrolled<V>([&](auto v) SRNN_INLINED {
        const Ints group = load<Ints>(weights + v * kLanes * kGroup);
        unrolled<R>([&](auto r) SRNN_INLINED {
          high[r][v] = add_quads(high[r][v], broadcast_word(high_in + r * x.stride + col), group);
          low[r][v] = add_quads(low[r][v], broadcast_word(low_in + r * x.stride + col), group);
        });
      });
      fetch_ahead<V, R>(weights);
      weights += kPanel * kGroup;
    }
    const int32_t* offset = w.offset + long{panel} * kPanel + first_vector * kLanes;
    unrolled<R>([&](auto r) SRNN_INLINED {
      unrolled<V>([&](auto v) SRNN_INLINED {
        sum[r][v] = join_planes(high[r][v], low[r][v], load<Ints>(offset + v * kLanes));
      });
    });
  }

#else

  template <int V, int R>
  SRNN_INLINE void sum_codes(int panel, int first_vector, int row, Ints (&sum)[R][V]) const {
    unrolled<R>([&](auto r) SRNN_INLINED {
      unrolled<V>([&](auto v) SRNN_INLINED { sum[r][v] = Ints{}; });
    });
    const int8_t* weights = w.panel(panel) + first_vector * kLanes * kGroup;
    const int16_t* inputs = x.codes.data() + row * x.stride;
    for (int col = 0; col < w.cols; col += kGroup) {
      Shorts even[V], odd[V];
      unrolled<V>([&](auto v) SRNN_INLINED {
        Shorts group = load<Shorts>(weights + v * kLanes * kGroup);
        keep_loaded(group);
        even[v] = group & 255;
        odd[v] = group >> 8;
      });
      unrolled<R>([&](auto r) SRNN_INLINED {
        const Shorts first = (Shorts)broadcast_word(inputs + r * x.stride + col);
        const Shorts second = (Shorts)broadcast_word(inputs + r * x.stride + col + 2);
        unrolled<V>([&](auto v) SRNN_INLINED {
          const Ints pair = add(multiply_pairs(even[v], first), multiply_pairs(odd[v], second));
          sum[r][v] = add(sum[r][v], pair);
          keep_loaded(sum[r][v]);
        });
      });
      fetch_ahead<V, R>(weights);
      weights += kPanel * kGroup;
    }
    unrolled<R>([&](auto r) SRNN_INLINED {
      const Ints bias = x.bias[row + r] - Ints{};
      unrolled<V>([&](auto v) SRNN_INLINED { sum[r][v] = subtract(sum[r][v], bias); });
    });
  }

#endif
};

struct Int8Mode {
  typedef CodeMatrix Matrix;
  typedef CodeRows Rows;

  static void product(const Matrix& w, const Rows& x, int rows, PanelSlice slice, float* y,
                      long y_stride) {
    for_each_panel(w.gates, w.panels, slice, rows, CodeTile{w, x, y, y_stride});
  }
};

}  // namespace SRNN_ISA
}  // namespace srnn
