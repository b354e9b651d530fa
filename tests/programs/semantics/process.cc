// Child and Program: processes that a case starts.
#include <sys/prctl.h>

#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "net.h"

namespace shunt::test {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

constexpr unsigned kChildSeconds = 20;

int exit_code(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Child::Child(const std::function<int()>& body) {
  std::fflush(nullptr);
  pid_ = fork();
  if (pid_ < 0) fail("fork");
  if (pid_ > 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  alarm(kChildSeconds);
  int code = 99;
  try {
    code = body();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "child: %s\n", e.what());
  }
  std::fflush(nullptr);
  _exit(code);
}

Child::~Child() { kill(); }

void Child::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

int Child::wait() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0) {
    if (errno != EINTR) fail("waitpid");
  }
  pid_ = -1;
  return exit_code(status);
}

Program::Program(const std::vector<std::string>& arguments, bool ordinary) {
  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0) fail("pipe2");
  output_ = Fd(out[0]);
  std::fflush(nullptr);
  pid_ = fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(kChildSeconds);
    dup2(out[1], STDOUT_FILENO);
    if (ordinary) {
      for (const char* name : {"LD_PRELOAD", "SHUNT_WINDOW", "SHUNT_PARTITION", "SHUNT_REQUIRE"})
        unsetenv(name);
    }
    std::vector<char*> argv;
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  close(out[1]);
}

Program::~Program() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

std::string Program::read_line() {
  std::string line;
  char c;
  while (wait_for(output_, POLLIN) != 0 && read(output_, &c, 1) == 1 && c != '\n') line += c;
  return line;
}

int Program::wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return exit_code(status);
}

}  // namespace shunt::test
