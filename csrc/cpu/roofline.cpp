#include "roofline.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "team.h"

namespace srnn {

namespace {

constexpr double kMeasureSeconds = 0.05;  // a measurement lasts at least as long

// Calls `work` repeatedly and returns the rate. Its results go to a sink, so that the compiler does
// not remove it.
template <class Work>
double calls_per_second(const Work& work) {
  typedef std::chrono::steady_clock Clock;
  static std::atomic<int32_t> sink{0};
  work();
  long calls = 0;
  const Clock::time_point began = Clock::now();
  double seconds = 0;
  do {
    sink.store(work(), std::memory_order_relaxed);
    ++calls;
    seconds = std::chrono::duration<double>(Clock::now() - began).count();
  } while (seconds < kMeasureSeconds);
  return calls / seconds;
}

// Measures rate(0), rate(1), ... on all threads of the crew at once and returns their sum.
template <class Rate>
double total_rate(Crew& crew, const Rate& rate) {
  std::vector<double> rates(crew.size());
  crew.run([&](int thread) { rates[thread] = rate(thread); });
  double total = 0;
  for (double one : rates) total += one;
  return total;
}

}  // namespace

double read_bandwidth(const Kernels& kernels, size_t bytes, int threads) {
  Crew crew(threads);
  const size_t step = kernels.read_step();
  const size_t part = std::max(step, bytes / crew.size() / step * step);
  Arena arena;
  const char* data = arena.take<char>(part * crew.size());
  return total_rate(crew, [&](int thread) {
    return part * calls_per_second([&] { return kernels.read(data + thread * part, part); });
  });
}

double peak_rate(const Kernels& kernels, int threads) {
  Crew crew(threads);
  return total_rate(crew, [&](int) {
    kernels.enter();
    long macs = 0;
    const double calls = calls_per_second([&] { return kernels.multiply(&macs); });
    kernels.leave();
    return macs * calls;
  });
}

}  // namespace srnn
