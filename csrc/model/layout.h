// The model as the C++ engines see it: sizes, and the packed tensors of samplernn_fast/weights.py.
//
// Letters: B streams, D dim, Q levels, G gates (3 GRU, 4 LSTM), H state width (D, or 2 D for the
// LSTM's [h | c]), F frame size, r ratio, n layers, I layers that read the tier's input,
// O = I G D of the tier below, or D above the sample level.
#pragma once

#include <string>
#include <vector>

namespace srnn {

struct ModelDims {
  int dim = 0;
  int q_levels = 0;
  int n_rnn = 0;
  int taps = 0;    // FS(1): levels that the sample-level MLP sees
  int hidden = 0;  // hidden layers left after folding
  bool lstm = false;
  bool reset_after = true;       // GRU only
  bool skips = false;            // all layers' outputs are summed
  bool readers_all = false;      // every layer reads the tier's input
  std::vector<int> frame_sizes;  // FS(2), ..., FS(K): one for each RNN tier, lowest first

  int tiers() const { return static_cast<int>(frame_sizes.size()); }
  int lookback() const { return frame_sizes.back(); }
  int gates() const { return lstm ? 4 : 3; }
  int state_width() const { return lstm ? 2 * dim : dim; }
  int readers() const { return readers_all ? n_rnn : 1; }
  int read_width() const { return readers() * gates() * dim; }
  // What tier i gives to the unit below it: gates of the tier below, or the MLP's first layer.
  int below_width(int tier) const { return tier == 0 ? dim : read_width(); }
  int ratio(int tier) const { return frame_sizes[tier] / (tier == 0 ? 1 : frame_sizes[tier - 1]); }
};

// One packed tensor; data stays with the caller.
struct Field {
  std::string name;
  std::vector<long> shape;
};

// The layout table of weights.py, in its order.
inline std::vector<Field> layout(const ModelDims& m) {
  const long dim = m.dim, layers = m.n_rnn, width = long{m.gates()} * dim;
  std::vector<Field> fields = {{"frame_values", {m.q_levels}}};
  for (int tier = 0; tier < m.tiers(); ++tier) {
    const std::string name = "tier" + std::to_string(tier) + ".";
    const long below = m.below_width(tier);
    fields.push_back({name + "frame", {m.read_width(), m.frame_sizes[tier]}});
    fields.push_back({name + "bias", {layers, width}});
    fields.push_back({name + "recurrent", {layers, width, dim}});
    fields.push_back({name + "h0", {layers, m.state_width()}});
    if (!m.lstm && m.reset_after) fields.push_back({name + "bias_n", {layers, dim}});
    if (layers > 1) fields.push_back({name + "stack", {layers - 1, width, dim}});
    if (m.skips) {
      fields.push_back({name + "skip_out", {dim, layers * dim}});
      fields.push_back({name + "skip_bias", {dim}});
    }
    fields.push_back({name + "up", {m.ratio(tier), below, dim}});
    fields.push_back({name + "up_bias", {m.ratio(tier), below}});
  }
  fields.push_back({"mlp.tables", {m.taps, m.q_levels, dim}});
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
