#include "nvrtc.h"

#include <algorithm>
#include <sstream>

namespace srnn::cuda {

namespace {

// Returns the first error of a log, and says how many more there are.
std::string first_complaint(const std::string& log) {
  std::istringstream lines(log);
  std::string line, first;
  int complaints = 0;
  while (std::getline(lines, line)) {
    if (line.find("error:") == std::string::npos) continue;
    if (complaints++ == 0) first = line;
  }
  if (complaints == 0) return log.empty() ? "no message" : log.substr(0, log.find('\n'));
  return complaints == 1 ? first : first + " (and " + std::to_string(complaints - 1) + " more)";
}

}  // namespace

Nvrtc::Nvrtc(const std::string& path) : library_(path) {
#define SRNN_CUDA_FIND(function, parameters) library_.find(api_.function, #function);
  SRNN_NVRTC_CALLS(SRNN_CUDA_FIND)
#undef SRNN_CUDA_FIND
  library_.find(api_.nvrtcGetErrorString, "nvrtcGetErrorString");
  check(api_.nvrtcVersion(&major_, &minor_), "nvrtcVersion");
}

void Nvrtc::check(Result result, const char* call) const {
  if (result == 0) return;
  throw Error(std::string(call) + " failed: " + api_.nvrtcGetErrorString(result) + " (" +
              library_.path() + ")");
}

std::vector<int> Nvrtc::archs() const {
  int count = 0;
  check(api_.nvrtcGetNumSupportedArchs(&count), "nvrtcGetNumSupportedArchs");
  std::vector<int> archs(count);
  check(api_.nvrtcGetSupportedArchs(archs.data()), "nvrtcGetSupportedArchs");
  return archs;
}

std::string Nvrtc::log(ProgramHandle program) const {
  size_t bytes = 0;
  if (api_.nvrtcGetProgramLogSize(program, &bytes) != 0 || bytes == 0) return "";
  std::string text(bytes, '\0');
  if (api_.nvrtcGetProgramLog(program, &text[0]) != 0) return "";
  return text.substr(0, text.find('\0'));
}

Compiled Nvrtc::compile(const Source& source, const std::vector<std::string>& options) const {
  std::vector<const char*> texts, names, flags;
  for (const auto& header : source.headers) {
    names.push_back(header.first.c_str());
    texts.push_back(header.second.c_str());
  }
  for (const std::string& option : options) flags.push_back(option.c_str());

  ProgramHandle program = nullptr;
  check(api_.nvrtcCreateProgram(&program, source.text.c_str(), source.name.c_str(),
                                static_cast<int>(names.size()), texts.data(), names.data()),
        "nvrtcCreateProgram");
  struct Destroyer {
    const NvrtcApi& api;
    ProgramHandle program;
    ~Destroyer() { api.nvrtcDestroyProgram(&program); }
  } destroyer{api_, program};

  const Result result =
      api_.nvrtcCompileProgram(program, static_cast<int>(flags.size()), flags.data());
  Compiled compiled;
  compiled.log = log(program);
  if (result != 0) {
    throw Error("NVRTC " + std::to_string(major_) + "." + std::to_string(minor_) +
                " does not compile " + source.name + ": " + api_.nvrtcGetErrorString(result) +
                ", " + first_complaint(compiled.log));
  }
  size_t bytes = 0;
  check(api_.nvrtcGetCUBINSize(program, &bytes), "nvrtcGetCUBINSize");
  if (bytes == 0) throw Error("nvrtcGetCUBIN gave nothing: --gpu-architecture must name an sm_XX");
  compiled.cubin.resize(bytes);
  check(api_.nvrtcGetCUBIN(program, &compiled.cubin[0]), "nvrtcGetCUBIN");
  return compiled;
}

}  // namespace srnn::cuda
