// The kernels of one instruction set in each numeric mode.
#pragma once

#include "cells.h"
#include "cpu/kernels.h"
#include "modes.h"
#include "register_work.h"

#define SRNN_STRING_OF(name) #name
#define SRNN_STRING(name) SRNN_STRING_OF(name)

namespace srnn {
namespace SRNN_ISA {

// The operations that are the same in every numeric mode.
class Vectors : public Kernels {
 public:
  const char* isa() const override { return SRNN_STRING(SRNN_ISA); }
  int panel() const override { return kPanel; }

  void add(float* y, const float* x, long count) const override {
    for (long i = 0; i < count; i += kLanes)
      store(y + i, load<Floats>(y + i) + load<Floats>(x + i));
  }
  void add_scaled(float* y, float scale, const float* x, long count) const override {
    const Floats factor = broadcast(scale);
    for (long i = 0; i < count; i += kLanes) {
      store(y + i, load<Floats>(y + i) + factor * load<Floats>(x + i));
    }
  }
  void relu(float* x, long count) const override {
    for (long i = 0; i < count; i += kLanes) {
      store(x + i, SRNN_ISA::relu(load<Floats>(x + i)));
    }
  }
  void gru_cell_after(const CellUnits& u) const override { SRNN_ISA::gru_cell_after(u); }
  void gru_cell_reset(const CellUnits& u) const override { SRNN_ISA::gru_cell_reset(u); }
  void gru_cell_before(const CellUnits& u) const override { SRNN_ISA::gru_cell_before(u); }
  void lstm_cell(const CellUnits& u) const override { SRNN_ISA::lstm_cell(u); }
  int draw(const float* logits, int q_levels, uint32_t draw, float temperature,
           const SamplerSettings& settings, uint32_t* weight) const override {
    return sample_level(logits, q_levels, draw, temperature, settings, weight);
  }

  long read_step() const override { return kReadStep; }
  int32_t read(const char* from, size_t bytes) const override { return read_once(from, bytes); }
};

// The operations that depend on the numeric mode, which defines the form of weights and inputs and
// their product.
template <class Mode>
class ModeKernels final : public Vectors {
  typedef typename Mode::Matrix MatrixOfMode;
  typedef typename Mode::Rows RowsOfMode;

 public:
  std::unique_ptr<Matrix> pack(const Source& from, Arena& arena) const override {
    return std::make_unique<MatrixOfMode>(from, arena);
  }
  std::unique_ptr<Rows> rows(int count, int cols) const override {
    return std::make_unique<RowsOfMode>(count, cols);
  }
  void set(Rows& to, int row, const float* x) const override {
    static_cast<RowsOfMode&>(to).set(row, x);
  }
  void copy(Rows& to, int row, const Rows& from, int from_row) const override {
    static_cast<RowsOfMode&>(to).copy(row, static_cast<const RowsOfMode&>(from), from_row);
  }
  void product(const Matrix& w, const Rows& x, int rows, PanelSlice slice, float* y,
               long y_stride) const override {
    Mode::product(static_cast<const MatrixOfMode&>(w), static_cast<const RowsOfMode&>(x), rows,
                  slice, y, y_stride);
  }
#if defined(SRNN_TILES)
  void enter() const override { set_up_tiles(); }
  void leave() const override { release_tiles(); }
#endif
  int32_t multiply(long* macs) const override {
    return register_work(static_cast<const Mode*>(nullptr), macs);
  }
};

inline std::unique_ptr<const Kernels> make(const std::string& mode) {
  if (mode == "float32") return std::make_unique<ModeKernels<Float32Mode>>();
  if (mode == "bfloat16") return std::make_unique<ModeKernels<Bfloat16Mode>>();
  if (mode == "int8") return std::make_unique<ModeKernels<CodeMode>>();
  if (mode == "int4") return std::make_unique<ModeKernels<Int4Mode>>();
  return nullptr;
}

}  // namespace SRNN_ISA
}  // namespace srnn
