// For the cases about connections that get another program as a holder: ways to start one, and a
// process that opens a connection and then hands it on.
//
// The new program is tests/programs/inheritor.cc; what it does are its steps. Whoever waits here waits for
// an event (a byte in a pipe, a thread asleep in the kernel), never for time to pass.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "net.h"

namespace shunt::test {

enum class Way {
  kExec,       // the process itself becomes the new program
  kForkExec,   // fork, the connection to 0 and 1, execve
  kExecvp,     // fork, execvp, the connection keeps its number
  kVfork,      // vfork, the connection to 0 and 1, execve
  kSpawnDup,   // posix_spawn that duplicates the connection to 0 and 1
  kSpawnLeak,  // posix_spawn of a program that gets whatever is not close-on-exec
  kSystem,     // the same with system()
  kPopen,      // the same with popen()
  kPassed,     // SCM_RIGHTS to a process that was started without it
};
const char* name_of(Way way);

using Steps = std::vector<std::string>;

void set_cloexec(int fd, bool on);

// A program that continues with `fd`, a blocking or non-blocking connection that stays open here.
class Successor {
 public:
  // kExec does not return. kSystem and kPopen may wait for the program's end. `bare`: in an environment without
  // the provider.
  Successor(Way way, bool bare, int fd, const Steps& steps);
  int wait();  // exit status; 128 + signal when killed

 private:
  void start_fork_exec(Way way, bool bare, int fd, const Steps& steps);
  void start_spawn(Way way, bool bare, int fd, const Steps& steps);
  void pass(bool bare, int fd, const Steps& steps);
  pid_t pid_ = -1;
  FILE* popen_ = nullptr;
  std::optional<int> status_;
};

// What the old program does with its connection: `before` it hands it on, and `after` the new one's end
// (then it keeps the descriptor; otherwise it closes it as soon as the new program has it).
struct Plan {
  Way way = Way::kExec;
  bool bare = false;
  bool accepting = false;  // which end the old program has
  std::function<std::size_t(int fd)> before;
  std::function<void(int peer)> meanwhile;  // what the peer, the case itself, does during `before`
  Steps steps;  // "say" and "await" talk to the case; "names" expects the old program's names;
                // '*' stands for what `before` returned
  std::function<void(int fd)> after;
  bool connect_only =
      false;  // go on without waiting for an accept(): `peer` is the caller's to accept
};

// An old program: a child that opens a connection of its own with `peer` as the other end, does `before`
// and stands still until go().
class Handover {
 public:
  explicit Handover(Plan plan);
  void go() { tell(); }
  // Both sides' conversation with the child, whichever program it is by then.
  void tell();                                    // lets "await" go on
  void hear();                                    // waits for "say"
  bool heard(int timeout_ms);                     // whether something is there to hear
  std::size_t amount() const { return amount_; }  // what `before` returned
  int wait() { return child_->wait(); }
  void kill() { child_->kill(); }
  pid_t pid() const { return child_->pid(); }
  Fd peer;
  Fd listener;  // connect_only

 private:
  int run(const Plan& plan, std::uint16_t port, int in, int out);
  Fd from_;
  Fd to_;
  std::size_t amount_ = 0;
  std::unique_ptr<Child> child_;
};

// Waits until a thread (of any process) sleeps in the kernel; throws when it has ended instead.
void await_asleep(pid_t thread);
// A thread that is asleep in the kernel when the constructor returns: `body` must block.
class Sleeper {
 public:
  explicit Sleeper(std::function<void()> body);
  ~Sleeper() { join(); }
  void join();

 private:
  std::atomic<pid_t> id_{0};
  std::thread thread_;
};

// Writes pattern 1 from byte 0 until nobody takes any more; returns how much.
std::size_t fill_with_pattern(int fd);

// A conversation both ways, half closes both ways and the end: the new program's part and the peer's.
Steps talk_steps();
void talk(int peer);

}  // namespace shunt::test
