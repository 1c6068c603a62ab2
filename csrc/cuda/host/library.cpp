#include "library.h"

#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#endif

namespace srnn::cuda {

#if defined(__linux__)

Library::Library(const std::string& name, const std::string& advice) : path_(name) {
  handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) {
    const char* reason = dlerror();
    throw Error("cannot open " + std::string(reason != nullptr ? reason : name) + advice);
  }
  struct link_map* found = nullptr;
  if (dlinfo(handle_, RTLD_DI_LINKMAP, &found) == 0) path_ = found->l_name;
}

void* Library::address(const char* symbol) const {
  void* found = dlsym(handle_, symbol);
  if (found == nullptr) throw Error(path_ + " has no " + symbol + ": it is too old, update it");
  return found;
}

#else

Library::Library(const std::string& name, const std::string&) : path_(name) {
  throw Error(name + ": the cuda backend runs on Linux only, use another");
}

void* Library::address(const char*) const { return handle_; }

#endif

}  // namespace srnn::cuda
