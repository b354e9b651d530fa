// Handover, Sleeper, and the conversation at the end of most cases.
#include "inherit.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <fstream>
#include <stdexcept>
#include <system_error>

namespace shunt::test {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

Handover::Handover(Plan plan) {
  int to[2];
  int from[2];
  if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) fail("pipe2");
  to_ = Fd(to[1]);
  from_ = Fd(from[0]);
  const Fd in(to[0]);
  const Fd out(from[1]);
  if (!plan.accepting) listener = listen_on();
  const std::uint16_t port = plan.accepting ? std::uint16_t{0} : port_of(listener);
  child_ = std::make_unique<Child>([&] {
    to_.reset();
    from_.reset();
    listener.reset();
    set_cloexec(in, false);
    set_cloexec(out, false);
    return run(plan, port, in, out);
  });
  std::uint16_t theirs = port;
  if (plan.accepting && read(from_, &theirs, sizeof theirs) != sizeof theirs)
    fail("the child's port");
  if (plan.accepting) peer = connect_to("127.0.0.1", theirs);
  if (!plan.accepting && !plan.connect_only) {
    peer = accept_from(listener);
    listener.reset();
  }
  if (peer >= 0) set_cloexec(peer, true);
  if (plan.meanwhile) plan.meanwhile(peer);
  if (read(from_, &amount_, sizeof amount_) != sizeof amount_) fail("the child has ended");
}

// The child, until another program takes over.
int Handover::run(const Plan& plan, std::uint16_t port, int in, int out) {
  Fd fd;
  if (plan.accepting) {
    const Fd own = listen_on();
    const std::uint16_t number = port_of(own);
    if (write(out, &number, sizeof number) != sizeof number) return 98;
    fd = accept_from(own);
  } else {
    fd = connect_to("127.0.0.1", port);
  }
  const std::size_t amount = plan.before ? plan.before(fd) : 0;
  Steps steps = plan.steps;
  for (std::string& step : steps) {
    if (step == "say") step = "say:" + std::to_string(out);
    if (step == "await") step = "await:" + std::to_string(in);
    if (step == "names") step = "names=" + local_address(fd).text() + "," + peer_address(fd).text();
    if (const std::size_t star = step.find('*'); star != std::string::npos)
      step.replace(star, 1, std::to_string(amount));
  }
  char byte;
  if (write(out, &amount, sizeof amount) != sizeof amount || read(in, &byte, 1) != 1) return 98;
  Successor successor(plan.way, plan.bare, fd, steps);
  if (!plan.after) fd.reset();
  const int status = successor.wait();
  if (status == 0 && plan.after) plan.after(fd);
  return status;
}

void Handover::tell() {
  if (write(to_, "x", 1) != 1) fail("tell");
}

bool Handover::heard(int timeout_ms) { return wait_for(from_, POLLIN, timeout_ms) != 0; }

void Handover::hear() {
  char byte;
  if (!heard(kWaitMs)) throw std::runtime_error("the new program says nothing in time");
  if (read(from_, &byte, 1) != 1) throw std::runtime_error("the new program has ended");
}

void await_asleep(pid_t thread) {
  constexpr int kLooks =
      5;  // one after the other: what spins a little and sleeps in between is not it
  const Stopwatch watch;
  for (int seen = 0; seen < kLooks;) {
    std::ifstream file("/proc/" + std::to_string(thread) + "/stat");
    std::string line;
    if (!std::getline(file, line)) throw std::runtime_error("the thread has ended");
    const char state = line[line.rfind(')') + 2];
    if (state == 'Z' || watch.ms() > kWaitMs) throw std::runtime_error("the thread does not sleep");
    seen = state == 'S' ? seen + 1 : 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

Sleeper::Sleeper(std::function<void()> body)
    : thread_([this, body = std::move(body)] {
        id_ = static_cast<pid_t>(syscall(SYS_gettid));
        try {
          body();
        } catch (const std::exception& e) {
          ADD_FAILURE() << "thread: " << e.what();
        }
      }) {
  while (id_ == 0) std::this_thread::yield();
  try {
    await_asleep(id_);
  } catch (...) {
    thread_.join();
    throw;
  }
}

void Sleeper::join() {
  if (thread_.joinable()) thread_.join();
}

std::size_t fill_with_pattern(int fd) {
  static const std::string data = pattern(24 << 20);
  std::size_t total = 0;
  for (;;) {
    const ssize_t n =
        send(fd, data.data() + total, data.size() - total, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) total += static_cast<std::size_t>(n);
    if (total == data.size()) throw std::runtime_error("the buffers have no end");
    if (n < 0 && errno != EAGAIN) fail("fill");
    // TCP moves bytes on from the send queue after EAGAIN: stop when a short wait brings no room.
    if (n < 0 && wait_for(fd, POLLOUT, 20) == 0) return total;
  }
}

Steps talk_steps() {
  return {"send:9:0:5000", "recv:8:0:70000", "send:9:5000:70000",
          "eof",           "send:7:0:3000",  "shutdown"};
}

void talk(int peer) {
  EXPECT_TRUE(recv_exact(peer, 5000) == pattern(5000, 9));
  send_all(peer, pattern(70'000, 8));
  EXPECT_TRUE(recv_exact(peer, 70'000) == pattern(70'000, 9, 5000));
  ASSERT_EQ(shutdown(peer, SHUT_WR), 0);
  EXPECT_TRUE(recv_to_eof(peer) == pattern(3000, 7));
}

}  // namespace shunt::test
