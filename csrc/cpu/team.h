// Threads that make samples together: a pool of threads, and a barrier that spins before it sleeps.
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

// A barrier where `size` members wait for each other. A member that has to wait long goes to sleep,
// which frees its core for a member that the system has suspended.
class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}
  void wait();
  // Returns how many seconds the members have slept here, all together.
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

// The place of one thread in a team.
struct Member {
  int rank = 0, size = 1;
  Barrier* barrier = nullptr;

  void meet() const {
    if (size > 1) barrier->wait();
  }
  // Returns this member's part of `panels` panels. The parts of two members differ by at most one.
  PanelSlice slice(int panels) const {
    return {static_cast<int>(long{panels} * rank / size),
            static_cast<int>(long{panels} * (rank + 1) / size)};
  }
};

// Threads borrowed from the pool of the process. There are fewer than asked for if the system does
// not give more.
class Crew {
 public:
  explicit Crew(int threads);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }
  // Runs job(0), ..., job(size() - 1) at once, job(0) on the calling thread, and returns when all
  // have ended. The others take over the priority of the calling thread where they may. A job must
  // not throw, because other jobs may be waiting for it.
  void run(const std::function<void(int)>& job);

  struct Worker;

 private:
  std::vector<Worker*> workers_;
};

// The largest number of threads of a call.
constexpr int kMostThreads = 256;

// Returns how many processor cores this process may use. Two hardware threads of one core count
// once.
int usable_cores();

// Returns how many threads make a model of this size fastest: each meeting at a barrier takes time.
int default_threads(size_t model_bytes, int streams);

}  // namespace srnn
