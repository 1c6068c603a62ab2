// Runs a CUDA grid on a CPU: every thread is a fibre, and a seeded scheduler picks who goes on.
//
// It models barriers of blocks, of some threads and of clusters, and warp collectives, and fails
// when threads meet at different ones or when one of them leaves. It models stores to other blocks,
// which arrive late and out of order unless a release orders them, and fails when the block that
// owns the memory has left. It models spinning and a clock. When no thread can go on, it reports
// which threads wait where. It does not model reordered loads or speed. Only prims_shim.h switches
// fibres. fibres.cpp and guarded.cpp are a library, which is compiled once for all kernels.
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

struct Fibre {
  ucontext_t start;
  jmp_buf at;
  bool started = false, done = false, waits = false;
  int block = 0, thread = 0;
  Place place;
};

typedef std::array<uint64_t, 3> Given;  // the numbers that one thread brings to a meeting

// Threads that meet: those of a block or a cluster at a barrier, or the 32 lanes of a warp.
struct Meeting {
  std::vector<int> members, waiting;
  std::vector<Given> given, seen;  // what each thread brought; what all threads see afterwards
  uint64_t together = 0;           // what `together_of` has computed from all that was seen
  bool computed = false;
  Place place;

  // Returns of(seen), which the first thread that asks computes for all.
  template <class Of>
  uint64_t together_of(const Of& of) {
    if (!computed) together = of(seen), computed = true;
    return together;
  }
};

// One of the barriers of a block where only some threads meet, which are those that come. A thread
// may come without waiting.
struct SomeBarrier {
  int threads = 0;         // how many meet, or 0 before the first of them has come
  std::vector<bool> came;  // for each thread of the block
  int number_came = 0;
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

extern Runtime* runtime;

// Returns the first block of a block's cluster.
inline int first_of_cluster(int block) {
  return block / runtime->cluster_size * runtime->cluster_size;
}

inline Fibre& current() { return runtime->fibres[runtime->current]; }

// Lets other fibres run first: always, or now and then.
void pause();
void pause_sometimes();

// Waits for the other members of a meeting, and returns it with what each of them brought.
Meeting& meet(Meeting& meeting, int slot, const Given& given, const Place& place);

// Comes to one of the barriers of some threads of this block without waiting there.
void arrive_at(int number, int threads);

// Waits at a barrier of some threads. Returns whether any of them passed true.
bool meet_some(int number, int threads, bool yes, const Place& place);

// Stores to memory that other blocks read, or to that of the block `owner`. It arrives later.
void send(void* to, const void* bytes, int size, int owner = -1);

// Lets all stores of this block arrive.
void release();

// Runs kernel() in blocks x threads fibres, in clusters of cluster_size blocks. Returns "" or a
// message that says what went wrong. It must not run twice at the same time: see run_guarded.
std::string run(int blocks, int threads, int cluster_size,
                const std::vector<unsigned char*>& shared, void (*kernel)(), unsigned seed,
                const Faults& faults);

}  // namespace simt
