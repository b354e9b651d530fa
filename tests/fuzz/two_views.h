// Memory with two sides: the harness writes it as the peer would, the code under test has a read-only view.
//
// The view lies between inaccessible pages. show() says which bytes of it the code may look at: the address sanitizer
// takes any other access for an error, also one inside the mapping.
//
// Thread safety: none. One for each harness, for as long as the process lives.
#pragma once

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "fuzz/harness.h"

namespace shunt::fuzz {

class TwoViews {
 public:
  explicit TwoViews(std::size_t bytes) {  // a multiple of the page
    constexpr std::size_t kGuard = 4096;
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    require(fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0, "no memory object");
    void* both = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void* guarded =
        mmap(nullptr, bytes + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(both != MAP_FAILED && guarded != MAP_FAILED, "no mapping");
    void* inside = static_cast<std::uint8_t*>(guarded) + kGuard;
    require(mmap(inside, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == inside, "no mapping");
    close(fd);
    writable_ = static_cast<std::uint8_t*>(both);
    view_ = static_cast<const std::uint8_t*>(inside);
    __asan_poison_memory_region(view_, bytes);
  }

  void show(std::size_t offset, std::size_t bytes) {
    __asan_unpoison_memory_region(view_ + offset, bytes);
  }

  std::uint8_t* writable() const { return writable_; }
  const std::uint8_t* view() const { return view_; }

 private:
  std::uint8_t* writable_;
  const std::uint8_t* view_;
};

}  // namespace shunt::fuzz
