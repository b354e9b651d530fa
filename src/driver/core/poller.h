// Poller: epoll with a callback for each descriptor.
//
// A callback may add and remove watches, its own included; an event that the kernel reported for a
// watch removed since is dropped, even if the descriptor's number is in use again.
//
// Thread safety: one thread. Errors: std::system_error when the kernel has no room for a watch.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>

#include "window/unique_fd.h"

namespace shunt::driver {

class Poller {
 public:
  using Token = std::uint64_t;  // 0 names no watch
  using Callback = std::function<void(std::uint32_t events)>;

  Poller();

  Token add(int fd, std::uint32_t events, Callback callback);
  void modify(Token token, std::uint32_t events);
  // Before the descriptor is closed. Does nothing for 0.
  void remove(Token token);

  // Runs whenever wait() has slept, before every other callback.
  void first_of_all(std::function<void()> callback) { first_ = std::move(callback); }

  static constexpr std::chrono::microseconds kForever{-1};
  // Runs the callbacks of what is ready; returns how many ran.
  int wait(std::chrono::microseconds limit);

 private:
  struct Watch {
    int fd;
    std::shared_ptr<Callback> callback;
  };
  window::UniqueFd epoll_;
  Token next_ = 1;
  std::function<void()> first_;
  std::unordered_map<Token, Watch> watches_;
};

}  // namespace shunt::driver
