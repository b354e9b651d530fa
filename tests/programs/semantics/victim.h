// A thread that is cancelled, and what must still work afterwards, for the cancellation cases.
#pragma once

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "net.h"

namespace shunt::test {

inline constexpr auto kToFallAsleep = std::chrono::milliseconds(40);

// A thread that can be cancelled. One that does not end is a failure that ends the program.
class Victim {
 public:
  explicit Victim(std::function<void()> body) : body_(std::move(body)) {
    if (pthread_create(&thread_, nullptr, &run, this) != 0) std::abort();
  }
  ~Victim() {
    if (!joined_) join();
  }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;

  void cancel() { EXPECT_EQ(pthread_cancel(thread_), 0); }
  void interrupt(int signal) { EXPECT_EQ(pthread_kill(thread_, signal), 0); }
  bool join() {  // true: it was cancelled
    timespec until{};
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += kWaitMs / 1000;
    void* result = nullptr;
    if (pthread_timedjoin_np(thread_, &result, &until) != 0) {
      std::puts("the thread does not end");
      std::fflush(nullptr);
      std::abort();
    }
    joined_ = true;
    return result == PTHREAD_CANCELED;
  }
  bool cancel_asleep() {
    std::this_thread::sleep_for(kToFallAsleep);
    cancel();
    return join();
  }
  int cleaned() const { return cleaned_; }  // how often the clean-up handlers ran

 private:
  struct Guard {
    Victim* victim;
    ~Guard() { ++victim->cleaned_; }
  };
  static void* run(void* self) {
    const Guard guard{static_cast<Victim*>(self)};
    guard.victim->body_();
    return nullptr;
  }

  std::function<void()> body_;
  pthread_t thread_{};
  std::atomic<int> cleaned_{0};
  bool joined_ = false;
};

// Another thread sleeps on the connection and is woken, bytes go both ways, and a close is seen.
inline void expect_usable(Pair& p) {
  {
    Later later([&] { send_all(p.client, "first"); });
    char bytes[5];
    EXPECT_EQ(recv(p.server, bytes, 5, MSG_WAITALL), 5) << std::strerror(errno);
    EXPECT_EQ(std::string(bytes, 5), "first");
  }
  expect_echo(p.client, p.server, pattern(3000, 2));
  expect_echo(p.server, p.client, pattern(300'000, 3));
  p.server.reset();
  expect_eof(p.client);
}

// Something has come, and is thrown away.
inline void expect_drained(int fd) {
  char bytes[64];
  EXPECT_GT(recv(fd, bytes, sizeof bytes, MSG_DONTWAIT), 0) << std::strerror(errno);
}

}  // namespace shunt::test
