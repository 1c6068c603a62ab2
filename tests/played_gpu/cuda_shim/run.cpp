// Launches the persistent kernel, or the kernels of its stages, under the shim. Every array is
// copied to the end of its own pages, and the page behind it is protected, so a read or write past
// its end is caught.
#define SRNN_SHIM
#include <signal.h>
#include <sys/mman.h>

#if SRNN_EXCHANGE == 3
#include "cuda/device/stages.cuh"
#else
#include "cuda/device/persistent.cuh"
#endif
#include "launches.h"

namespace {

using namespace srnn;

class Guarded {
 public:
  Guarded(const void* from, size_t bytes) : bytes_(bytes) {
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
  Guarded(const Guarded&) = delete;
  ~Guarded() {
    if (start_ != nullptr) munmap(start_, size_);
  }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  void copy_to(void* to) const {
    if (to != nullptr) std::memcpy(to, data_, bytes_);
  }

 private:
  size_t bytes_, size_ = 0;
  unsigned char *start_ = nullptr, *data_ = nullptr;
};

typedef void (*Run)(Params, Stage);
#if SRNN_EXCHANGE == 3
#define SRNN_NAMED(kernel) {#kernel, kernel},
const std::map<std::string, Run> kernels = {SRNN_STAGES(SRNN_NAMED)};
#else
void whole(Params p, Stage) { srnn_generate(p); }
const std::map<std::string, Run> kernels = {{"srnn_generate", whole}};
#endif

Params params;
Launch launch;
std::string message;

void on_illegal_access(int, siginfo_t*, void*) {
  const simt::Fibre& fibre = simt::current();
  simt::runtime->problem = "illegal access by thread " + std::to_string(fibre.thread) +
                           " of block " + std::to_string(fibre.block);
  _longjmp(simt::runtime->scheduler, 1);
}

// Runs one launch. Its shared memory holds NaN at the start. Returns "" or what went wrong.
std::string run(unsigned seed, const simt::Faults& faults) {
  std::vector<Guarded*> blocks;
  std::vector<unsigned char*> shared;
  for (int block = 0; block < kGroups * kBlocks; ++block) {
    blocks.push_back(new Guarded(nullptr, kResidents.end + 16));
    shared.push_back(blocks.back()->as<unsigned char>() + 16);
    std::memset(shared.back(), 0xff, kResidents.end);  // NaN
    for (uint64_t at = 0; kCluster && at < kExchangeBytes; at += 16) {
      // An earlier launch may have left packets with valid sequence numbers.
      const uint32_t sequence = at / 16 % 4;
      for (const int word : {kSmallPackets ? 4 : 12, 12}) {
        std::memcpy(shared.back() + kArrays.exchange + at + word, &sequence, sizeof(sequence));
      }
    }
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
  const std::string problem = simt::run(
      kGroups * kBlocks, kTeams * kThreads, kCluster ? kBlocks : 1, shared,
      [] { kernels.at(launch.kernel)(params, launch.stage); }, seed, faults);
  sigaction(SIGSEGV, &before_segv, nullptr);
  sigaction(SIGBUS, &before_bus, nullptr);
  sigaltstack(&stack_before, nullptr);
  for (Guarded* one : blocks) delete one;
  return problem;
}

}  // namespace

// Runs launches one after another on copies of the arrays of `given`. The workspace may be null;
// then it is zero at the start. Returns null, or a message that says what went wrong.
extern "C" const char* srnn_shim_launch(const Params* given, const Launch* launches, int count,
                                        unsigned seed, long lose_store) {
  Params& p = params;
  p = *given;
  const size_t batch = kAllStreams, steps = p.steps, rows = batch * steps;
  const size_t states = size_t{1} * kTiers * kLayers * batch * kStateWidth;
  const auto array = [](const void* from, size_t bytes) {
    return Guarded(from, from == nullptr ? 0 : bytes);
  };
  const Guarded weights(p.weights, kOffsets.end), hidden(p.hidden, states * 4),
      new_hidden(p.new_hidden, states * 4), history(p.history, batch * kLookback * 4),
      levels(p.levels, rows * 4), temperature(p.temperature, rows * 4),
      drawings(p.drawings, batch * sizeof(StreamDrawing)), error(p.error, kErrorWords * 4),
      workspace(p.workspace, kWorkspaceEnd),
      profile = array(p.profile, (kPhases + 1) * kPhaseNumbers * 8),
      forced = array(p.forced, rows * 4), logits = array(p.logits, rows * kLevels * 4);
  p.weights = weights.as<const unsigned char>(), p.hidden = hidden.as<const float>();
  p.new_hidden = new_hidden.as<float>();
  p.history = history.as<const int32_t>(), p.levels = levels.as<int32_t>();
  p.temperature = temperature.as<const float>(), p.drawings = drawings.as<const StreamDrawing>();
  p.error = error.as<uint32_t>();
  p.workspace = workspace.as<unsigned char>(), p.profile = profile.as<uint64_t>();
  p.forced = forced.as<const int32_t>(), p.logits = logits.as<float>();
  simt::Faults faults;
  faults.lose_store = lose_store;
  message.clear();
  for (int i = 0; i < count && message.empty(); ++i) {
    launch = launches[i];
    message = run(seed + i, faults);
  }
  new_hidden.copy_to(given->new_hidden), levels.copy_to(given->levels), error.copy_to(given->error);
  logits.copy_to(given->logits), workspace.copy_to(given->workspace);
  profile.copy_to(given->profile);
  return message.empty() ? nullptr : message.c_str();
}
