// Runs a CUDA grid on a CPU: every thread is a fibre, and a seeded scheduler picks who goes on.
//
// It models barriers of blocks, of some threads and of clusters, and warp collectives, and fails
// when threads meet at different ones or when one of them leaves. It models stores to other blocks,
// which arrive late and out of order unless a release orders them, and fails when the block that
// owns the memory has left. It models spinning and a clock. When no thread can go on, it reports
// which threads wait where. It does not model reordered loads or speed. Only prims_shim.h switches
// fibres.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace simt {

constexpr int kWarp = 32;

// The line of source text where a thread waits.
struct Place {
  const char* file = "";
  int line = 0;
  bool operator==(const Place& other) const { return line == other.line && file == other.file; }
};
inline std::string text(const Place& place) {
  const std::string file = place.file;
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(place.line);
}

struct Fibre {
  ucontext_t start;
  jmp_buf at;
  bool started = false, done = false, waits = false;
  int block = 0, thread = 0;
  Place place;
  std::vector<char> stack;
};

typedef std::array<uint64_t, 3> Given;  // the numbers that one thread brings to a meeting

// Threads that meet: those of a block or a cluster at a barrier, or the 32 lanes of a warp.
struct Meeting {
  std::vector<int> members, waiting;
  std::vector<Given> given, seen;  // what each thread brought; what all threads see afterwards
  Place place;
};

// One of the barriers of a block where only some threads meet, which are those that come. A thread
// may come without waiting.
struct SomeBarrier {
  int threads = 0;  // how many meet, or 0 before the first of them has come
  std::set<int> came;
  std::vector<int> waiting;
  bool any = false, seen = false;  // whether any thread passed true; what all see afterwards
  Place place;
};
constexpr int kBarriers = 16;

struct Store {
  unsigned char* to;
  unsigned char bytes[16];
  int size;
  int owner;  // the block whose shared memory it goes to, or -1 for global memory
};

struct Faults {
  long lose_store = -1;  // number of the store to other blocks that never arrives, from 0
};

struct Runtime {
  std::vector<Fibre> fibres;
  std::vector<int> ready;
  std::vector<Meeting> barriers, warps, clusters;
  std::vector<std::array<SomeBarrier, kBarriers>> some;  // for each block
  std::vector<int> threads_left;  // for each block, how many threads have not ended
  int cluster_size = 1;
  std::vector<std::vector<Store>> in_flight;  // for each block, its stores that have not arrived
  size_t stores_in_flight = 0;
  std::vector<unsigned char*> shared;
  std::mt19937 random;
  uint64_t clock = 0;
  Faults faults;
  long stores = 0;
  int current = 0, alive = 0;
  int slow = 0, slow_size = kWarp;  // which group of fibres is slow for a while, and their number
  jmp_buf scheduler;
  void (*kernel)() = nullptr;
  std::string problem;
};

inline Runtime* runtime = nullptr;

// Returns the first block of a block's cluster.
inline int first_of_cluster(int block) {
  return block / runtime->cluster_size * runtime->cluster_size;
}

inline Fibre& current() { return runtime->fibres[runtime->current]; }

inline void to_scheduler() {
  if (_setjmp(current().at) == 0) _longjmp(runtime->scheduler, 1);
}

inline void fail(const std::string& problem) {
  if (runtime->problem.empty()) runtime->problem = problem;
  _longjmp(runtime->scheduler, 1);
}

// Lets other fibres run first.
inline void pause() {
  runtime->ready.push_back(runtime->current);
  to_scheduler();
}

// Waits for the other members of a meeting, and returns what each of them brought.
inline const std::vector<Given>& meet(Meeting& meeting, int slot, const Given& given,
                                      const Place& place) {
  Fibre& me = current();
  if (meeting.waiting.empty()) meeting.place = place;
  if (!(meeting.place == place)) {
    fail("threads of block " + std::to_string(me.block) + " meet at " + text(meeting.place) +
         " and at " + text(place));
  }
  meeting.given[slot] = given;
  meeting.waiting.push_back(runtime->current);
  me.place = place;
  if (meeting.waiting.size() < meeting.members.size()) {
    me.waits = true;
    to_scheduler();
    me.waits = false;
  } else {
    meeting.seen = meeting.given;
    for (int member : meeting.waiting) {
      if (member != runtime->current) runtime->ready.push_back(member);
    }
    meeting.waiting.clear();
    pause();
  }
  return meeting.seen;
}

