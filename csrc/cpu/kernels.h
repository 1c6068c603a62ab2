// What an instruction set does for the engine, in one numeric mode: products and whatever else
// passes over vectors. The rest of the engine knows of neither and is compiled once.
//
// Vectors are padded to whole panels of `panel()` outputs; counts and offsets are multiples of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "memory.h"
#include "model/draw.h"
#include "model/layout.h"

namespace srnn {

// Panels [first, last) of a matrix.
struct Share {
  int first, last;
};

// Where a matrix comes from: element (block, row, col) of a plain float array.
struct Source {
  const float* data;
  int blocks, rows, cols;

  float at(int block, int row, int col) const {
    return row < rows && col < cols ? data[(long{block} * rows + row) * cols + col] : 0.0f;
  }
};

// A packed matrix: `blocks` blocks (the gates) of outputs, each padded to whole panels, so that one
// thread can own the same units of every gate.
struct Matrix {
  virtual ~Matrix() = default;
};

// Inputs of a product as the numeric mode keeps them, one row for each stream or time step.
struct Rows {
  virtual ~Rows() = default;
};

// Units [first, last) of one stream in a step of a memory cell, after the products of its input.
// Gate order is torch's: r, z, n for the GRU and i, f, g, o for the LSTM, `width` floats each.
struct CellUnits {
  long first, last, width;
  float* gates;
  const float* h;
  float* new_h;
  float* cell;   // LSTM: updated in place
  float* inner;  // GRU: the recurrent product of n, or what it is made of
};

class Kernels {
 public:
  virtual ~Kernels() = default;
  virtual const char* isa() const = 0;
  virtual int panel() const = 0;

  virtual std::unique_ptr<Matrix> pack(const Source& from, Arena& arena) const = 0;
  virtual std::unique_ptr<Rows> rows(int count, int cols) const = 0;
  virtual void set(Rows& to, int row, const float* x) const = 0;
  virtual void copy(Rows& to, int row, const Rows& from, int from_row) const = 0;
  // y += W x for `rows` rows, this share of every block; y has y_stride floats a row and whole
  // panels a block.
  virtual void product(const Matrix& w, const Rows& x, int rows, Share share, float* y,
                       long y_stride) const = 0;

  virtual void add(float* y, const float* x, long count) const = 0;
  virtual void add_scaled(float* y, float scale, const float* x, long count) const = 0;
  virtual void relu(float* x, long count) const = 0;
  // New states. gru_after: the reset gate acts on the product `inner`; gru_reset and gru_before: it
  // acts on h, which becomes `inner`, whose product is then in the gates.
  virtual void gru_after(const CellUnits& u) const = 0;
  virtual void gru_reset(const CellUnits& u) const = 0;
  virtual void gru_before(const CellUnits& u) const = 0;
  virtual void lstm(const CellUnits& u) const = 0;
  // `sample_level` of a whole row.
  virtual int draw(const float* logits, int q_levels, uint32_t draw, float temperature,
                   const SamplerSettings& settings, uint32_t* weight) const = 0;

  // A thread calls these before and after it works: tiles are set up for each.
  virtual void enter() const {}
  virtual void leave() const {}

  // For measurements: reads `bytes` once; multiplies and adds in registers, `macs` times. What they
  // return must be used.
  virtual long read_step() const = 0;  // `bytes` is a multiple of it
  virtual int32_t read(const char* from, size_t bytes) const = 0;
  virtual int32_t multiply(long* macs) const = 0;
};

// Of an instruction set by name, or the best of this machine if it is empty. Throws
// std::invalid_argument when it is not to be had here or knows no such mode.
std::unique_ptr<const Kernels> make_kernels(const std::string& isa, const std::string& mode);

}  // namespace srnn
