#include "guarded.h"

#include <signal.h>
#include <sys/mman.h>

#include <memory>
#include <mutex>

namespace simt {

Guarded::Guarded(const void* from, size_t bytes) : bytes_(bytes) {
  if (from == nullptr && bytes == 0) return;
  const size_t page = 4096, pages = (bytes + page - 1) / page * page;
  size_ = pages + page;
  void* at = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) std::abort();
  start_ = static_cast<unsigned char*>(at);
  mprotect(start_ + pages, page, PROT_NONE);
  data_ = start_ + pages - bytes;
  if (from != nullptr) std::memcpy(data_, from, bytes);
}

Guarded::~Guarded() {
  if (start_ != nullptr) munmap(start_, size_);
}

void Guarded::copy_to(void* to) const {
  if (to != nullptr) std::memcpy(to, data_, bytes_);
}

namespace {

void on_illegal_access(int, siginfo_t*, void*) {
  const Fibre& fibre = current();
  runtime->problem = "illegal access by thread " + std::to_string(fibre.thread) + " of block " +
                     std::to_string(fibre.block);
  _longjmp(runtime->scheduler, 1);
}

}  // namespace

std::string run_guarded(const Grid& grid, unsigned seed, const Faults& faults) {
  static std::mutex one_at_a_time;  // The handlers of signals belong to the whole process.
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  std::vector<std::unique_ptr<Guarded>> blocks;
  std::vector<unsigned char*> shared;
  for (int block = 0; block < grid.blocks; ++block) {
    blocks.push_back(std::make_unique<Guarded>(nullptr, grid.shared_bytes + 16));
    shared.push_back(blocks.back()->as<unsigned char>() + 16);
    grid.fill(shared.back());
  }
  static unsigned char signal_stack[1 << 16];
  stack_t stack = {};
  stack.ss_sp = signal_stack, stack.ss_size = sizeof(signal_stack);
  struct sigaction action = {}, before_segv = {}, before_bus = {};
  action.sa_sigaction = on_illegal_access;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  stack_t stack_before;
  sigaltstack(&stack, &stack_before);
  sigaction(SIGSEGV, &action, &before_segv);
  sigaction(SIGBUS, &action, &before_bus);
  const std::string problem =
      run(grid.blocks, grid.threads, grid.cluster_size, shared, grid.kernel, seed, faults);
  sigaction(SIGSEGV, &before_segv, nullptr);
  sigaction(SIGBUS, &before_bus, nullptr);
  sigaltstack(&stack_before, nullptr);
  return problem;
}

}  // namespace simt
