// The operations that one instruction set offers the engine in one numeric mode: products, and
// whatever else passes over vectors. The rest of the engine calls them through this interface and
// is compiled once.
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

// The panels [first, last) of a matrix.
struct PanelSlice {
  int first, last;
};

// The inputs of a four-bit matrix that share a factor.
constexpr int kFourBitGroup = 32;

// A matrix of four bits as it is given, row after row: weight = scale x factor x code.
struct FourBits {
  const int8_t* codes;    // (rows, cols), -8 to 7
  const int8_t* factors;  // (rows, groups), -15 to 15
  const float* scales;    // (rows)

  int8_t factor(long row, int group, int cols) const {
    const int groups = (cols + kFourBitGroup - 1) / kFourBitGroup;
    return group < groups ? factors[row * groups + group] : int8_t{0};
  }
  // Returns the matrix from this row on.
  FourBits from_row(long row, int cols) const {
    const int groups = (cols + kFourBitGroup - 1) / kFourBitGroup;
    return {codes + row * cols, factors + row * groups, scales + row};
  }
};

// The plain float array (gates, rows, cols) that a matrix is packed from. Reads outside of rows and
// cols give the zeros of the padding. The mode int4 packs `four_bits` instead where it is not null.
struct Source {
  const float* data;
  int gates, rows, cols;
  const FourBits* four_bits = nullptr;

  float at(int gate, int row, int col) const {
    return row < rows && col < cols ? data[(long{gate} * rows + row) * cols + col] : 0.0f;
  }
};

// A packed matrix. Its outputs form `gates` parts of equal size, each padded to whole panels, so
// that one thread can own the same units of every gate. A plain layer is a matrix of one gate.
struct Matrix {
  virtual ~Matrix() = default;
};

// The inputs of a product in the form that the numeric mode reads, one row for each stream or time
// step.
struct Rows {
  virtual ~Rows() = default;
};

// The units [first, last) of one stream in one step of a cell, after the products of its input.
// The gates are in torch's order, r, z, n for the GRU and i, f, g, o for the LSTM, `width` floats
// each.
struct CellUnits {
  long first, last, width;
  float* gates;
  const float* h;
  float* new_h;
  float* c;      // LSTM: its memory, updated in place
  float* inner;  // GRU: the recurrent product of n, or the reset h that this product reads
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
  // Adds W x to y for `rows` rows, this slice of every gate. y has y_stride floats a row, and each
  // gate takes whole panels of it.
  virtual void product(const Matrix& w, const Rows& x, int rows, PanelSlice slice, float* y,
                       long y_stride) const = 0;

  virtual void add(float* y, const float* x, long count) const = 0;
  virtual void add_scaled(float* y, float scale, const float* x, long count) const = 0;
  virtual void relu(float* x, long count) const = 0;
  // These turn gates into new states. In gru_cell_after the reset gate acts on the product `inner`.
  // The other form takes two steps, because the reset gate acts on h before the product:
  // gru_cell_reset writes the reset h to `inner`; gru_cell_before follows once its product has been
  // added to the gates.
  virtual void gru_cell_after(const CellUnits& u) const = 0;
  virtual void gru_cell_reset(const CellUnits& u) const = 0;
  virtual void gru_cell_before(const CellUnits& u) const = 0;
  virtual void lstm_cell(const CellUnits& u) const = 0;
  // This is `sample_level` of a whole row.
  virtual int draw(const float* logits, int q_levels, uint32_t draw, float temperature,
                   const SamplerSettings& settings, uint32_t* weight) const = 0;

  // A thread calls enter() before its first product and leave() after its last one: tile registers
  // are configured for each thread.
  virtual void enter() const {}
  virtual void leave() const {}

  // These serve measurements. `read` loads `bytes`, a multiple of read_step(), once; `multiply`
  // does multiply-adds in registers and sets `macs` to their number. The caller must use the
  // result, or the compiler removes the work.
  virtual long read_step() const = 0;
  virtual int32_t read(const char* from, size_t bytes) const = 0;
  virtual int32_t multiply(long* macs) const = 0;
};

// The kernels of the instruction set with this name, or of the best one of this machine if the name
// is empty. Throws std::invalid_argument when it is not available here or does not know the mode.
std::unique_ptr<const Kernels> make_kernels(const std::string& isa, const std::string& mode);

}  // namespace srnn
