#include "engine.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <utility>

#include "kernels.h"
#include "roofline.h"
#include "walk.h"

namespace srnn {

namespace {

// About how many rows (streams x samples) of known levels a walk takes at once.
constexpr int kRowsAtOnce = 256;
// How long the engine uses one thread for a single stream after a team has parted: the first time,
// as what disturbed it may be over soon, and at most, where one team after another parts.
constexpr Clock::rep kShortAlone = Clock::duration(std::chrono::milliseconds(30)).count();
constexpr Clock::rep kLongAlone = Clock::duration(std::chrono::seconds(1)).count();

class CpuEngine final : public Engine {
 public:
  CpuEngine(const ModelDims& dims, const Arrays& arrays, const EngineOptions& options,
            std::unique_ptr<const Kernels> kernels)
      : kernels_(std::move(kernels)),
        model_(dims, arrays, *kernels_),
        mode_(options.mode),
        num_threads_(options.num_threads) {}

  const ModelDims& dims() const override { return model_.m; }
  EngineInfo info() const override {
    return {kernels_->isa(), mode_, model_.bytes(), partings_.load()};
  }

  int threads(int streams) const override {
    const int asked = num_threads_ > 0 ? num_threads_ : default_threads(model_.bytes(), streams);
    return std::min(asked, std::max(streams, model_.panels));  // a member owns a stream or a panel
  }

  bool generate(const Streams& streams, const Drawing& drawing) const override {
    return run(streams, 1, [&](Walk& walk) { return walk.generate(drawing); });
  }

  void follow(const Streams& streams, float* logits) const override {
    const int frame = model_.m.lookback();
    const long frames = std::max(1L, kRowsAtOnce / (long{frame} * streams.count));
    const long steps = std::min(frames * frame, std::max(long{frame}, streams.steps));
    run(streams, static_cast<int>(steps), [&](Walk& walk) { return walk.follow(logits); });
  }

  double read_bandwidth(size_t bytes, int threads) const override {
    return srnn::read_bandwidth(*kernels_, bytes, threads);
  }
  double peak_rate(int threads) const override { return srnn::peak_rate(*kernels_, threads); }

 private:
  // Makes all steps of a call. When its team parts, one thread makes the rest, and the calls of the
  // next time use one thread too: twice as long for each team that parts, half as long for each
  // that does not. Returns false when a logit is not a number.
  bool run(const Streams& streams, int steps_at_once, const Call::Job& job) const {
    const Call call{*kernels_, model_, streams, steps_at_once};
    const Clock::duration now = Clock::now().time_since_epoch();
    const bool alone = streams.count == 1 && now.count() < alone_until_.load();
    const int threads_now = alone ? 1 : threads(streams.count);
    long done = call.run(0, threads_now, job);
    if (0 <= done && done < streams.steps) {
      const Clock::rep span = alone_for_.load();
      alone_until_.store(Clock::now().time_since_epoch().count() + span);
      alone_for_.store(std::min(2 * span, kLongAlone));
      partings_.fetch_add(1);
      done = call.run(done, 1, job);
    } else if (threads_now > 1) {
      alone_for_.store(std::max(alone_for_.load() / 2, kShortAlone));
    }
    return done >= 0;
  }

  const std::unique_ptr<const Kernels> kernels_;
  const Model model_;
  const std::string mode_;
  const int num_threads_;
  mutable std::atomic<Clock::rep> alone_until_{0};  // on the clock
  mutable std::atomic<Clock::rep> alone_for_{kShortAlone};
  mutable std::atomic<long> partings_{0};
};

}  // namespace

std::unique_ptr<Engine> make_engine(const ModelDims& dims, const Arrays& arrays,
                                    const EngineOptions& options) {
  if (options.num_threads < 0 || options.num_threads > kMostThreads) {
    throw std::invalid_argument("num_threads must be 0 (chosen) to " +
                                std::to_string(kMostThreads) + ", got " +
                                std::to_string(options.num_threads));
  }
  return std::make_unique<CpuEngine>(dims, arrays, options,
                                     make_kernels(options.isa, options.mode));
}

}  // namespace srnn
