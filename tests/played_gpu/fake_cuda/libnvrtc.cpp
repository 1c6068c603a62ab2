// A stand-in for libnvrtc.so: the functions of csrc/cuda/host/driver_api.h. It writes source,
// headers and options into a folder and runs the command in FAKE_NVRTC_COMPILER with that folder.
// The command leaves a file `cubin` there, or prints messages and fails.
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "cuda/host/driver_api.h"

namespace api = srnn::cuda;
namespace fs = std::filesystem;

namespace srnn::cuda {
struct ProgramObject {
  fs::path folder;
  std::string log, cubin;
};
}  // namespace srnn::cuda

namespace {

constexpr int kCompilation = 6, kInvalidProgram = 4;
int version[2];
std::vector<int> archs;
int compilations;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

}  // namespace

extern "C" {

void fake_nvrtc_reset() {
  version[0] = 13, version[1] = 0;
  archs = {80, 86, 89, 90, 100};
  compilations = 0;
}
void fake_nvrtc_set_version(int major, int minor) { version[0] = major, version[1] = minor; }
int fake_nvrtc_compilations() { return compilations; }

const char* nvrtcGetErrorString(int result) {
  return result == kCompilation ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR_INTERNAL_ERROR";
}

int nvrtcVersion(int* major, int* minor) {
  *major = version[0], *minor = version[1];
  return 0;
}

int nvrtcGetNumSupportedArchs(int* count) {
  *count = static_cast<int>(archs.size());
  return 0;
}

int nvrtcGetSupportedArchs(int* out) {
  std::memcpy(out, archs.data(), archs.size() * sizeof(int));
  return 0;
}

int nvrtcCreateProgram(api::ProgramHandle* program, const char* source, const char* name,
                       int headers, const char* const* texts, const char* const* names) {
  std::string folder = (fs::temp_directory_path() / "fake-nvrtc-XXXXXX").string();
  if (mkdtemp(&folder[0]) == nullptr) return kInvalidProgram;
  *program = new api::ProgramObject{folder, "", ""};
  write((*program)->folder / "source", source);
  write((*program)->folder / "name", name);
  for (int i = 0; i < headers; ++i) write((*program)->folder / "headers" / names[i], texts[i]);
  return 0;
}

int nvrtcCompileProgram(api::ProgramHandle program, int count, const char* const* options) {
  ++compilations;
  std::string lines;
  for (int i = 0; i < count; ++i) lines += std::string(options[i]) + "\n";
  write(program->folder / "options", lines);
  const char* compiler = std::getenv("FAKE_NVRTC_COMPILER");
  const std::string command = std::string(compiler == nullptr ? "false" : compiler) + " " +
                              program->folder.string() + " 2>" + (program->folder / "log").string();
  const int status = std::system(command.c_str());
  program->log = read(program->folder / "log");
  program->cubin = read(program->folder / "cubin");
  return status == 0 ? 0 : kCompilation;
}

int nvrtcGetProgramLogSize(api::ProgramHandle program, size_t* bytes) {
  *bytes = program->log.size() + 1;
  return 0;
}

int nvrtcGetProgramLog(api::ProgramHandle program, char* log) {
  std::memcpy(log, program->log.c_str(), program->log.size() + 1);
  return 0;
}

int nvrtcGetCUBINSize(api::ProgramHandle program, size_t* bytes) {
  *bytes = program->cubin.size();
  return 0;
}

int nvrtcGetCUBIN(api::ProgramHandle program, char* cubin) {
  std::memcpy(cubin, program->cubin.data(), program->cubin.size());
  return 0;
}

int nvrtcDestroyProgram(api::ProgramHandle* program) {
  fs::remove_all((*program)->folder);
  delete *program;
  *program = nullptr;
  return 0;
}

}  // extern "C"

#define SRNN_LISTED(function, parameters) ::function,
[[maybe_unused]] static const api::NvrtcApi all = {
    SRNN_NVRTC_CALLS(SRNN_LISTED)::nvrtcGetErrorString};
[[maybe_unused]] static const bool ready = (fake_nvrtc_reset(), true);
