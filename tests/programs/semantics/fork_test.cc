// Connections and listeners shared by a parent and its children.
#include <gtest/gtest.h>

#include "net.h"

namespace shunt::test {
namespace {

TEST(Fork, ChildUsesTheConnection) {
  Pair p = connected_pair();
  Child child([&] {
    p.client.reset();
    const std::string question = recv_exact(p.server, 8);
    send_all(p.server, question + "!");
    return question == "question" ? 0 : 1;
  });
  p.server.reset();
  send_all(p.client, "question");
  EXPECT_EQ(recv_exact(p.client, 9), "question!");
  EXPECT_EQ(child.wait(), 0);
  expect_eof(p.client);
}

TEST(Fork, ChildsCloseKeepsTheParentsConnection) {
  Pair p = connected_pair();
  Child child([&] {
    p.client.reset();
    p.server.reset();
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(wait_for(p.client, POLLIN, 10), 0);
  expect_echo(p.client, p.server, "still here");
  expect_echo(p.server, p.client, "both ways");
}

TEST(Fork, ChildsExitKeepsTheParentsConnection) {
  Pair p = connected_pair();
  Child child([] { return 0; });
  EXPECT_EQ(child.wait(), 0);
  expect_echo(p.client, p.server, "still here");
  expect_echo(p.server, p.client, "both ways");
}

TEST(Fork, BothWrite) {
  Pair p = connected_pair();
  constexpr int kLines = 2000;
  const std::string ours(16, 'p');
  const std::string theirs(16, 'c');
  Child child([&] {
    for (int i = 0; i < kLines; ++i) send_all(p.client, theirs);
    return 0;
  });
  std::thread writer([&] {
    for (int i = 0; i < kLines; ++i) send_all(p.client, ours);
  });
  int count[2] = {0, 0};
  for (int i = 0; i < 2 * kLines; ++i) {
    const std::string line = recv_exact(p.server, 16);
    ASSERT_TRUE(line == ours || line == theirs) << "a write was torn: " << line;
    ++count[line == theirs];
  }
  writer.join();
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(count[0], kLines);
  EXPECT_EQ(count[1], kLines);
}

TEST(Fork, ParentAndChildTakeTurnsReading) {
  Pair p = connected_pair();
  send_all(p.client, "abcdef");
  wait_for(p.server, POLLIN);
  EXPECT_EQ(recv_exact(p.server, 2), "ab");
  Child child([&] { return recv_exact(p.server, 2) == "cd" ? 0 : 1; });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(recv_exact(p.server, 2), "ef");
}

TEST(Fork, ChildAcceptsOnTheParentsListener) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  Child child([&] {
    Fd server = accept_from(listener);
    send_all(server, recv_exact(server, 4));
    return 0;
  });
  listener.reset();
  Fd client = connect_to("127.0.0.1", port);
  send_all(client, "work");
  EXPECT_EQ(recv_exact(client, 4), "work");
  EXPECT_EQ(child.wait(), 0);
}

TEST(Fork, ServerPerConnection) {
  Fd listener = listen_on();
  const std::uint16_t port = port_of(listener);
  Child server([&] {
    for (int i = 0; i < 5; ++i) {
      Fd fd = accept_from(listener);
      if (fork() == 0) {
        listener.reset();
        send_all(fd, recv_to_eof(fd));
        _exit(0);
      }
    }
    while (wait(nullptr) > 0) {
    }
    return 0;
  });
  listener.reset();
  for (int i = 0; i < 5; ++i) {
    Fd client = connect_to("127.0.0.1", port);
    const std::string data = pattern(30'000, static_cast<std::uint64_t>(i));
    send_all(client, data);
    shutdown(client, SHUT_WR);
    EXPECT_TRUE(recv_to_eof(client) == data);
  }
  EXPECT_EQ(server.wait(), 0);
}

}  // namespace
}  // namespace shunt::test
