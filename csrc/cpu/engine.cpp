// Splits streams between threads and sets the walks going.
#include "engine.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels.h"
#include "roofline.h"
#include "walk.h"

namespace srnn {

namespace {

// Known levels are taken this many rows (streams x samples) at a time, about.
constexpr int kRowsAtOnce = 256;

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
  // All steps; after a team has parted, the rest by one thread, and alone for a while from then on.
  template <class Job>
  bool run(const Streams& streams, int steps_at_once, const Job& job) const {
    const Clock::duration now = Clock::now().time_since_epoch();
    const bool alone = streams.count == 1 && now.count() < alone_until_.load();
    long done = run_together(streams, 0, alone ? 1 : threads(streams.count), steps_at_once, job);
    if (0 <= done && done < streams.steps) {
      alone_until_.store((Clock::now().time_since_epoch() + kAlone).count());
      partings_.fetch_add(1);
      done = run_together(streams, done, 1, steps_at_once, job);
    }
    return done >= 0;
  }

  // Enough streams: each thread takes some for itself. Fewer: one team of all threads.
  // Returns the first step that was not made, -1 when a logit is not a number.
  template <class Job>
  long run_together(const Streams& streams, long from, int threads, int steps_at_once,
                    const Job& job) const {
    Crew crew(threads);
    const int teams = streams.count >= crew.size() ? crew.size() : 1;
    const int size = crew.size() / teams;
    std::vector<std::unique_ptr<TeamArrays>> arrays;
    std::vector<std::unique_ptr<Barrier>> barriers;
    std::vector<std::unique_ptr<Walk>> walks;
    for (int team = 0; team < teams; ++team) {
      const int first = static_cast<int>(long{streams.count} * team / teams);
      const int last = static_cast<int>(long{streams.count} * (team + 1) / teams);
      const StreamSlice slice(streams, model_.m, first, last - first, from);
      arrays.push_back(std::make_unique<TeamArrays>(model_, slice.count, steps_at_once));
      barriers.push_back(std::make_unique<Barrier>(size));
      for (int rank = 0; rank < size; ++rank) {
        const Member member{rank, size, barriers.back().get()};
        walks.push_back(std::make_unique<Walk>(*kernels_, model_, member, *arrays.back(), slice,
                                               steps_at_once));
      }
    }
    std::vector<long> made(crew.size());
    crew.run([&](int thread) {
      kernels_->enter();
      made[thread] = job(*walks[thread]);
      kernels_->leave();
    });
    const long least = *std::min_element(made.begin(), made.end());
    return least < 0 ? -1 : from + least;
  }

  static constexpr std::chrono::seconds kAlone{1};

  const std::unique_ptr<const Kernels> kernels_;
  const Model model_;
  const std::string mode_;
  const int num_threads_;
  mutable std::atomic<Clock::rep> alone_until_{0};
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
