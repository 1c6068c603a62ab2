// NVRTC, CUDA's run-time compiler: source text in, machine code of one GPU architecture out.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "driver_api.h"
#include "library.h"

namespace srnn::cuda {

struct Source {
  std::string name;                            // in messages
  std::string text;                            // the kernel file
  std::map<std::string, std::string> headers;  // what it includes: name -> text
};

struct Compiled {
  std::string cubin;
  std::string log;  // warnings, and what --ptxas-options=-v reports
};

class Nvrtc {
 public:
  // Throws Error if the file is no NVRTC, or one of before CUDA 11.2.
  explicit Nvrtc(const std::string& path);

  int major() const { return major_; }
  int minor() const { return minor_; }
  const std::string& path() const { return library_.path(); }
  // Compute capabilities it compiles for: 80 is sm_80.
  std::vector<int> archs() const;

  // options: among them --gpu-architecture=sm_XX, which asks for machine code and not PTX. Throws
  // Error with the compiler's first complaint.
  Compiled compile(const Source& source, const std::vector<std::string>& options) const;

 private:
  void check(Result result, const char* call) const;
  std::string log(ProgramHandle program) const;

  Library library_;
  NvrtcApi api_;
  int major_ = 0, minor_ = 0;
};

}  // namespace srnn::cuda
