// The only file with SIMD: a float vector, its fused multiply-add, and the panel product.
//
// Compiled once for each instruction set, inside namespace SRNN_ISA. A matrix is stored in panels
// of 32 outputs, column after column, so that one step broadcasts an input and streams 32 weights.
// Every output has one accumulator that takes its inputs in ascending order, whatever the batch:
// a stream's numbers do not depend on how many others are made beside it.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

namespace srnn {
namespace SRNN_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
typedef float Vector __attribute__((vector_size(64)));
inline Vector fma(Vector a, Vector b, Vector c) { return (Vector)_mm512_fmadd_ps(a, b, c); }
#elif defined(__FMA__)
constexpr int kLanes = 8;
typedef float Vector __attribute__((vector_size(32)));
inline Vector fma(Vector a, Vector b, Vector c) { return (Vector)_mm256_fmadd_ps(a, b, c); }
#else
constexpr int kLanes = 4;
typedef float Vector __attribute__((vector_size(16)));
inline Vector fma(Vector a, Vector b, Vector c) { return a * b + c; }
#endif

constexpr int kPanel = 32;
constexpr int kVectors = kPanel / kLanes;

inline Vector load(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void store(float* p, Vector v) { std::memcpy(p, &v, sizeof(v)); }
inline Vector broadcast(float x) { return x - Vector{}; }

// A matrix (rows, cols) in panels. Rows are padded with zeros to a whole panel.
struct Matrix {
  int rows = 0, cols = 0;
  std::vector<float> data;

  Matrix() = default;
  Matrix(const float* source, int rows_, int cols_) : rows(rows_), cols(cols_) {
    const int panels = (rows + kPanel - 1) / kPanel;
    data.assign(size_t{1} * panels * cols * kPanel, 0.0f);
    for (int row = 0; row < rows; ++row) {
      float* panel = data.data() + size_t{1} * (row / kPanel) * cols * kPanel + row % kPanel;
      for (int col = 0; col < cols; ++col) {
        panel[size_t{1} * col * kPanel] = source[size_t{1} * row * cols + col];
      }
    }
  }
  const float* panel(int index) const { return data.data() + size_t{1} * index * cols * kPanel; }
};

// y[0:32] += W x for R streams and one panel. x, y: rows of their streams.
template <int R>
inline void panel_product(const float* weights, int cols, const float* const* x, float* const* y) {
  Vector sum[R][kVectors];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = load(y[r] + v * kLanes);
  }
  for (int col = 0; col < cols; ++col) {
    for (int r = 0; r < R; ++r) {
      const Vector input = broadcast(x[r][col]);
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = fma(load(weights + v * kLanes), input, sum[r][v]);
      }
    }
    weights += kPanel;
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < kVectors; ++v) store(y[r] + v * kLanes, sum[r][v]);
  }
}

// The same for one stream and two neighbouring panels: enough chains to hide the latency of the
// FMA.
inline void two_panels(const float* first, const float* second, int cols, const float* x,
                       float* y) {
  Vector a[kVectors], b[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    a[v] = load(y + v * kLanes);
    b[v] = load(y + kPanel + v * kLanes);
  }
  for (int col = 0; col < cols; ++col) {
    const Vector input = broadcast(x[col]);
    for (int v = 0; v < kVectors; ++v) {
      a[v] = fma(load(first + v * kLanes), input, a[v]);
      b[v] = fma(load(second + v * kLanes), input, b[v]);
    }
    first += kPanel;
    second += kPanel;
  }
  for (int v = 0; v < kVectors; ++v) {
    store(y + v * kLanes, a[v]);
    store(y + kPanel + v * kLanes, b[v]);
  }
}

// y += W x for `streams` rows; x has rows of x_stride floats, y of y_stride.
inline void product(const Matrix& w, int streams, const float* x, long x_stride, float* y,
                    long y_stride) {
  const int whole = w.rows / kPanel;
  constexpr int kRows = 3;
  int panel = 0;
  if (streams == 1) {
    for (; panel + 2 <= whole; panel += 2) {
      two_panels(w.panel(panel), w.panel(panel + 1), w.cols, x, y + panel * kPanel);
    }
  }
  for (; panel < whole; ++panel) {
    int row = 0;
    for (; row + kRows <= streams; row += kRows) {
      const float* inputs[kRows];
      float* outputs[kRows];
      for (int r = 0; r < kRows; ++r) {
        inputs[r] = x + (row + r) * x_stride;
        outputs[r] = y + (row + r) * y_stride + panel * kPanel;
      }
      panel_product<kRows>(w.panel(panel), w.cols, inputs, outputs);
    }
    for (; row < streams; ++row) {
      const float* input = x + row * x_stride;
      float* output = y + row * y_stride + panel * kPanel;
      panel_product<1>(w.panel(panel), w.cols, &input, &output);
    }
  }
  const int rest = w.rows - whole * kPanel;
  for (int row = 0; rest > 0 && row < streams; ++row) {
    float buffer[kPanel] = {};
    const float* input = x + row * x_stride;
    float* output = y + row * y_stride + whole * kPanel;
    std::memcpy(buffer, output, sizeof(float) * rest);
    float* target = buffer;
    panel_product<1>(w.panel(whole), w.cols, &input, &target);
    std::memcpy(output, buffer, sizeof(float) * rest);
  }
}

}  // namespace SRNN_ISA
}  // namespace srnn
