// StrangerFd: a descriptor that a program sent, or a socket on which programs can send some.
//
// The last close of such a descriptor takes as long as its sender likes: a TCP socket that lingers, a file of a file
// system that the sender serves, a socket in whose queue one of these lies. It must not be the loop that waits for
// that. So a StrangerFd is handed to threads of the process's own, which close it and touch nothing else; one
// more is started while all of them are at it, up to kClosersMax. When these are stuck too, what is to be closed
// waits, and crowded() says that nothing more is to be taken from programs that only ask.
//
// Nobody waits for the threads: they own nothing but what they close, and end with the process. What the other end
// is to see at once needs hang_up().
//
// Thread safety: an object is one thread's; the rest from any thread. Errors: none; a descriptor for which no thread
// can be started waits for the next one.
#pragma once

#include <cassert>
#include <cstddef>
#include <utility>

namespace shunt::driver {

inline constexpr std::size_t kClosersMax = 16;
inline constexpr std::size_t kUnclosedMax = 1024;

void close_elsewhere(int fd);
bool crowded();

class StrangerFd {
 public:
  StrangerFd() = default;
  explicit StrangerFd(int fd) : fd_(fd) {}
  StrangerFd(StrangerFd&& other) noexcept : fd_(other.release()) {}
  StrangerFd& operator=(StrangerFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  StrangerFd(const StrangerFd&) = delete;
  StrangerFd& operator=(const StrangerFd&) = delete;
  ~StrangerFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    assert(fd < 0 || fd != fd_);  // it would be closed
    if (fd_ >= 0) close_elsewhere(fd_);
    fd_ = fd;
  }
  // Of a socket of our own making: the other end sees the end now, whenever it will be closed.
  void hang_up();

 private:
  int fd_ = -1;
};

}  // namespace shunt::driver
