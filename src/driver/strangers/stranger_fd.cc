#include "driver/strangers/stranger_fd.h"

#include <sys/socket.h>

#include <cassert>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include "sys/kernel.h"

namespace shunt::driver {
namespace {

struct Closers {
  std::mutex mutex;
  std::condition_variable news;
  std::deque<int> waiting;
  std::size_t threads = 0;
  std::size_t idle = 0;
};

// Never destroyed: threads that are stuck may outlive everything.
Closers& closers() {
  static auto* const all = new Closers;
  return *all;
}

void close_for_ever() {
  Closers& c = closers();
  std::unique_lock lock(c.mutex);
  for (;;) {
    ++c.idle;
    c.news.wait(lock, [&c] { return !c.waiting.empty(); });
    --c.idle;
    const int fd = c.waiting.front();
    c.waiting.pop_front();
    lock.unlock();
    sys::close_received(fd);
    lock.lock();
  }
}

}  // namespace

void close_elsewhere(int fd) {
  assert(fd >= 0);
  Closers& c = closers();
  const std::lock_guard lock(c.mutex);
  assert(c.idle <= c.threads && c.threads <= kClosersMax);
  c.waiting.push_back(fd);
  // Those that were woken and have not come yet count as idle still.
  if (c.waiting.size() > c.idle && c.threads < kClosersMax) {
    try {
      std::thread(close_for_ever).detach();
      ++c.threads;
    } catch (const std::system_error&) {
      // Out of threads: the ones that are there have more to do.
    }
  }
  c.news.notify_one();
}

bool crowded() {
  Closers& c = closers();
  const std::lock_guard lock(c.mutex);
  return c.waiting.size() >= kUnclosedMax;
}

void StrangerFd::hang_up() {
  if (valid()) ::shutdown(fd_, SHUT_RDWR);
  reset();
}

}  // namespace shunt::driver
