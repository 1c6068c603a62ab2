// A model packed for one numeric mode and one instruction set. It is read-only, and all threads
// share it.
//
// Vectors of dim D are padded to `width`, which is whole panels; the padding stays 0. Shapes below
// have rows of `width` floats; their letters are those of layout.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "kernels.h"

namespace srnn {

typedef std::unique_ptr<const Matrix> MatrixPointer;

// The recurrent matrices of one layer. A GRU keeps the matrix of n apart from those of r and z,
// because the reset gate acts either before or after the product with it.
struct CellWeights {
  MatrixPointer first;            // the gates r, z of a GRU, or all four of an LSTM
  MatrixPointer candidate;        // the gate n of a GRU, else null
  const float* bias_n = nullptr;  // (1) if the reset gate acts after the product, else null
};

struct TierWeights {
  const float* frame = nullptr;       // (F, I G): a sample of a frame times its row is added
  const float* table = nullptr;       // (Q, I G) in place of it: the row of the last level is added
  const float* input_bias = nullptr;  // (R, n, G)
  std::vector<CellWeights> cells;
  std::vector<MatrixPointer> stack;  // for layers 1, ..., n - 1: G gates that read the layer below
  MatrixPointer skip_out;
  const float* skip_bias = nullptr;
  // Eq. 6: a matrix for each of the r units below, of I G gates, or of 1 above the sample level.
  std::vector<MatrixPointer> upsample;
};

struct SampleWeights {
  const float* tables = nullptr;      // (taps, Q), oldest tap first: folded embeddings, if any
  const float* input_bias = nullptr;  // (FS(2))
  std::vector<MatrixPointer> hidden;
  std::vector<const float*> hidden_bias;
  MatrixPointer output;
  const float* output_bias = nullptr;
};

class Model {
 public:
  Model(const ModelDims& dims, const Arrays& arrays, const Kernels& kernels);

  long gates_read() const { return long{m.readers()} * m.gates(); }
  long input_width() const { return gates_read() * width; }
  long gates_width() const { return m.gates() * width; }
  int logit_panels() const { return panels_of(m.q_levels); }
  long logit_width() const { return long{logit_panels()} * panel; }
  size_t bytes() const { return arena_.bytes(); }

  const ModelDims m;
  const int panel, panels;  // outputs in a panel, and panels for D outputs
  const long width;
  const float* frame_values = nullptr;  // null where a table is read
  std::vector<TierWeights> tiers;       // lowest first
  SampleWeights mlp;

 private:
  int panels_of(int rows) const { return (rows + panel - 1) / panel; }
  const float* copy(const std::string& name, long count, int size);
  const float* load_frame(const std::string& name, int size);
  MatrixPointer matrix(const std::string& name, long offset, int gates, int rows, int cols);
  TierWeights load_tier(int tier);
  const float* source(const std::string& name) const { return arrays_->floats.at(name); }

  // These are null once the model is made.
  const Arrays* arrays_;
  const Kernels* kernels_;
  Arena arena_;
};

}  // namespace srnn
