#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace srnn {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;
size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }
}  // namespace

Arena::~Arena() {
  for (void* block : blocks_) std::free(block);
}

void* Arena::take_bytes(size_t bytes) {
  bytes = round_up(bytes, kCacheLine);
  used_ += bytes;
  if (bytes > left_) {
    const size_t size = round_up(bytes, kHugePage);
    blocks_.reserve(blocks_.size() + 1);
    void* block = nullptr;  // older C libraries have no aligned_alloc
    if (posix_memalign(&block, kHugePage, size) != 0) throw std::bad_alloc();
    blocks_.push_back(block);
#if defined(__linux__)
    madvise(block, size, MADV_HUGEPAGE);
#endif
    std::memset(block, 0, size);
    next_ = static_cast<unsigned char*>(block);
    left_ = size;
  }
  void* found = next_;
  next_ += bytes;
  left_ -= bytes;
  return found;
}

}  // namespace srnn
