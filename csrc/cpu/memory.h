// Aligned memory: the buffers of a call, and one arena that holds all weights of a model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace srnn {

constexpr size_t kCacheLine = 64;  // bytes

// An array that starts zeroed and aligned to a cache line, and is never resized.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count)
      : bytes_(new unsigned char[count * sizeof(T) + kCacheLine]()), count_(count) {
    const size_t misfit = reinterpret_cast<uintptr_t>(bytes_.get()) % kCacheLine;
    data_ = reinterpret_cast<T*>(bytes_.get() + (misfit ? kCacheLine - misfit : 0));
  }
  T* data() const { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) const { return data_[i]; }

 private:
  std::unique_ptr<unsigned char[]> bytes_;
  T* data_ = nullptr;
  size_t count_ = 0;
};

// Memory for weights, which lie side by side in blocks of huge pages. The engine reads tens of
// megabytes a sample, and with small pages the misses of the address cache (TLB) would cost as much
// as the loads.
class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Returns zeroed memory for `count` values, aligned to a cache line; it lives as long as the
  // arena.
  template <class T>
  T* take(size_t count) {
    return static_cast<T*>(take_bytes(count * sizeof(T)));
  }
  size_t bytes() const { return used_; }

 private:
  void* take_bytes(size_t bytes);

  std::vector<void*> blocks_;
  unsigned char* next_ = nullptr;
  size_t left_ = 0, used_ = 0;
};

}  // namespace srnn