inline std::string name_of(int barrier) {
  return "barrier " + std::to_string(barrier) + " of block " + std::to_string(current().block);
}

// Comes to a barrier of some threads. Returns whether all have come now; then it is ready for the
// next meeting, and those that waited go on.
inline bool come(int number, int threads, bool yes) {
  SomeBarrier& barrier = runtime->some[current().block].at(number);
  if (barrier.threads == 0) barrier.threads = threads;
  if (barrier.threads != threads) fail("different numbers of threads at " + name_of(number));
  if (!barrier.came.insert(runtime->current).second)
    fail("a thread is twice at " + name_of(number));
  barrier.any = barrier.any || yes;
  if (static_cast<int>(barrier.came.size()) < threads) return false;
  for (int waiting : barrier.waiting) runtime->ready.push_back(waiting);
  barrier.seen = barrier.any;
  barrier.threads = 0, barrier.any = false;
  barrier.came.clear(), barrier.waiting.clear();
  return true;
}

inline void arrive_at(int number, int threads) {
  come(number, threads, false);
  pause();
}

// Waits at a barrier of some threads. Returns whether any of them passed true.
inline bool meet_some(int number, int threads, bool yes, const Place& place) {
  Fibre& me = current();
  SomeBarrier& barrier = runtime->some[me.block].at(number);
  if (barrier.waiting.empty()) barrier.place = place;
  if (!(barrier.place == place)) {
    fail("threads meet at " + text(barrier.place) + " and at " + text(place) + ", at " +
         name_of(number));
  }
  me.place = place;
  if (come(number, threads, yes)) {
    pause();
  } else {
    barrier.waiting.push_back(runtime->current);
    me.waits = true;
    to_scheduler();
    me.waits = false;
  }
  return barrier.seen;
}

inline void arrive(Store& store) {
  if (store.owner >= 0 && runtime->threads_left[store.owner] == 0) {
    runtime->problem = "a store arrives in the shared memory of block " +
                       std::to_string(store.owner) + ", which has left";
    return;
  }
  std::memcpy(store.to, store.bytes, store.size);
}

// Lets one store arrive. Stores to one address arrive in their order, as they do on a GPU.
inline void deliver_one(int block) {
  std::vector<Store>& queue = runtime->in_flight[block];
  const unsigned char* to = queue[runtime->random() % queue.size()].to;
  size_t at = 0;
  while (queue[at].to != to) ++at;
  arrive(queue[at]);
  queue.erase(queue.begin() + at);
  --runtime->stores_in_flight;
}

inline void deliver_some() {
  const int blocks = static_cast<int>(runtime->in_flight.size());
  const int from = runtime->random() % blocks;
  for (int i = 0; i < blocks; ++i) {
    const int block = (from + i) % blocks;
    if (!runtime->in_flight[block].empty()) return deliver_one(block);
  }
}

inline void send(void* to, const void* bytes, int size, int owner = -1) {
  if (runtime->stores++ == runtime->faults.lose_store) return;
  Store store;
  store.to = static_cast<unsigned char*>(to);
  store.size = size;
  store.owner = owner;
  std::memcpy(store.bytes, bytes, size);
  runtime->in_flight[current().block].push_back(store);
  ++runtime->stores_in_flight;
}

// Lets all stores of this block arrive.
inline void release() {
  while (!runtime->in_flight[current().block].empty()) deliver_one(current().block);
}

inline void run_fibre() {
  runtime->kernel();
  Fibre& me = current();
  const int cluster = me.block / runtime->cluster_size;
  for (Meeting* left : {&runtime->barriers[me.block], &runtime->clusters[cluster]}) {
    if (left->waiting.empty()) continue;
    fail("a thread of block " + std::to_string(me.block) + " has left, others wait at " +
         text(left->place));
  }
  for (const SomeBarrier& left : runtime->some[me.block]) {
    if (left.waiting.empty()) continue;
    fail("a thread of block " + std::to_string(me.block) + " has left, others wait at " +
         text(left.place));
  }
  me.done = true;
  --runtime->threads_left[me.block];
  --runtime->alive;
  _longjmp(runtime->scheduler, 1);
}

