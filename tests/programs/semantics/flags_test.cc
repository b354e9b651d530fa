// Flags of recv and send.
#include <gtest/gtest.h>

#include "net.h"

namespace shunt::test {
namespace {

TEST(Flags, Peek) {
  Pair p = connected_pair();
  send_all(p.client, "abcdef");
  wait_for(p.server, POLLIN);
  char buffer[16] = {};
  EXPECT_EQ(recv(p.server, buffer, 3, MSG_PEEK), 3);
  EXPECT_STREQ(buffer, "abc");
  EXPECT_EQ(recv(p.server, buffer, 16, MSG_PEEK), 6);
  EXPECT_STREQ(buffer, "abcdef");
  EXPECT_EQ(recv_exact(p.server, 6), "abcdef");
  EXPECT_EQ(recv(p.server, buffer, 1, MSG_PEEK | MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST(Flags, PeekWaitsForData) {
  Pair p = connected_pair();
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    send_all(p.client, "q");
  });
  char byte = 0;
  EXPECT_EQ(recv(p.server, &byte, 1, MSG_PEEK), 1);
  EXPECT_EQ(byte, 'q');
  later.join();
  EXPECT_EQ(recv_exact(p.server, 1), "q");
}

TEST(Flags, PeekLarge) {
  Pair p = connected_pair();
  expect_echo(p.client, p.server, pattern(40'000));  // so that the next bytes cross a 64 KiB line
  const std::string data = pattern(50'000, 3);
  send_all(p.client, data);
  std::string seen(data.size(), '\0');
  ASSERT_EQ(recv(p.server, seen.data(), seen.size(), MSG_PEEK | MSG_WAITALL),
            static_cast<ssize_t>(seen.size()));
  EXPECT_TRUE(seen == data);
  EXPECT_TRUE(recv_exact(p.server, data.size()) == data);
}

TEST(Flags, WaitAll) {
  Pair p = connected_pair();
  const std::string data = pattern(400'000, 5);
  std::thread sender([&] {
    for (std::size_t at = 0; at < data.size(); at += 40'000) {
      send_all(p.client, data.substr(at, 40'000));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  std::string got(data.size(), '\0');
  EXPECT_EQ(recv(p.server, got.data(), got.size(), MSG_WAITALL), static_cast<ssize_t>(got.size()));
  sender.join();
  EXPECT_TRUE(got == data);
}

TEST(Flags, WaitAllAtEof) {
  Pair p = connected_pair();
  send_all(p.client, "part");
  p.client.reset();
  char buffer[64];
  EXPECT_EQ(recv(p.server, buffer, sizeof buffer, MSG_WAITALL), 4);
  EXPECT_EQ(recv(p.server, buffer, sizeof buffer, MSG_WAITALL), 0);
}

TEST(Flags, WaitAllWithTimeout) {
  Pair p = connected_pair();
  set_timeout(p.server, SO_RCVTIMEO, 60);
  send_all(p.client, "part");
  char buffer[64];
  EXPECT_EQ(recv(p.server, buffer, sizeof buffer, MSG_WAITALL), 4);
  EXPECT_EQ(recv(p.server, buffer, sizeof buffer, MSG_WAITALL), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST(Flags, DontWait) {
  Pair p = connected_pair();
  char byte;
  EXPECT_EQ(recv(p.server, &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
  send_all(p.client, "z");
  wait_for(p.server, POLLIN);
  EXPECT_EQ(recv(p.server, &byte, 1, MSG_DONTWAIT), 1);
  EXPECT_EQ(fcntl(p.server, F_GETFL) & O_NONBLOCK, 0);
}

TEST(Flags, TruncDiscards) {
  Pair p = connected_pair();
  send_all(p.client, "discardkeep");
  wait_for(p.server, POLLIN);
  char buffer[8] = "same";
  EXPECT_EQ(recv(p.server, buffer, 4, MSG_TRUNC), 4);
  EXPECT_STREQ(buffer, "same") << "MSG_TRUNC on a stream copies nothing";
  EXPECT_EQ(recv(p.server, nullptr, 3, MSG_TRUNC), 3);
  EXPECT_EQ(recv_exact(p.server, 4), "keep");
}

TEST(Flags, MoreIsNotLost) {
  Pair p = connected_pair();
  EXPECT_EQ(send(p.client, "ab", 2, MSG_MORE), 2);
  EXPECT_EQ(send(p.client, "cd", 2, 0), 2);
  EXPECT_EQ(recv_exact(p.server, 4), "abcd");
}

TEST(Flags, ErrorQueueIsEmpty) {
  Pair p = connected_pair();
  send_all(p.client, "data");
  wait_for(p.server, POLLIN);
  char buffer[8];
  iovec v{buffer, sizeof buffer};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  EXPECT_EQ(recvmsg(p.server, &m, MSG_ERRQUEUE | MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(recv_exact(p.server, 4), "data");
}

}  // namespace
}  // namespace shunt::test
