#include "walk.h"

#include <algorithm>

namespace srnn {

namespace {

// How many steps a team makes before it checks again whether to part.
constexpr long kStepsBetweenChecks = 32;
// A team does not part before its members have slept for this long together: one long wait does not
// make a busy machine.
constexpr double kPartingSeconds = 0.002;
// A team parts when its members sleep for more than this fraction of the time. On an idle machine a
// second member adds about half the speed of the first; longer waits cost more than that.
constexpr double kPartingFraction = 0.25;

double seconds_since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

}  // namespace

TeamArrays::TeamArrays(const Model& model, int streams, int steps)
    : inner(streams * model.width),
      gates(streams * model.gates_width()),
      output(streams * model.width),
      x(size_t{1} * streams * steps * model.width),
      other(model.m.hidden > 0 ? size_t{1} * streams * steps * model.width : 0),
      logits(size_t{1} * streams * steps * model.logit_width()) {
  const ModelDims& m = model.m;
  const int lowest = std::max(1, steps / m.frame_sizes[0]);
  inputs = Buffer<float>(size_t{1} * streams * lowest * model.input_width());
  const size_t layers = size_t{1} * m.tiers() * m.n_rnn;
  for (size_t i = 0; i < layers; ++i) {
    for (std::vector<Buffer<float>>* side : {&hidden[0], &hidden[1]}) {
      side->emplace_back(streams * model.width);
    }
    c.emplace_back(m.lstm ? streams * model.width : 0);
  }
}

Walk::Walk(const Kernels& kernels, const Model& model, const Member& member, TeamArrays& team,
           const StreamSlice& streams, int steps)
    : kernels_(kernels),
      model_(model),
      m_(model.m),
      member_(member),
      team_(team),
      streams_(streams),
      steps_(steps),
      levels_(streams.levels),
      weights_(m_.q_levels),
      inner_rows_(kernels.rows(m_.lstm || m_.reset_after ? 0 : streams.count, m_.dim)),
      joined_rows_(kernels.rows(m_.skips ? streams.count : 0, m_.n_rnn * m_.dim)),
      x_rows_(kernels.rows(streams.count * steps, m_.dim)),
      joined_(m_.skips ? m_.n_rnn * m_.dim : 0),
      sides_(m_.tiers() * m_.n_rnn, 0) {
  for (int tier = 0; tier < m_.tiers(); ++tier) {
    const int frames = std::max(1, steps / m_.frame_sizes[tier]);
    outputs_.push_back(kernels.rows(streams.count * frames, m_.dim));
    for (int layer = 0; layer < m_.n_rnn; ++layer) {
      hidden_rows_.push_back(kernels.rows(streams.count, m_.dim));
    }
  }
  if (member.rank > 0) own_levels_.resize(streams.count * streams.row - streams.from);
}

long Walk::generate(const Drawing& drawing) {
  if (member_.rank > 0) {  // every member draws the same levels into an array of its own
    std::copy_n(levels_, own_levels_.size(), own_levels_.data());
    levels_ = own_levels_.data();
  }
  start();
  for (int tier = 0; tier < m_.tiers(); ++tier) {
    refresh_output(tier, 0, 1);
    member_.meet();  // all tiers write their output to the same array
  }
  long step = 0;
  for (; step < streams_.steps; ++step) {
    if (step % kStepsBetweenChecks == 0 && parting()) break;
    for (int tier = m_.tiers() - 1; tier >= 0; --tier) {
      if ((streams_.t + step) % m_.frame_sizes[tier] == 0) run_tier(tier, step, 1);
    }
    if (known(step)) continue;  // nothing depends on the logits of a step without draws
    sample_mlp(step, 1);
    if (!draw(step, drawing)) return -1;
  }
  finish();
  return step;
}

long Walk::follow(float* logits) {
  start();
  long step = 0;
  for (int count; step < streams_.steps && !parting(); step += count) {
    count = static_cast<int>(std::min<long>(steps_, streams_.steps - step));
    for (int tier = m_.tiers() - 1; tier >= 0; --tier) {
      run_tier(tier, step, count / m_.frame_sizes[tier]);
    }
    if (logits == nullptr) continue;
    sample_mlp(step, count);
    if (member_.rank == 0) copy_logits(step, count, logits);
  }
  finish();
  return std::min(step, streams_.steps);
}

// Decides, for all members alike, whether the team parts. On a busy machine members wait until the
// system lets the others run, and one thread alone is faster.
bool Walk::parting() {
  if (member_.size == 1) return false;
  if (member_.rank == 0) {
    const double slept = member_.barrier->slept() - slept_before_;
    // One member is always awake, so this is how long the members can have slept at most.
    const double most = (member_.size - 1) * seconds_since(began_);
    team_.parting = slept > kPartingSeconds && slept > kPartingFraction * most;
  }
  member_.meet();
  const bool decided = team_.parting;
  member_.meet();  // all members have read it before it is written again
  return decided;
}

void Walk::start() {
  for (int at = 0; at < static_cast<int>(sides_.size()) && member_.rank == 0; ++at) {
    for (int s = 0; s < streams_.count; ++s) {
      const float* from = streams_.state(m_, at / m_.n_rnn, at % m_.n_rnn, s);
      std::copy(from, from + m_.dim, hidden(at) + s * model_.width);
      if (!m_.lstm) continue;
      std::copy(from + m_.dim, from + 2 * m_.dim, team_.c[at].data() + s * model_.width);
    }
  }
  member_.meet();
  // A new thread takes milliseconds to start, on a machine with nothing else to do as well.
  began_ = Clock::now();
  if (member_.size > 1) slept_before_ = member_.barrier->slept();
  for (int at = 0; at < static_cast<int>(sides_.size()); ++at) set_hidden_rows(at);
}

void Walk::finish() const {
  for (int at = 0; at < static_cast<int>(sides_.size()) && member_.rank == 0; ++at) {
    for (int s = 0; s < streams_.count; ++s) {
      float* to = streams_.state(m_, at / m_.n_rnn, at % m_.n_rnn, s);
      const float* from = hidden(at) + s * model_.width;
      std::copy(from, from + m_.dim, to);
      if (!m_.lstm) continue;
      const float* c = team_.c[at].data() + s * model_.width;
      std::copy(c, c + m_.dim, to + m_.dim);
    }
  }
}

void Walk::set_hidden_rows(int at) {
  for (int s = 0; s < streams_.count; ++s) {
    kernels_.set(*hidden_rows_[at], s, hidden(at) + s * model_.width);
  }
}

bool Walk::known(long step) const {
  for (int s = 0; s < streams_.count; ++s) {
    if (level(s, step) < 0) return false;
  }
  return true;
}

}  // namespace srnn
