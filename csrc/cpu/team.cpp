#include "team.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
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
  size_t hands = 0;
};

std::mutex pool_mutex;
Pool* current_pool = nullptr;

Pool& pool() {
  std::lock_guard<std::mutex> lock(pool_mutex);
#if defined(__unix__) || defined(__APPLE__)
  // A forked child has none of its parent's threads: it starts a pool of its own.
  static const int registered =
      pthread_atfork([] { pool_mutex.lock(); }, [] { pool_mutex.unlock(); },
                     [] {
                       current_pool = nullptr;
                       pool_mutex.unlock();
                     });
  static_cast<void>(registered);
#endif
  if (current_pool == nullptr) current_pool = new Pool;
  return *current_pool;
}

}  // namespace

Crew::Crew(int threads) {
  if (threads <= 1) return;
  hands_.reserve(threads - 1);
  Pool& shared = pool();
  std::lock_guard<std::mutex> lock(shared.mutex);
  while (static_cast<int>(hands_.size()) < threads - 1) {
    if (!shared.idle.empty()) {
      hands_.push_back(shared.idle.back());
      shared.idle.pop_back();
      continue;
    }
    try {
      shared.idle.reserve(shared.hands + 1);  // so that giving hands back never fails
      std::unique_ptr<Hand> hand(new Hand);
      std::thread([at = hand.get()] { at->work(); }).detach();
      hands_.push_back(hand.release());
      ++shared.hands;
    } catch (const std::exception&) {  // no more threads or memory: fewer hands do
      return;
    }
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

#if defined(__linux__)

namespace {

// Physical cores behind a set of hardware threads.
int cores_of(const cpu_set_t& set) {
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    std::string siblings;
    std::ifstream(folder + "thread_siblings_list") >> siblings;
    cores.insert(siblings.empty() ? std::to_string(cpu) : siblings);
  }
  return std::max(1, static_cast<int>(cores.size()));
}

// Whole processors that a container's quota of time is worth; `most` where there is no quota.
int within_quota(int most) {
  double quota = 0, period = 0;  // a quota of "max", or -1, is none
  if (!(std::ifstream("/sys/fs/cgroup/cpu.max") >> quota >> period)) {
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  }
  if (quota <= 0 || period <= 0) return most;
  return std::max(1, std::min(most, static_cast<int>(quota / period)));
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  // Asked before every call; the files are read again only where the set of processors changed.
  static std::mutex mutex;
  static cpu_set_t known;
  static int cores = 0;
  std::lock_guard<std::mutex> lock(mutex);
  if (cores == 0 || !CPU_EQUAL(&known, &set)) {
    known = set;
    cores = within_quota(cores_of(set));
  }
  return cores;
}

#else

int usable_cores() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

#endif

int default_threads(size_t model_bytes, int streams) {
  const int cores = usable_cores();
  // Several streams share no vector, so each thread takes its own. A single one is split only where
  // the weights outgrow a core's own cache: then more cores bring more of them.
  if (streams > 1) return std::min({cores, streams, kMostThreads});
  const size_t parts = model_bytes / (size_t{3} << 19);
  return static_cast<int>(
      std::max<size_t>(1, std::min<size_t>({parts, size_t(cores), kMostThreads})));
}

}  // namespace srnn
