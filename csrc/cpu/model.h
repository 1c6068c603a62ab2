// A packed model in one numeric mode and one instruction set: read-only, shared by all threads.
//
// Vectors of dim D are padded to `width`, whole panels; what is padded stays 0.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "kernels.h"

namespace srnn {

typedef std::unique_ptr<const Matrix> MatrixPointer;

// The recurrent matrices of one layer. A GRU keeps that of n apart from those of r and z, because
// the reset gate stands on one side of it or the other.
struct CellWeights {
  MatrixPointer first;            // GRU: blocks r, z. LSTM: all four.
  MatrixPointer candidate;        // GRU: n.
  const float* bias_n = nullptr;  // GRU that resets after the product, else null
};

struct TierWeights {
  const float* frame = nullptr;       // (F, I G blocks): what one sample of a frame adds
  const float* input_bias = nullptr;  // (r of the tier above, or 1; I G blocks)
  const float* bias = nullptr;        // (n, G blocks); for layers that read no input
  std::vector<CellWeights> cells;
  std::vector<MatrixPointer> stack;  // G blocks of layers 1, ..., n - 1
  MatrixPointer skip_out;
  const float* skip_bias = nullptr;
  std::vector<MatrixPointer> up;  // one for each unit below: I G blocks, or 1
};

struct SampleWeights {
  const float* tables = nullptr;   // (taps, Q, width), oldest tap first
  const float* up_bias = nullptr;  // (FS(2), width)
  std::vector<MatrixPointer> hidden;
  std::vector<const float*> hidden_bias;
  MatrixPointer output;
  const float* output_bias = nullptr;
};

class Model {
 public:
  Model(const ModelDims& dims, const Arrays& arrays, const Kernels& kernels);

  long blocks_read() const { return long{m.readers()} * m.gates(); }
  long input_width() const { return blocks_read() * width; }
  long gates_width() const { return m.gates() * width; }
  int logit_panels() const { return panels_of(m.q_levels); }
  long logit_width() const { return long{logit_panels()} * panel; }
  size_t bytes() const { return arena_.bytes(); }

  const ModelDims m;
  const int panel, panels;  // outputs of a panel, panels of D outputs
  const long width;
  const float* frame_values = nullptr;
  std::vector<TierWeights> tiers;  // lowest first
  SampleWeights mlp;

 private:
  int panels_of(int rows) const { return (rows + panel - 1) / panel; }
  const float* copy(const std::string& name, long blocks, int size);
  const float* load_frame(const std::string& name, int size);
  const float* load_input_bias(int tier, const float* bias);
  MatrixPointer matrix(const std::string& name, long offset, int blocks, int rows, int cols);
  TierWeights load_tier(int tier);
  const float* source(const std::string& name) const { return arrays_->at(name); }

  // While the model is made.
  const Arrays* arrays_;
  const Kernels* kernels_;
  Arena arena_;
};

}  // namespace srnn