inline std::string deadlock() {
  std::map<std::string, int> waiting;
  for (const Fibre& fibre : runtime->fibres) {
    if (fibre.waits) ++waiting["block " + std::to_string(fibre.block) + " at " + text(fibre.place)];
  }
  std::string report = "deadlock:";
  for (const auto& [where, threads] : waiting) {
    report += " " + std::to_string(threads) + " threads of " + where + ";";
  }
  return report;
}

// Picks a ready fibre. It seldom picks one of the slow group (a warp or a block), because under a
// fair schedule all threads would stay close together.
inline size_t pick_ready() {
  Runtime& r = *runtime;
  if (r.clock == 1 || (r.clock % 2048 == 0 && r.random() % 8 == 0)) {
    r.slow_size = r.random() % 2 == 0 ? kWarp : static_cast<int>(r.barriers[0].members.size());
    r.slow = r.random() % (r.fibres.size() / r.slow_size);
  }
  size_t pick = r.random() % r.ready.size();
  for (int tries = 0; tries < 6 && r.ready[pick] / r.slow_size == r.slow; ++tries) {
    pick = r.random() % r.ready.size();
  }
  return pick;
}

inline void schedule() {
  Runtime& r = *runtime;
  while (r.alive > 0 && r.problem.empty()) {
    ++r.clock;
    if (r.stores_in_flight > 0 && (r.ready.empty() || r.random() % 2 == 0)) deliver_some();
    if (r.ready.empty()) {
      if (r.stores_in_flight > 0) continue;
      r.problem = deadlock();
      return;
    }
    const size_t pick = pick_ready();
    r.current = r.ready[pick];
    r.ready[pick] = r.ready.back();
    r.ready.pop_back();
    Fibre& next = r.fibres[r.current];
    if (_setjmp(r.scheduler) != 0) continue;
    if (next.started) _longjmp(next.at, 1);
    next.started = true;
    setcontext(&next.start);
  }
}

// Runs kernel() in blocks x threads fibres, in clusters of cluster_size blocks. Returns "" or a
// message that says what went wrong.
inline std::string run(int blocks, int threads, int cluster_size,
                       const std::vector<unsigned char*>& shared, void (*kernel)(), unsigned seed,
                       const Faults& faults) {
  Runtime r;
  runtime = &r;
  r.random.seed(seed);
  r.kernel = kernel;
  r.faults = faults;
  r.shared = shared;
  r.alive = blocks * threads;
  r.in_flight.resize(blocks);
  r.barriers.resize(blocks);
  r.some.resize(blocks);
  r.cluster_size = cluster_size;
  r.clusters.resize(blocks / cluster_size);
  r.threads_left.assign(blocks, threads);
  r.warps.resize(blocks * threads / kWarp);
  r.fibres.resize(r.alive);
  for (int at = 0; at < r.alive; ++at) {
    Fibre& fibre = r.fibres[at];
    fibre.block = at / threads, fibre.thread = at % threads;
    fibre.stack.resize(48 * 1024);
    getcontext(&fibre.start);
    fibre.start.uc_stack.ss_sp = fibre.stack.data();
    fibre.start.uc_stack.ss_size = fibre.stack.size();
    makecontext(&fibre.start, run_fibre, 0);
    r.barriers[fibre.block].members.push_back(at);
    r.clusters[fibre.block / cluster_size].members.push_back(at);
    r.warps[at / kWarp].members.push_back(at);
    r.ready.push_back(at);
  }
  for (std::vector<Meeting>* kind : {&r.barriers, &r.warps, &r.clusters}) {
    for (Meeting& meeting : *kind) meeting.given.resize(meeting.members.size());
  }
  schedule();
  if (r.problem.empty()) {  // the end of a launch makes all stores visible
    for (std::vector<Store>& queue : r.in_flight) {
      for (Store& store : queue) arrive(store);
    }
  }
  const std::string problem = r.problem;
  runtime = nullptr;
  return problem;
}

}  // namespace simt
