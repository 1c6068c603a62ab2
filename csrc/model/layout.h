// A model's sizes, and the names and shapes of its packed tensors, as models/layout.py has them.
//
// Letters in shapes: B streams, L levels before the first new sample, D width of a vector, Q levels
// of a sample, G gates (3 for the GRU, 4 for the LSTM), H width of a state (D, or 2 D for the
// LSTM's [h | c]), F frame size, r ratio, n layers, I layers that read the tier's input, O width of
// what a tier upsamples for one unit below it, R frames of a tier under one frame of the tier
// above it (1 for the top tier).
//
// The one tier of an RNN over single samples reads its last level by a table, and such a model has
// no frame values. A sample level that reads no samples has no tables.
#pragma once

#include <string>
#include <vector>

namespace srnn {

struct ModelDims {
  int dim = 0;       // D, the width of every vector
  int q_levels = 0;  // Q, the number of levels
  int n_rnn = 0;     // RNN layers of each tier
  int taps = 0;      // FS(1), the previous samples that the sample-level MLP reads, or 0
  int hidden = 0;    // hidden layers of the MLP that are left after folding
  bool lstm = false;
  bool reset_after = true;       // the GRU applies its reset gate after the recurrent product
  bool skips = false;            // a tier's output is the sum of maps of all its layers
  bool readers_all = false;      // every layer reads the tier's input; otherwise the first one does
  bool reads_levels = false;     // the one tier reads a level by a table in place of frame values
  std::vector<int> frame_sizes;  // FS(2), ..., FS(K), one for each RNN tier, lowest tier first

  int tiers() const { return static_cast<int>(frame_sizes.size()); }
  int lookback() const { return frame_sizes.back(); }
  int gates() const { return lstm ? 4 : 3; }
  int state_width() const { return lstm ? 2 * dim : dim; }  // the LSTM's state is [h | c]
  int readers() const { return readers_all ? n_rnn : 1; }
  int read_width() const { return readers() * gates() * dim; }
  // Width of what a tier upsamples for one unit below it: gates of the tier below, or the MLP's
  // first layer.
  int below_width(int tier) const { return tier == 0 ? dim : read_width(); }
  int ratio(int tier) const { return frame_sizes[tier] / (tier == 0 ? 1 : frame_sizes[tier - 1]); }
  // R of a tier.
  int places(int tier) const { return tier + 1 == tiers() ? 1 : ratio(tier + 1); }
};

// The name and shape of one packed tensor.
struct Field {
  std::string name;
  std::vector<long> shape;
};

// All packed tensors in the order of models/layout.py.
inline std::vector<Field> layout(const ModelDims& m) {
  const long dim = m.dim, layers = m.n_rnn, width = long{m.gates()} * dim;
  std::vector<Field> fields;
  if (!m.reads_levels) fields.push_back({"frame_values", {m.q_levels}});
  for (int tier = 0; tier < m.tiers(); ++tier) {
    const std::string name = "tier" + std::to_string(tier) + ".";
    const long below = m.below_width(tier);
    if (m.reads_levels) {
      fields.push_back({name + "table", {m.q_levels, m.read_width()}});
    } else {
      fields.push_back({name + "frame", {m.read_width(), m.frame_sizes[tier]}});
    }
    fields.push_back({name + "input_bias", {m.places(tier), layers, width}});
    fields.push_back({name + "recurrent", {layers, width, dim}});
    fields.push_back({name + "h0", {layers, m.state_width()}});
    if (!m.lstm && m.reset_after) fields.push_back({name + "bias_n", {layers, dim}});
    if (layers > 1) fields.push_back({name + "stack", {layers - 1, width, dim}});
    if (m.skips) {
      fields.push_back({name + "skip_out", {dim, layers * dim}});
      fields.push_back({name + "skip_bias", {dim}});
    }
    fields.push_back({name + "up", {m.ratio(tier), below, dim}});
  }
  fields.push_back({"mlp.input_bias", {m.ratio(0), dim}});
  if (m.taps > 0) fields.push_back({"mlp.tables", {m.taps, m.q_levels, dim}});
  for (int layer = 0; layer < m.hidden; ++layer) {
    const std::string name = "mlp.hidden" + std::to_string(layer);
    fields.push_back({name, {dim, dim}});
    fields.push_back({name + "_bias", {dim}});
  }
  fields.push_back({"mlp.output", {m.q_levels, dim}});
  fields.push_back({"mlp.output_bias", {m.q_levels}});
  return fields;
}

}  // namespace srnn
