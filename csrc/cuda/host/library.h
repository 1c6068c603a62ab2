// A shared library that is opened while the program runs.
#pragma once

#include <stdexcept>
#include <string>

namespace srnn::cuda {

// What a CUDA library refused: one line that names the call, the error, and what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Never closed: CUDA's libraries leave threads and exit handlers behind.
class Library {
 public:
  // name: a path, or a file name that the system looks for. Throws Error, which ends with `advice`.
  explicit Library(const std::string& name, const std::string& advice = "");

  // Throws Error if the library has no such function.
  template <typename Function>
  void find(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(address(symbol));
  }

  // The file that was opened.
  const std::string& path() const { return path_; }

 private:
  void* address(const char* symbol) const;

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace srnn::cuda
