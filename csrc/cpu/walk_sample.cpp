// The sample level: an MLP over the last levels and the upsampled lowest tier (Eq. 7-9).
#include <algorithm>
#include <utility>

#include "model/philox.h"
#include "walk.h"

namespace srnn {

// Computes the logits of `count` samples from `step` on, into team_.logits.
void Walk::sample_mlp(long step, int count) {
  const SampleWeights& w = model_.mlp;
  const int rows = streams_.count * count;
  read_levels(step, count);
  upsample(0, step, count, team_.x.data(), model_.width);
  float *x = team_.x.data(), *other = team_.other.data();
  finish_layer(x, rows);
  for (size_t layer = 0; layer < w.hidden.size(); ++layer) {
    const float* bias = w.hidden_bias[layer] + first_unit();
    for (int row = 0; row < rows; ++row) {
      std::copy_n(bias, units(), other + row * model_.width + first_unit());
    }
    kernels_.product(*w.hidden[layer], *x_rows_, rows, slice(), other, model_.width);
    finish_layer(other, rows);
    std::swap(x, other);
  }
  const PanelSlice part = member_.slice(model_.logit_panels());
  const long first = long{part.first} * model_.panel, last = long{part.last} * model_.panel;
  const long width = model_.logit_width();
  for (int row = 0; row < rows; ++row) {
    std::copy_n(w.output_bias + first, last - first, team_.logits.data() + row * width + first);
  }
  kernels_.product(*w.output, *x_rows_, rows, part, team_.logits.data(), width);
  member_.meet();
}

// Sums the folded embeddings of the last FS(1) levels and the bias of their sum.
void Walk::read_levels(long step, int count) const {
  const SampleWeights& w = model_.mlp;
  const long width = model_.width, first = first_unit();
  for (int s = 0; s < streams_.count; ++s) {
    for (int i = 0; i < count; ++i) {
      const long j = (streams_.t + step + i) % m_.frame_sizes[0];
      const int64_t* recent = &level(s, step + i - m_.taps);
      float* row = team_.x.data() + (long{s} * count + i) * width + first;
      std::copy_n(w.input_bias + j * width + first, units(), row);
      for (int tap = 0; tap < m_.taps; ++tap) {
        const float* add = w.tables + (long{tap} * m_.q_levels + recent[tap]) * width + first;
        kernels_.add(row, add, units());
      }
    }
  }
}

// Applies ReLU to this member's units; then the whole rows become the input of the next product.
void Walk::finish_layer(float* x, int rows) {
  for (int row = 0; row < rows; ++row) {
    kernels_.relu(x + row * model_.width + first_unit(), units());
  }
  member_.meet();
  for (int row = 0; row < rows; ++row) kernels_.set(*x_rows_, row, x + row * model_.width);
}

bool Walk::draw(long step, const Drawing& drawing) {
  for (int s = 0; s < streams_.count; ++s) {
    if (level(s, step) >= 0) continue;
    const int of = streams_.in_call(s);
    const uint32_t number =
        philox_draw(drawing.seeds[of], drawing.streams[of],
                    static_cast<uint64_t>(drawing.times[of]) + streams_.from + step);
    const float* logits = team_.logits.data() + s * model_.logit_width();
    const int drawn =
        kernels_.draw(logits, m_.q_levels, number, drawing.temperature[streams_.place(s, step)],
                      drawing.samplers[of], weights_.data());
    if (drawn < 0) return false;
    level(s, step) = drawn;
  }
  return true;
}

void Walk::copy_logits(long step, int count, float* logits) const {
  for (int s = 0; s < streams_.count; ++s) {
    for (int i = 0; i < count; ++i) {
      const float* from = team_.logits.data() + (long{s} * count + i) * model_.logit_width();
      const long at = streams_.place(s, step + i);
      std::copy_n(from, m_.q_levels, logits + at * m_.q_levels);
    }
  }
}

}  // namespace srnn
