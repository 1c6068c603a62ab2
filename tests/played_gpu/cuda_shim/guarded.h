// Runs a grid of fibres on memory whose end is guarded: the page behind each array is protected, so
// that a read or write past its end is caught. guarded.cpp is a part of the library of the fibres.
#pragma once

#include "fibres.h"

namespace simt {

// A copy of `bytes` at `from`, or so many zeros where it is null, at the end of its own pages.
class Guarded {
 public:
  Guarded(const void* from, size_t bytes);
  Guarded(const Guarded&) = delete;
  ~Guarded();
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  // Copies what is there now to `to`, unless that is null.
  void copy_to(void* to) const;

 private:
  size_t bytes_, size_ = 0;
  unsigned char *start_ = nullptr, *data_ = nullptr;
};

struct Grid {
  int blocks, threads, cluster_size;
  size_t shared_bytes;
  // Makes what the shared memory of a block holds at the start.
  void (*fill)(unsigned char* shared);
  void (*kernel)();
};

// Runs one launch, and then those of other threads that call it meanwhile. Returns "" or what went
// wrong.
std::string run_guarded(const Grid& grid, unsigned seed, const Faults& faults);

}  // namespace simt
