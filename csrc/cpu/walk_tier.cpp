// The tiers of recurrent layers (Eq. 2-6).
#include <algorithm>

#include "walk.h"

namespace srnn {

// Makes `frames` steps of a tier, the first at `step` (Eq. 4-5).
void Walk::run_tier(int tier, long step, int frames) {
  read_input(tier, step, frames);
  for (int frame = 0; frame < frames; ++frame) {
    for (int layer = 0; layer < m_.n_rnn; ++layer) run_layer(tier, layer, frame, frames);
    refresh_output(tier, frame, frames);
  }
}

// Computes what the tier's input adds to the gates of every layer that reads it, into team_.inputs:
// the biases, the samples of the frame or its one level, and the upsampled tier above (Eq. 3).
void Walk::read_input(int tier, long step, int frames) {
  const TierWeights& w = model_.tiers[tier];
  const long width = model_.input_width(), first = first_unit(), count = units();
  const int size = m_.frame_sizes[tier];
  const bool top = tier + 1 == m_.tiers();
  const int above = top ? size : m_.frame_sizes[tier + 1];
  for (int s = 0; s < streams_.count; ++s) {
    for (int frame = 0; frame < frames; ++frame) {
      const long at = step + long{frame} * size;
      const int64_t* samples = &level(s, at - size);
      const long place = (streams_.t + at) % above / size;
      const float* bias = w.input_bias + place * m_.n_rnn * model_.gates_width();
      float* row = team_.inputs.data() + (long{s} * frames + frame) * width + first;
      for (long gate = 0; gate < width; gate += model_.width) {
        std::copy_n(bias + gate + first, count, row + gate);
        if (m_.reads_levels) {
          kernels_.add(row + gate, w.table + samples[0] * width + gate + first, count);
          continue;
        }
        for (int i = 0; i < size; ++i) {
          kernels_.add_scaled(row + gate, model_.frame_values[samples[i]],
                              w.frame + i * width + gate + first, count);
        }
      }
    }
  }
  if (!top) upsample(tier + 1, step, frames, team_.inputs.data(), width);
}

// Adds the upsampled output of `tier` to `units` units below it, the first at `step` (Eq. 6). A
// unit is a frame of the tier below, or a sample.
void Walk::upsample(int tier, long step, int units, float* y, long width) const {
  const TierWeights& w = model_.tiers[tier];
  const int unit = tier == 0 ? 1 : m_.frame_sizes[tier - 1], ratio = m_.ratio(tier);
  if (units == 1) {
    const long j = (streams_.t + step) % m_.frame_sizes[tier] / unit;
    kernels_.product(*w.upsample[j], *outputs_[tier], streams_.count, slice(), y, width);
    return;
  }
  const int rows = streams_.count * units / ratio;
  for (int j = 0; j < ratio; ++j) {
    kernels_.product(*w.upsample[j], *outputs_[tier], rows, slice(), y + j * width, ratio * width);
  }
}

void Walk::run_layer(int tier, int layer, int frame, int frames) {
  const TierWeights& w = model_.tiers[tier];
  const int at = index(tier, layer);
  float* gates;
  long stride;
  if (layer < m_.readers()) {
    gates = team_.inputs.data() + frame * model_.input_width() + layer * model_.gates_width();
    stride = frames * model_.input_width();
  } else {
    gates = team_.gates.data();
    stride = model_.gates_width();
    copy_bias(w.input_bias, layer, gates, stride);
  }
  if (layer > 0) {
    kernels_.product(*w.stack[layer - 1], *hidden_rows_[at - 1], streams_.count, slice(), gates,
                     stride);
  }
  run_cell(w.cells[layer], at, gates, stride);
  member_.meet();
  set_hidden_rows(at);
}

// Copies the biases of a layer's gates to this member's units of every stream.
void Walk::copy_bias(const float* bias, int layer, float* gates, long stride) const {
  const float* from = bias + layer * model_.gates_width() + first_unit();
  for (int s = 0; s < streams_.count; ++s) {
    float* row = gates + s * stride + first_unit();
    for (long gate = 0; gate < model_.gates_width(); gate += model_.width) {
      std::copy_n(from + gate, units(), row + gate);
    }
  }
}

// Makes one step of a layer's cell: the recurrent products, then the gates. The new state goes to
// the other side of team_.hidden, because other members still read this one.
void Walk::run_cell(const CellWeights& w, int at, float* gates, long stride) {
  const int streams = streams_.count;
  const long width = model_.width, first = first_unit(), last = first + units();
  const float* h = hidden(at);
  sides_[at] ^= 1;
  const auto of_stream = [&](int s) {
    float* c = m_.lstm ? team_.c[at].data() + s * width : nullptr;
    return CellUnits{first,
                     last,
                     width,
                     gates + s * stride,
                     h + s * width,
                     hidden(at) + s * width,
                     c,
                     team_.inner.data() + s * width};
  };
  kernels_.product(*w.first, *hidden_rows_[at], streams, slice(), gates, stride);
  if (m_.lstm) {
    for (int s = 0; s < streams; ++s) kernels_.lstm_cell(of_stream(s));
  } else if (m_.reset_after) {
    float* inner = team_.inner.data();
    for (int s = 0; s < streams; ++s) {
      std::copy(w.bias_n + first, w.bias_n + last, inner + s * width + first);
    }
    kernels_.product(*w.candidate, *hidden_rows_[at], streams, slice(), inner, width);
    for (int s = 0; s < streams; ++s) kernels_.gru_cell_after(of_stream(s));
  } else {
    for (int s = 0; s < streams; ++s) kernels_.gru_cell_reset(of_stream(s));
    member_.meet();
    for (int s = 0; s < streams; ++s) {
      kernels_.set(*inner_rows_, s, team_.inner.data() + s * width);
    }
    kernels_.product(*w.candidate, *inner_rows_, streams, slice(), gates + 2 * width, stride);
    for (int s = 0; s < streams; ++s) kernels_.gru_cell_before(of_stream(s));
  }
}

// Stores the output of the tier, which is upsampled for the tier below: h of the last layer, or
// with skip connections the sum of maps of all layers.
void Walk::refresh_output(int tier, int frame, int frames) {
  if (!m_.skips) {
    for (int s = 0; s < streams_.count; ++s) {
      kernels_.copy(*outputs_[tier], s * frames + frame, *hidden_rows_[index(tier, m_.n_rnn - 1)],
                    s);
    }
    return;
  }
  const TierWeights& w = model_.tiers[tier];
  for (int s = 0; s < streams_.count; ++s) {
    for (int layer = 0; layer < m_.n_rnn; ++layer) {
      const float* h = hidden(index(tier, layer)) + s * model_.width;
      std::copy(h, h + m_.dim, joined_.data() + layer * m_.dim);
    }
    kernels_.set(*joined_rows_, s, joined_.data());
    std::copy_n(w.skip_bias + first_unit(), units(),
                team_.output.data() + s * model_.width + first_unit());
  }
  kernels_.product(*w.skip_out, *joined_rows_, streams_.count, slice(), team_.output.data(),
                   model_.width);
  member_.meet();
  for (int s = 0; s < streams_.count; ++s) {
    kernels_.set(*outputs_[tier], s * frames + frame, team_.output.data() + s * model_.width);
  }
}

}  // namespace srnn
