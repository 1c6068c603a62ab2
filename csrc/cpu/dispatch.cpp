// Chooses the instruction set at run time, so that one program serves every machine.
#include <stdexcept>

#include "engine.h"
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace srnn {

// Makes the kernels of one instruction set; returns null if it does not have the mode.
typedef std::unique_ptr<const Kernels> MakeKernels(const std::string& mode);

MakeKernels make_kernels_baseline;
#if defined(__x86_64__)
MakeKernels make_kernels_avx2, make_kernels_avx512, make_kernels_avx512_vnni, make_kernels_amx;
bool tiles_work_amx();
#endif

namespace {

struct Isa {
  const char* name;
  bool (*here)();
  MakeKernels* make;
};

#if defined(SRNN_EMULATED)  // tests run the text of wide instruction sets on a machine with AVX2
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
[[maybe_unused]] bool has_avx512() { return has_avx2(); }
[[maybe_unused]] bool has_vnni() { return has_avx2(); }
#elif defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
[[maybe_unused]] bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
[[maybe_unused]] bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif

#if defined(__x86_64__) && !defined(SRNN_NO_AMX)
// Tile registers need a processor that has them, a system that saves them, and the system's
// permission for this process. They also have to pass a test before the engine relies on them.
bool has_amx() {
#if defined(SRNN_EMULATED)
  return has_avx2() && tiles_work_amx();
#elif defined(__linux__)
  unsigned a, b, c, d;
  if (!has_vnni() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kBfloat16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  constexpr unsigned kNeeded = kBfloat16 | kTile | kInt8;
  if ((d & kNeeded) != kNeeded) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  static const bool usable =
      syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 && tiles_work_amx();
  return usable;
#else
  return false;
#endif
}
#endif

const Isa kIsas[] = {
#if defined(__x86_64__)
#if !defined(SRNN_NO_AMX)
    {"amx", has_amx, make_kernels_amx},
#endif
#if !defined(SRNN_NO_AVX512_VNNI)
    {"avx512_vnni", has_vnni, make_kernels_avx512_vnni},
#endif
#if !defined(SRNN_NO_AVX512)
    {"avx512", has_avx512, make_kernels_avx512},
#endif
    {"avx2", has_avx2, make_kernels_avx2},
#endif
    {"baseline", [] { return true; }, make_kernels_baseline},
};

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas) {
    if (isa.here()) names.push_back(isa.name);
  }
  return names;
}

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas) names.push_back(isa.name);
  return names;
}

std::unique_ptr<const Kernels> make_kernels(const std::string& isa, const std::string& mode) {
  for (const Isa& candidate : kIsas) {
    if (!candidate.here() || (!isa.empty() && isa != candidate.name)) continue;
    std::unique_ptr<const Kernels> kernels = candidate.make(mode);
    if (kernels != nullptr) return kernels;
    throw std::invalid_argument("numeric mode must be float32, bfloat16, int8 or int4, got " +
                                mode);
  }
  throw std::invalid_argument("instruction set " + isa + " is not available on this machine");
}

}  // namespace srnn
