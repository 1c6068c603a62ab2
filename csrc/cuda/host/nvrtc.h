// NVRTC, CUDA's run-time compiler. It compiles source text to machine code of one GPU architecture.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "driver_api.h"
#include "library.h"

namespace srnn::cuda {

struct Source {
  std::string name;                            // the name that messages give it
  std::string text;                            // the text of the kernel file
  std::map<std::string, std::string> headers;  // name in #include -> text
};

struct Compiled {
  std::string cubin;
  std::string log;  // warnings, and the report of --ptxas-options=-v
};

class Nvrtc {
 public:
  // Throws Error if the file is no NVRTC, or one that is older than CUDA 11.2.
  explicit Nvrtc(const std::string& path);

  int major() const { return major_; }
  int minor() const { return minor_; }
  const std::string& path() const { return library_.path(); }
  // The compute capabilities that it compiles for; 80 is sm_80.
  std::vector<int> archs() const;

  // options: must contain --gpu-architecture=sm_XX, which asks for machine code and not PTX. Throws
  // Error with the compiler's first message.
  Compiled compile(const Source& source, const std::vector<std::string>& options) const;

 private:
  void check(Result result, const char* call) const;
  std::string log(ProgramHandle program) const;

  Library library_;
  NvrtcApi api_;
  int major_ = 0, minor_ = 0;
};

}  // namespace srnn::cuda
