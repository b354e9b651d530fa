// Several threads on one socket.
#include <gtest/gtest.h>

#include <atomic>

#include "epoll_set.h"
#include "net.h"

namespace shunt::test {
namespace {

TEST(Threads, TwoWriters) {
  Pair p = connected_pair();
  constexpr int kLines = 20'000;
  auto write_lines = [&](char c) {
    const std::string line(32, c);
    for (int i = 0; i < kLines; ++i) send_all(p.client, line);
  };
  std::thread a(write_lines, 'a');
  std::thread b(write_lines, 'b');
  int count[2] = {0, 0};
  for (int i = 0; i < 2 * kLines; ++i) {
    const std::string line = recv_exact(p.server, 32);
    ASSERT_TRUE(line == std::string(32, line[0])) << "a write was torn: " << line;
    ++count[line[0] == 'b'];
  }
  a.join();
  b.join();
  EXPECT_EQ(count[0], kLines);
  EXPECT_EQ(count[1], kLines);
}

TEST(Threads, TwoReaders) {
  Pair p = connected_pair();
  std::atomic<std::size_t> bytes{0};
  std::atomic<std::uint64_t> sum{0};
  auto read_all = [&] {
    unsigned char block[777];
    for (;;) {
      const ssize_t n = recv(p.server, block, sizeof block, 0);
      if (n <= 0) return;
      bytes += static_cast<std::size_t>(n);
      for (ssize_t i = 0; i < n; ++i) sum += block[i];
    }
  };
  std::thread a(read_all);
  std::thread b(read_all);
  const std::string data = pattern(2 << 20, 21);
  std::uint64_t expected = 0;
  for (char c : data) expected += static_cast<unsigned char>(c);
  send_all(p.client, data);
  p.client.reset();
  a.join();
  b.join();
  EXPECT_EQ(bytes, data.size());
  EXPECT_EQ(sum, expected);
}

TEST(Threads, ReadAndWriteAtOnce) {
  Pair p = connected_pair();
  const std::string there = pattern(8 << 20, 22);
  const std::string back = pattern(8 << 20, 23);
  std::thread w1([&] { send_all(p.client, there); });
  std::thread w2([&] { send_all(p.server, back); });
  std::string got_back;
  std::thread r1([&] { got_back = recv_exact(p.client, back.size()); });
  EXPECT_TRUE(recv_exact(p.server, there.size()) == there);
  w1.join();
  w2.join();
  r1.join();
  EXPECT_TRUE(got_back == back);
}

TEST(Threads, EveryWaiterSeesTheEnd) {
  Pair p = connected_pair();
  std::atomic<int> ended{0};
  auto wait_for_end = [&] {
    char byte;
    if (recv(p.server, &byte, 1, 0) == 0) ++ended;
  };
  std::thread a(wait_for_end);
  std::thread b(wait_for_end);
  std::thread c([&] {
    if ((wait_for(p.server, POLLIN) & POLLIN) != 0) ++ended;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(40));
  shutdown(p.client, SHUT_WR);
  a.join();
  b.join();
  c.join();
  EXPECT_EQ(ended, 3);
}

TEST(Threads, OneReadsOnePolls) {
  Pair p = connected_pair();
  std::string got;
  std::thread reader([&] {
    char c;
    while (recv(p.server, &c, 1, 0) == 1) got += c;
  });
  for (int i = 0; i < 200; ++i) {
    send_all(p.client, "x");
    wait_for(p.server, POLLIN, 1);
  }
  p.client.reset();
  reader.join();
  EXPECT_EQ(got.size(), 200U);
}

// close() by another thread does not wake a reader on Linux; the connection lives until the call ends.
TEST(Threads, CloseDoesNotWakeAReader) {
  Pair p = connected_pair();
  std::string got(5, '\0');
  const int number = p.server;
  std::thread reader([&] {
    const ssize_t n = recv(number, got.data(), 5, 0);
    got.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(40));
  p.server.reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(send(p.client, "taken", 5, MSG_NOSIGNAL), 5);
  reader.join();
  EXPECT_EQ(got, "taken");
}

// Two threads sleep on one epoll set. The first is told and stays away; the next event is the second's.
TEST(Threads, OneEpollSetForTwo) {
  for (const std::uint32_t more : {std::uint32_t{EPOLLET}, std::uint32_t{0}}) {
    Pair p = connected_pair();
    Epoll epoll;
    epoll.add(p.server, EPOLLIN | more);
    std::atomic<int> told{0};
    auto wait_once = [&] {
      if (epoll.wait() != EPOLLIN) return;
      char byte;
      recv(p.server, &byte, 1, MSG_DONTWAIT);
      ++told;
    };
    std::thread a(wait_once);
    std::thread b(wait_once);
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    for (int i = 1; i <= 2; ++i) {
      send_all(p.client, "x");
      const Stopwatch watch;
      while (told < i && watch.ms() < 1000) std::this_thread::yield();
      EXPECT_GE(told, i) << more;
    }
    p.client.reset();
    a.join();
    b.join();
  }
}

// What is left to report when one thread leaves is the others' to report.
TEST(Threads, OneEpollSetForTwoConnections) {
  Pair p = connected_pair();
  Pair q = connected_pair();
  Epoll epoll;
  epoll.add(p.server, EPOLLIN | EPOLLONESHOT);
  epoll.add(q.server, EPOLLIN | EPOLLONESHOT);
  std::atomic<int> told{0};
  auto wait_once = [&] {
    epoll_event event;  // one at a time
    if (epoll_wait(epoll.fd(), &event, 1, kWaitMs) == 1) ++told;
  };
  for (int round = 0; round < 50; ++round) {
    told = 0;
    std::thread a(wait_once);
    std::thread b(wait_once);
    std::this_thread::sleep_for(std::chrono::milliseconds(round % 5));
    send_all(p.client, "x");
    send_all(q.client, "x");
    a.join();
    b.join();
    EXPECT_EQ(told, 2) << round;
    if (HasFailure()) return;
    recv_exact(p.server, 1);
    recv_exact(q.server, 1);
    epoll.modify(p.server, EPOLLIN | EPOLLONESHOT);
    epoll.modify(q.server, EPOLLIN | EPOLLONESHOT);
  }
}

TEST(Threads, ConnectionsInParallel) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  constexpr int kEach = 100;
  std::thread server([&] {
    for (int i = 0; i < 2 * kEach; ++i) {
      Fd fd = accept_from(listener);
      send_all(fd, recv_exact(fd, 8));
    }
  });
  auto work = [&](std::uint64_t seed) {
    for (int i = 0; i < kEach; ++i) {
      Fd fd = connect_to("127.0.0.1", port);
      const std::string data = pattern(8, seed + static_cast<std::uint64_t>(i));
      send_all(fd, data);
      EXPECT_EQ(recv_exact(fd, 8), data);
    }
  };
  std::thread a(work, 1000);
  std::thread b(work, 2000);
  a.join();
  b.join();
  server.join();
}

}  // namespace
}  // namespace shunt::test
