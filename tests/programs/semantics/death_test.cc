// A process that ends: its data arrives, then end of stream.
#include <gtest/gtest.h>

#include "net.h"

namespace shunt::test {
namespace {

TEST(Death, ExitDeliversEverything) {
  Fd listener = listen_on();
  const std::string data = pattern(60'000, 6);
  Child child([&] {
    Fd fd = connect_to("127.0.0.1", port_of(listener));
    send_all(fd, data);
    return 0;
  });
  Fd server = accept_from(listener);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_TRUE(recv_to_eof(server) == data);
}

TEST(Death, KillDeliversEverything) {
  Fd listener = listen_on();
  const std::string data = pattern(60'000, 7);
  Child child([&] {
    Fd fd = connect_to("127.0.0.1", port_of(listener));
    send_all(fd, data);
    pause();
    return 0;
  });
  Fd server = accept_from(listener);
  EXPECT_TRUE(recv_exact(server, data.size()) == data);
  child.kill();
  expect_eof(server);
}

TEST(Death, KilledBeforeTheReaderStarts) {
  Fd listener = listen_on();
  const std::string data = pattern(60'000, 8);
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  Child child([&] {
    Fd fd = connect_to("127.0.0.1", port_of(listener));
    send_all(fd, data);
    (void)!write(ready[1], "x", 1);
    pause();
    return 0;
  });
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  child.kill();
  Fd server = accept_from(listener);
  EXPECT_TRUE(recv_to_eof(server) == data);
  close(ready[0]);
  close(ready[1]);
}

TEST(Death, KilledWithUnreadDataResets) {
  Fd listener = listen_on();
  Child child([&] {
    Fd fd = connect_to("127.0.0.1", port_of(listener));
    wait_for(fd, POLLIN);
    send_all(fd, "r");
    pause();
    return 0;
  });
  Fd server = accept_from(listener);
  send_all(server, "unread");
  EXPECT_EQ(recv_exact(server, 1), "r");
  child.kill();
  char byte;
  ASSERT_NE(wait_for(server, POLLIN), 0);
  expect_error(recv(server, &byte, 1, 0), ECONNRESET);
}

TEST(Death, KilledReaderWakesABlockedWriter) {
  Fd listener = listen_on();
  Child child([&] {
    Fd fd = connect_to("127.0.0.1", port_of(listener));
    pause();
    return 0;
  });
  Fd server = accept_from(listener);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(80));
    child.kill();
  });
  const std::string data = pattern(64 << 20);
  ssize_t n = 0;
  while (n >= 0) n = send(server, data.data(), data.size(), MSG_NOSIGNAL);
  EXPECT_TRUE(errno == ECONNRESET || errno == EPIPE) << strerror(errno);
  later.join();
}

}  // namespace
}  // namespace shunt::test
