#include "team.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>
#include <string>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#include <unistd.h>
#endif

namespace srnn {

namespace {

// About ten microseconds: longer than members that run drift apart, far shorter than a time slice.
constexpr int kSpins = 2000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

void Barrier::wait() {
  const unsigned epoch = epoch_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    epoch_.store(epoch + 1);
    // Sequentially consistent on both sides: either the sleeper sees the epoch or we see it sleep.
    if (sleepers_.load() > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      awake_.notify_all();
    }
    return;
  }
  for (int spin = 0; spin < kSpins; ++spin) {
    if (epoch_.load(std::memory_order_acquire) != epoch) return;
    pause();
  }
  typedef std::chrono::steady_clock Clock;
  const Clock::time_point began = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  awake_.wait(lock, [&] { return epoch_.load() != epoch; });
  sleepers_.fetch_sub(1);
  slept_.fetch_add(std::chrono::nanoseconds(Clock::now() - began).count());
}

// A thread of the pool: sleeps until it is given a job.
struct Crew::Hand {
  std::mutex mutex;
  std::condition_variable changed;
  const std::function<void(int)>* job = nullptr;
  int rank = 0;

  void work() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex);
      changed.wait(lock, [&] { return job != nullptr; });
      lock.unlock();
      (*job)(rank);
      lock.lock();
      job = nullptr;
      changed.notify_all();
    }
  }
};

namespace {

// Idle threads. Never destroyed: they may still be waiting while the process ends.
struct Pool {
  std::mutex mutex;
  std::vector<Crew::Hand*> idle;
};

Pool& pool() {
  static std::mutex mutex;
  static Pool* current = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
#if defined(__linux__)
  // A forked child has none of its parent's threads: it starts a pool of its own.
  static pid_t owner = 0;
  if (owner != getpid()) current = nullptr;
  owner = getpid();
#endif
  if (current == nullptr) current = new Pool;
  return *current;
}

}  // namespace

Crew::Crew(int threads) {
  if (threads <= 1) return;
  Pool& shared = pool();
  std::lock_guard<std::mutex> lock(shared.mutex);
  while (static_cast<int>(hands_.size()) < threads - 1) {
    if (!shared.idle.empty()) {
      hands_.push_back(shared.idle.back());
      shared.idle.pop_back();
      continue;
    }
    Hand* hand = new Hand;
    try {
      std::thread([hand] { hand->work(); }).detach();
    } catch (const std::system_error&) {
      delete hand;
      return;
    }
    hands_.push_back(hand);
  }
}

Crew::~Crew() {
  if (hands_.empty()) return;
  Pool& shared = pool();
  std::lock_guard<std::mutex> lock(shared.mutex);
  shared.idle.insert(shared.idle.end(), hands_.begin(), hands_.end());
}

void Crew::run(const std::function<void(int)>& job) {
  for (size_t i = 0; i < hands_.size(); ++i) {
    std::lock_guard<std::mutex> lock(hands_[i]->mutex);
    hands_[i]->job = &job;
    hands_[i]->rank = static_cast<int>(i) + 1;
    hands_[i]->changed.notify_all();
  }
  job(0);
  for (Hand* hand : hands_) {
    std::unique_lock<std::mutex> lock(hand->mutex);
    hand->changed.wait(lock, [&] { return hand->job == nullptr; });
  }
}

int usable_cores() {
  const int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return threads;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    std::string siblings;
    std::ifstream(folder + "thread_siblings_list") >> siblings;
    cores.insert(siblings.empty() ? std::to_string(cpu) : siblings);
  }
  return std::max(1, static_cast<int>(cores.size()));
#else
  return threads;
#endif
}

int default_threads(size_t model_bytes, int streams) {
  static const int cores = usable_cores();
  // Several streams share no vector, so each thread takes its own. A single one is split only where
  // the weights outgrow a core's own cache: then more cores bring more of them.
  if (streams > 1) return std::min({cores, streams, kMostThreads});
  const size_t parts = model_bytes / (size_t{3} << 19);
  return static_cast<int>(
      std::max<size_t>(1, std::min<size_t>({parts, size_t(cores), kMostThreads})));
}

}  // namespace srnn
