// The engine of one instruction set: splits streams between threads and sets the walks going.
#pragma once

#include <stdexcept>

#include "roofline.h"
#include "walk.h"

#define SRNN_STRING_OF(name) #name
#define SRNN_STRING(name) SRNN_STRING_OF(name)

namespace srnn {
namespace SRNN_ISA {

// Known levels are taken this many rows (streams x samples) at a time, about.
constexpr int kRowsAtOnce = 256;

template <class Mode>
class CpuEngine final : public Engine {
 public:
  CpuEngine(const ModelDims& dims, const Arrays& arrays, const EngineOptions& options)
      : model_(dims, arrays), mode_(options.mode), num_threads_(options.num_threads) {}

  const ModelDims& dims() const override { return model_.m; }
  EngineInfo info() const override { return {SRNN_STRING(SRNN_ISA), mode_, model_.bytes()}; }

  int threads(int streams) const override {
    if (num_threads_ > 0) return num_threads_;
    return default_threads(model_.bytes(), streams);
  }

  bool generate(const Streams& streams, const Drawing& drawing) const override {
    std::atomic<bool> sound{true};
    run(streams, 1, [&](Walk<Mode>& walk) {
      if (!walk.generate(drawing)) sound.store(false);
    });
    return sound.load();
  }

  void follow(const Streams& streams, float* logits) const override {
    const int frame = model_.m.lookback();
    const long frames = std::max(1L, kRowsAtOnce / (long{frame} * streams.count));
    const long steps = std::min(frames * frame, std::max(long{frame}, streams.steps));
    run(streams, static_cast<int>(steps), [&](Walk<Mode>& walk) { walk.follow(logits); });
  }

  double read_bandwidth(size_t bytes, int threads) const override {
    return SRNN_ISA::read_bandwidth(bytes, threads);
  }
  double peak_rate(int threads) const override { return SRNN_ISA::peak_rate<Mode>(threads); }

 private:
  // Enough streams: one each for single threads. Fewer: one team of all threads.
  template <class Job>
  void run(const Streams& streams, int steps, const Job& job) const {
    Crew crew(threads(streams.count));
    const int teams = streams.count >= crew.size() ? crew.size() : 1;
    const int size = crew.size() / teams;
    std::vector<std::unique_ptr<TeamArrays>> arrays;
    std::vector<std::unique_ptr<Barrier>> barriers;
    std::vector<std::unique_ptr<Walk<Mode>>> walks;
    for (int team = 0; team < teams; ++team) {
      const int first = static_cast<int>(long{streams.count} * team / teams);
      const int last = static_cast<int>(long{streams.count} * (team + 1) / teams);
      const StreamSlice slice(streams, model_.m, first, last - first);
      arrays.push_back(std::make_unique<TeamArrays>(model_.m, model_.width, model_.input_width(),
                                                    model_.gates_width(), model_.logit_width(),
                                                    slice.count, steps));
      barriers.push_back(std::make_unique<Barrier>(size));
      for (int rank = 0; rank < size; ++rank) {
        const Member member{rank, size, barriers.back().get()};
        walks.push_back(std::make_unique<Walk<Mode>>(model_, member, *arrays.back(), slice, steps));
      }
    }
    crew.run([&](int thread) { job(*walks[thread]); });
  }

  const Model<Mode> model_;
  const std::string mode_;
  const int num_threads_;
};

inline std::unique_ptr<Engine> make(const ModelDims& dims, const Arrays& arrays,
                                    const EngineOptions& options) {
  if (options.mode == "float32") {
    return std::make_unique<CpuEngine<FloatMode<Float32>>>(dims, arrays, options);
  }
  if (options.mode == "bfloat16") {
    return std::make_unique<CpuEngine<FloatMode<Bfloat16>>>(dims, arrays, options);
  }
  if (options.mode == "int8") return std::make_unique<CpuEngine<Int8Mode>>(dims, arrays, options);
  throw std::invalid_argument("numeric mode must be float32, bfloat16 or int8, got " +
                              options.mode);
}

}  // namespace SRNN_ISA
}  // namespace srnn
