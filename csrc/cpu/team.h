// Threads that make samples together: a barrier that spins briefly and then sleeps, and a pool.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "kernels.h"

namespace srnn {

// All `size` members wait for each other. A member that is not met soon goes to sleep, so that a
// thread which the system has put aside gets a core to come back on.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait();
  // Seconds that members have slept here, all together.
  double slept() const { return slept_.load(std::memory_order_relaxed) * 1e-9; }

 private:
  const int size_;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> epoch_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<int64_t> slept_{0};  // nanoseconds
  std::mutex mutex_;
  std::condition_variable awake_;
};

// One thread's place in a team.
struct Member {
  int rank = 0, size = 1;
  Barrier* barrier = nullptr;

  void meet() const {
    if (size > 1) barrier->wait();
  }
  // This member's part of `panels`; parts differ by at most one.
  Share share(int panels) const {
    return {static_cast<int>(long{panels} * rank / size),
            static_cast<int>(long{panels} * (rank + 1) / size)};
  }
};

// Threads borrowed from the process's pool. Fewer than asked for, where the system gives no more.
class Crew {
 public:
  explicit Crew(int threads);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  int size() const { return static_cast<int>(hands_.size()) + 1; }
  // job(0), ..., job(size() - 1) at once, job(0) on the calling thread; returns after all of them.
  // A job must not throw: its neighbours may be waiting for it.
  void run(const std::function<void(int)>& job);

  struct Hand;

 private:
  std::vector<Hand*> hands_;
};

constexpr int kMostThreads = 256;

// Processor cores that this process may use; two hardware threads of one core count once.
int usable_cores();

// Threads worth their meetings, for a model of this many bytes.
int default_threads(size_t model_bytes, int streams);

}  // namespace srnn
