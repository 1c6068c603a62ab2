// A shared library that the program opens while it runs.
#pragma once

#include <stdexcept>
#include <string>

namespace srnn::cuda {

// An error of a CUDA library. Its message is one line with the call, the error, and what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An open library is never closed, because CUDA's libraries leave threads and exit handlers behind.
class Library {
 public:
  // Opens a path, or a file name that the system looks for. `advice` ends the text of its Error.
  explicit Library(const std::string& name, const std::string& advice = "");

  // Sets `function` to the library's function `symbol`. Throws Error if there is none.
  template <typename Function>
  void find(Function*& function, const char* symbol) const {
    function = reinterpret_cast<Function*>(address(symbol));
  }

  // The path of the file that was opened.
  const std::string& path() const { return path_; }

 private:
  void* address(const char* symbol) const;

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace srnn::cuda
