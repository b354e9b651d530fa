// Successor: the ways to start a program that continues with a connection.
#include <spawn.h>

#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "inherit.h"

namespace shunt::test {
namespace {

constexpr const char* kProviderNames[] = {"LD_PRELOAD", "SHUNT_WINDOW", "SHUNT_PARTITION",
                                          "SHUNT_REQUIRE"};

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::string inheritor_path() {
  const std::string self = self_path();
  return self.substr(0, self.rfind('/') + 1) + "inheritor";
}

// argv and envp of a program to be started, ready before a vfork.
struct Image {
  Image(const std::string& connection, const Steps& steps, bool bare) : words{inheritor_path()} {
    words.push_back(connection);
    words.insert(words.end(), steps.begin(), steps.end());
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    for (char** e = environ; *e != nullptr; ++e) {
      const std::string name(*e, strcspn(*e, "="));
      bool keep = true;
      for (const char* provider : kProviderNames) keep = keep && !(bare && name == provider);
      if (keep) envp.push_back(*e);
    }
    envp.push_back(nullptr);
  }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;
  std::vector<std::string> words;
  std::vector<char*> argv;
  std::vector<char*> envp;
};

std::string shell_command(const std::string& connection, const Steps& steps, bool bare) {
  std::string command = "exec";
  if (bare) {
    command += " env";
    for (const char* name : kProviderNames) command += std::string(" -u ") + name;
  }
  command += " '" + inheritor_path() + "' " + connection;
  for (const std::string& step : steps) command += " '" + step + "'";
  return command;
}

int exit_code(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

const char* name_of(Way way) {
  static constexpr const char* kNames[] = {"Exec",      "ForkExec", "Execvp", "Vfork", "SpawnDup",
                                           "SpawnLeak", "System",   "Popen",  "Passed"};
  return kNames[static_cast<int>(way)];
}

void set_cloexec(int fd, bool on) {
  if (fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) != 0) fail("F_SETFD");
}

Successor::Successor(Way way, bool bare, int fd, const Steps& steps) {
  std::fflush(nullptr);
  const std::string number = std::to_string(fd);
  const bool moved = way == Way::kForkExec || way == Way::kVfork || way == Way::kSpawnDup;
  set_cloexec(fd, moved || way == Way::kPassed);
  if (way == Way::kExec) {
    Image image(number, steps, bare);
    execve(image.argv[0], image.argv.data(), image.envp.data());
    fail("execve");
  } else if (way == Way::kSpawnDup || way == Way::kSpawnLeak) {
    start_spawn(way, bare, fd, steps);
  } else if (way == Way::kSystem) {
    status_ = exit_code(std::system(shell_command(number, steps, bare).c_str()));
  } else if (way == Way::kPopen) {
    popen_ = popen(shell_command(number, steps, bare).c_str(), "r");
    if (popen_ == nullptr) fail("popen");
  } else if (way == Way::kPassed) {
    pass(bare, fd, steps);
  } else {
    start_fork_exec(way, bare, fd, steps);
  }
}

void Successor::start_fork_exec(Way way, bool bare, int fd, const Steps& steps) {
  Image image(way == Way::kExecvp ? std::to_string(fd) : "0,1", steps, bare);
  pid_ = way == Way::kVfork ? vfork() : fork();
  if (pid_ < 0) fail("fork");
  if (pid_ > 0) return;
  if (way == Way::kExecvp) {
    if (bare) {
      for (const char* name : kProviderNames) unsetenv(name);
    }
    execvp(image.argv[0], image.argv.data());
  } else {
    dup2(fd, STDIN_FILENO);
    dup2(fd, STDOUT_FILENO);
    execve(image.argv[0], image.argv.data(), image.envp.data());
  }
  _exit(127);
}

void Successor::start_spawn(Way way, bool bare, int fd, const Steps& steps) {
  Image image(way == Way::kSpawnDup ? "0,1" : std::to_string(fd), steps, bare);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (way == Way::kSpawnDup) {
    posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO);
  }
  errno =
      posix_spawn(&pid_, image.argv[0], &actions, nullptr, image.argv.data(), image.envp.data());
  posix_spawn_file_actions_destroy(&actions);
  if (errno != 0) fail("posix_spawn");
}

void Successor::pass(bool bare, int fd, const Steps& steps) {
  int channel[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) != 0) fail("socketpair");
  const Fd ours(channel[0]);
  const Fd theirs(channel[1]);
  Image image("take:0", steps, bare);
  pid_ = fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) {
    close(fd);
    dup2(theirs, STDIN_FILENO);
    execve(image.argv[0], image.argv.data(), image.envp.data());
    _exit(127);
  }
  shunt::test::pass(ours, {fd});
}

int Successor::wait() {
  if (status_) return *status_;
  int status = 0;
  if (popen_ != nullptr) {
    char block[256];
    while (std::fread(block, 1, sizeof block, popen_) > 0) {
    }
    status = pclose(popen_);
  } else {
    while (waitpid(pid_, &status, 0) < 0) {
      if (errno != EINTR) fail("waitpid");
    }
  }
  status_ = exit_code(status);
  return *status_;
}

}  // namespace shunt::test
