// Uses beyond read and write by the descriptor's own process: descriptors that travel, stdio,
// exec, splice, close_range. A program that does these must still see an ordinary byte stream.
#include <gtest/gtest.h>

#include "net.h"

namespace shunt::test {
namespace {

// Runs `helper` with `fd` as its stdin and stdout.
pid_t spawn_on(int fd, const char* helper, bool ordinary) {
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  alarm(20);
  dup2(fd, STDIN_FILENO);
  dup2(fd, STDOUT_FILENO);
  if (ordinary) unsetenv("LD_PRELOAD");
  const std::string path = self_path();
  execl(path.c_str(), path.c_str(), helper, nullptr);
  _exit(127);
}

int reap(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void exec_case(bool ordinary) {
  Pair p = connected_pair();
  send_all(p.client, "early ");
  const pid_t pid = spawn_on(p.server, "--helper=cat", ordinary);
  p.server.reset();
  const std::string data = pattern(200'000);
  std::thread sender([&] {
    send_all(p.client, data);
    shutdown(p.client, SHUT_WR);
  });
  const std::string got = recv_to_eof(p.client);
  sender.join();
  EXPECT_EQ(got.size(), data.size() + 6);
  EXPECT_TRUE(got == "early " + data);
  EXPECT_EQ(reap(pid), 0);
}

TEST(Rare, ExecedProgramWithTheProvider) { exec_case(false); }
TEST(Rare, ExecedProgramWithoutTheProvider) { exec_case(true); }

TEST(Rare, StdioStream) {
  Pair p = connected_pair();
  FILE* file = fdopen(dup(p.server), "r+");
  ASSERT_NE(file, nullptr);
  send_all(p.client, "a line\nanother\n");
  char line[64];
  ASSERT_NE(fgets(line, sizeof line, file), nullptr);
  EXPECT_STREQ(line, "a line\n");
  ASSERT_NE(fgets(line, sizeof line, file), nullptr);
  EXPECT_STREQ(line, "another\n");
  std::fseek(file, 0, SEEK_CUR);
  std::fprintf(file, "answer %d\n", 42);
  std::fflush(file);
  EXPECT_EQ(recv_exact(p.client, 10), "answer 42\n");
  std::fclose(file);
  EXPECT_EQ(dprintf(p.server, "more %s\n", "text"), 10);
  EXPECT_EQ(recv_exact(p.client, 10), "more text\n");
}

TEST(Rare, PassedToAnotherProcess) {
  Pair p = connected_pair();
  int channel[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, channel), 0);
  Child child([&] {
    p.client.reset();
    p.server.reset();
    const std::vector<Fd> fds = taken(channel[1]);
    const Fd& got = fds.at(0);
    send_all(got, recv_exact(got, 5));
    return 0;
  });
  pass(channel[0], {p.server});
  p.server.reset();
  send_all(p.client, "hello");
  EXPECT_EQ(recv_exact(p.client, 5), "hello");
  EXPECT_EQ(child.wait(), 0);
  close(channel[0]);
  close(channel[1]);
}

TEST(Rare, Splice) {
  Pair p = connected_pair();
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  ASSERT_EQ(write(fds[1], "to the socket", 13), 13);
  EXPECT_EQ(splice(fds[0], nullptr, p.client, nullptr, 13, 0), 13);
  EXPECT_EQ(recv_exact(p.server, 13), "to the socket");
  send_all(p.client, "to the pipe");
  wait_for(p.server, POLLIN);
  EXPECT_EQ(splice(p.server, nullptr, fds[1], nullptr, 11, 0), 11);
  char buffer[16] = {};
  EXPECT_EQ(read(fds[0], buffer, sizeof buffer), 11);
  EXPECT_STREQ(buffer, "to the pipe");
  close(fds[0]);
  close(fds[1]);
}

TEST(Rare, CloseRange) {
  Pair p = connected_pair();
  Child child([&] {
    // What daemons do first; the connection on stdin must go on working.
    dup2(p.server, STDIN_FILENO);
    close_range(3, ~0U, 0);
    send_all(STDIN_FILENO, recv_exact(STDIN_FILENO, 4));
    Fd listener = listen_on();
    Fd client = connect_to("127.0.0.1", port_of(listener));
    Fd server = accept_from(listener);
    expect_echo(client, server, "new ones too");
    return 0;
  });
  p.server.reset();
  send_all(p.client, "ping");
  EXPECT_EQ(recv_exact(p.client, 4), "ping");
  EXPECT_EQ(child.wait(), 0);
  expect_eof(p.client);
}

TEST(Rare, CloseEveryNumber) {
  Pair p = connected_pair();
  Child child([&] {
    for (int fd = 3; fd < 4096; ++fd) close(fd);
    Fd listener = listen_on();
    Fd client = connect_to("127.0.0.1", port_of(listener));
    Fd server = accept_from(listener);
    expect_echo(client, server, "new ones too");
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  expect_echo(p.client, p.server, "the parent's are unharmed");
}

}  // namespace
}  // namespace shunt::test
