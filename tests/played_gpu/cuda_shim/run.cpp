// Launches the persistent kernel, or the kernels of its stages, under the shim. Every array is a
// guarded copy. What every kernel needs alike is in guarded.cpp, which is compiled once for all.
#define SRNN_SHIM
#if SRNN_EXCHANGE == 3
#include "cuda/device/stages.cuh"
#else
#include "cuda/device/persistent.cuh"
#endif
#include "guarded.h"
#include "launches.h"

namespace {

using namespace srnn;

struct Kernel {
  const char* name;
  void (*run)(Params, Stage);
};
#if SRNN_EXCHANGE == 3
#define SRNN_NAMED(kernel) {#kernel, kernel},
const Kernel kernels[] = {SRNN_STAGES(SRNN_NAMED)};
#else
const Kernel kernels[] = {{"srnn_generate", [](Params p, Stage) { srnn_generate(p); }}};
#endif

Params params;
const Kernel* kernel;
Stage stage;
std::string message;

// Makes `launch` the next one. Its kernel is null where there is none of that name.
void choose(const Launch& launch) {
  kernel = nullptr;
  for (const Kernel& one : kernels) {
    if (std::strcmp(one.name, launch.kernel) == 0) kernel = &one;
  }
  stage = launch.stage;
}

// Fills the shared memory of a block with NaN, and with packets of an earlier launch that have
// valid sequence numbers.
void fill_shared(unsigned char* shared) {
  std::memset(shared, 0xff, kResidents.end);
  for (uint64_t at = 0; kCluster && at < kExchangeBytes; at += 16) {
    const uint32_t sequence = at / 16 % 4;
    for (const int word : {kSmallPackets ? 4 : 12, 12}) {
      std::memcpy(shared + kArrays.exchange + at + word, &sequence, sizeof(sequence));
    }
  }
}

const simt::Grid grid = {kGroups * kBlocks, kTeams * kThreads, kCluster ? kBlocks : 1,
                         kResidents.end,    fill_shared,       [] { kernel->run(params, stage); }};

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
    return simt::Guarded(from, from == nullptr ? 0 : bytes);
  };
  const simt::Guarded weights(p.weights, kOffsets.end), hidden(p.hidden, states * 4),
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
    choose(launches[i]);
    message = kernel == nullptr ? std::string("no kernel ") + launches[i].kernel
                                : simt::run_guarded(grid, seed + i, faults);
  }
  new_hidden.copy_to(given->new_hidden), levels.copy_to(given->levels), error.copy_to(given->error);
  logits.copy_to(given->logits), workspace.copy_to(given->workspace);
  profile.copy_to(given->profile);
  return message.empty() ? nullptr : message.c_str();
}
