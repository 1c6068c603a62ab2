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
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace srnn {

namespace {

// How often a member checks the barrier before it sleeps: about ten microseconds. That is longer
// than running members drift apart, and far shorter than a time slice of the system.
constexpr int kSpins = 2000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The real-time priority of a thread, or none. A worker takes over that of the thread that borrows
// it: a thread that must not be late must not wait for workers that may be, and the next borrower
// gets no priority that it does not have itself.
struct Scheduling {
  int policy = 0, priority = 0;  // 0: none

  bool operator==(const Scheduling& other) const {
    return policy == other.policy && priority == other.priority;
  }

#if defined(__linux__)
  static Scheduling of_this_thread() {
    const int policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
    sched_param param = {};
    if ((policy != SCHED_RR && policy != SCHED_FIFO) || sched_getparam(0, &param) != 0) return {};
    return {policy, param.sched_priority};
  }

  // Where the system refuses, the thread goes on as it is. Once a thread has the flag, only some
  // users may take it away, so it is always set; a worker begins no threads.
  void apply(pid_t thread) const {
    sched_param param = {};
    param.sched_priority = priority;
    const int wanted = policy != 0 ? policy : SCHED_OTHER;
    static_cast<void>(sched_setscheduler(thread, wanted | SCHED_RESET_ON_FORK, &param));
  }
#else
  static Scheduling of_this_thread() { return {}; }
  void apply(int) const {}
#endif
};

}  // namespace

void Barrier::wait() {
  const unsigned epoch = epoch_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    epoch_.store(epoch + 1);
    // Both sides are sequentially consistent: the sleeper sees the new epoch or is seen itself.
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

// A thread of the pool, which sleeps until it gets a job.
struct Crew::Worker {
  std::mutex mutex;
  std::condition_variable changed;
  const std::function<void(int)>* job = nullptr;
  int rank = 0;
  Scheduling current;
#if defined(__linux__)
  pid_t thread = 0;  // its number, 0 until it runs
#else
  int thread = 0;
#endif

  void work() {
    begin();
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

  // Takes over a priority. The borrower calls it, which holds the lock, before it wakes the worker:
  // an ordinary thread that is woken would first wait for the programs beside it.
  void take(const Scheduling& wanted) {
    if (thread != 0 && !(wanted == current)) wanted.apply(thread);
    current = wanted;
  }

 private:
  void begin() {
#if defined(__linux__)
    std::lock_guard<std::mutex> lock(mutex);
    thread = static_cast<pid_t>(syscall(SYS_gettid));
    // The first borrower may have come already. What the thread inherited does not count.
    if (!(Scheduling::of_this_thread() == current)) current.apply(thread);
#endif
  }
};

namespace {

// The idle threads. A pool is never destroyed, because they may still wait when the process ends.
struct Pool {
  std::mutex mutex;
  std::vector<Crew::Worker*> idle;
  size_t workers = 0;
};

std::mutex pool_mutex;
Pool* current_pool = nullptr;

Pool& pool() {
  std::lock_guard<std::mutex> lock(pool_mutex);
#if defined(__unix__) || defined(__APPLE__)
  // A forked child has none of the threads of its parent, so it starts a pool of its own.
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
  workers_.reserve(threads - 1);
  Pool& shared = pool();
  std::lock_guard<std::mutex> lock(shared.mutex);
  while (static_cast<int>(workers_.size()) < threads - 1) {
    if (!shared.idle.empty()) {
      workers_.push_back(shared.idle.back());
      shared.idle.pop_back();
      continue;
    }
    try {
      shared.idle.reserve(shared.workers + 1);  // returning a worker must not fail
      std::unique_ptr<Worker> worker(new Worker);
      std::thread([at = worker.get()] { at->work(); }).detach();
      workers_.push_back(worker.release());
      ++shared.workers;
    } catch (const std::exception&) {  // without more threads or memory, fewer workers do the job
      return;
    }
  }
}

Crew::~Crew() {
  if (workers_.empty()) return;
  Pool& shared = pool();
  std::lock_guard<std::mutex> lock(shared.mutex);
  shared.idle.insert(shared.idle.end(), workers_.begin(), workers_.end());
}

void Crew::run(const std::function<void(int)>& job) {
  const Scheduling scheduling = workers_.empty() ? Scheduling() : Scheduling::of_this_thread();
  for (size_t i = 0; i < workers_.size(); ++i) {
    std::lock_guard<std::mutex> lock(workers_[i]->mutex);
    workers_[i]->job = &job;
    workers_[i]->rank = static_cast<int>(i) + 1;
    workers_[i]->take(scheduling);
    workers_[i]->changed.notify_all();
  }
  job(0);
  for (Worker* worker : workers_) {
    std::unique_lock<std::mutex> lock(worker->mutex);
    worker->changed.wait(lock, [&] { return worker->job == nullptr; });
  }
}

#if defined(__linux__)

namespace {

// Returns the number of physical cores that a set of hardware threads belongs to.
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

// Returns how many whole processors the time quota of a container is worth, at most `most`.
int within_quota(int most) {
  double quota = 0, period = 0;  // microseconds; "max" or -1 means that there is no quota
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
  // Every call of the engine asks this, so the files are read again only when the set changed.
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
  // Several streams have no vector in common, so each thread takes some of them. A single stream is
  // split only if the weights do not fit the cache of one core: more cores bring more cache.
  if (streams > 1) return std::min({cores, streams, kMostThreads});
  // The least bytes of weights that are worth another thread.
  constexpr size_t kBytesPerThread = size_t{3} << 19;
  const size_t parts = model_bytes / kBytesPerThread;
  return static_cast<int>(
      std::max<size_t>(1, std::min<size_t>({parts, size_t(cores), kMostThreads})));
}

}  // namespace srnn
