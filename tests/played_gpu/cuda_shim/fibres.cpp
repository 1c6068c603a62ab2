// The library of fibres.h. It is the same for all kernels, so it is compiled once, with -O2.
#include "fibres.h"

#include <memory>

namespace simt {

Runtime* runtime = nullptr;

static constexpr size_t kStackBytes = 48 * 1024;

// Returns the stack of a fibre. Stacks are kept for the launches that follow, which then need not
// ask the system for memory that is all zeros.
static char* stack_of(size_t fibre) {
  static std::vector<std::unique_ptr<char[]>> stacks;
  while (stacks.size() <= fibre) stacks.emplace_back(new char[kStackBytes]);
  return stacks[fibre].get();
}

static std::string text(const Place& place) {
  const std::string file = place.file;
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(place.line);
}

static void to_scheduler() {
  if (_setjmp(current().at) == 0) _longjmp(runtime->scheduler, 1);
}

static void fail(const std::string& problem) {
  if (runtime->problem.empty()) runtime->problem = problem;
  _longjmp(runtime->scheduler, 1);
}

void pause() {
  runtime->ready.push_back(runtime->current);
  to_scheduler();
}

void pause_sometimes() {
  if (runtime->random() % 8 == 0) pause();
}

Meeting& meet(Meeting& meeting, int slot, const Given& given, const Place& place) {
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
    meeting.seen.swap(meeting.given);
    meeting.computed = false;
    for (int member : meeting.waiting) {
      if (member != runtime->current) runtime->ready.push_back(member);
    }
    meeting.waiting.clear();
    pause();
  }
  return meeting;
}

static std::string name_of(int barrier) {
  return "barrier " + std::to_string(barrier) + " of block " + std::to_string(current().block);
}

// Comes to a barrier of some threads. Returns whether all have come now; then it is ready for the
// next meeting, and those that waited go on.
static bool come(int number, int threads, bool yes) {
  SomeBarrier& barrier = runtime->some[current().block].at(number);
  if (barrier.threads == 0) barrier.threads = threads;
  if (barrier.threads != threads) fail("different numbers of threads at " + name_of(number));
  if (barrier.came[current().thread]) fail("a thread is twice at " + name_of(number));
  barrier.came[current().thread] = true, ++barrier.number_came;
  barrier.any = barrier.any || yes;
  if (barrier.number_came < threads) return false;
  for (int waiting : barrier.waiting) runtime->ready.push_back(waiting);
  barrier.seen = barrier.any;
  barrier.threads = barrier.number_came = 0, barrier.any = false;
  barrier.came.assign(barrier.came.size(), false), barrier.waiting.clear();
  return true;
}

void arrive_at(int number, int threads) {
  come(number, threads, false);
  pause();
}

bool meet_some(int number, int threads, bool yes, const Place& place) {
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

static void arrive(Store& store) {
  if (store.owner >= 0 && runtime->threads_left[store.owner] == 0) {
    runtime->problem = "a store arrives in the shared memory of block " +
                       std::to_string(store.owner) + ", which has left";
    return;
  }
  std::memcpy(store.to, store.bytes, store.size);
}

// Lets one store arrive. Stores to one address arrive in their order, as they do on a GPU.
static void deliver_one(int block) {
  std::vector<Store>& queue = runtime->in_flight[block];
  const unsigned char* to = queue[runtime->random() % queue.size()].to;
  size_t at = 0;
  while (queue[at].to != to) ++at;
  arrive(queue[at]);
  queue.erase(queue.begin() + at);
  --runtime->stores_in_flight;
}

static void deliver_some() {
  const int blocks = static_cast<int>(runtime->in_flight.size());
  const int from = runtime->random() % blocks;
  for (int i = 0; i < blocks; ++i) {
    const int block = (from + i) % blocks;
    if (!runtime->in_flight[block].empty()) return deliver_one(block);
  }
}

void send(void* to, const void* bytes, int size, int owner) {
  if (runtime->stores++ == runtime->faults.lose_store) return;
  Store store;
  store.to = static_cast<unsigned char*>(to);
  store.size = size;
  store.owner = owner;
  std::memcpy(store.bytes, bytes, size);
  runtime->in_flight[current().block].push_back(store);
  ++runtime->stores_in_flight;
}

void release() {
  while (!runtime->in_flight[current().block].empty()) deliver_one(current().block);
}

static void run_fibre() {
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

static std::string deadlock() {
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
static size_t pick_ready() {
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

static void schedule() {
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

std::string run(int blocks, int threads, int cluster_size,
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
    getcontext(&fibre.start);
    fibre.start.uc_stack.ss_sp = stack_of(at);
    fibre.start.uc_stack.ss_size = kStackBytes;
    makecontext(&fibre.start, run_fibre, 0);
    r.barriers[fibre.block].members.push_back(at);
    r.clusters[fibre.block / cluster_size].members.push_back(at);
    r.warps[at / kWarp].members.push_back(at);
    r.ready.push_back(at);
  }
  for (std::vector<Meeting>* kind : {&r.barriers, &r.warps, &r.clusters}) {
    for (Meeting& meeting : *kind) {
      meeting.given.resize(meeting.members.size());
      meeting.seen = meeting.given;
    }
  }
  for (auto& barriers : r.some) {
    for (SomeBarrier& barrier : barriers) barrier.came.assign(threads, false);
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
