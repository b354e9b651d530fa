// Entry of socket_semantics_test: gtest, with a time limit for each case, or a helper program.
//
//   socket_semantics_test [--gtest_filter=...]     the cases, natively or under `shunt run`
//   socket_semantics_test --helper=NAME ARG...     a helper that a case starts
#include <gtest/gtest.h>

#include <cstdio>
#include <ctime>

#include "net.h"

namespace shunt::test {
namespace {

constexpr int kCaseSeconds = 30;
char g_case[256];

void on_time_limit(int) {
  // Only async-signal-safe calls: the case may hang anywhere.
  static const char text[] = "\n[ TIMEOUT  ] ";
  (void)!write(STDOUT_FILENO, text, sizeof text - 1);
  (void)!write(STDOUT_FILENO, g_case, strlen(g_case));
  (void)!write(STDOUT_FILENO, "\n", 1);
  _exit(124);
}

class TimeLimit : public ::testing::EmptyTestEventListener {
 public:
  TimeLimit() {
    struct sigaction action {};
    action.sa_handler = on_time_limit;
    sigaction(SIGRTMAX, &action, nullptr);
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGRTMAX;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) std::perror("timer_create");
  }

 private:
  void OnTestStart(const ::testing::TestInfo& info) override {
    std::snprintf(g_case, sizeof g_case, "%s.%s", info.test_suite_name(), info.name());
    set(kCaseSeconds);
  }
  void OnTestEnd(const ::testing::TestInfo&) override { set(0); }
  void set(int seconds) {
    const itimerspec spec{{0, 0}, {seconds, 0}};
    timer_settime(timer_, 0, &spec, nullptr);
  }
  timer_t timer_{};
};

}  // namespace
}  // namespace shunt::test

int main(int argc, char** argv) {
  if (argc > 1 && std::strncmp(argv[1], "--helper=", 9) == 0) {
    return shunt::test::run_helper(argv[1] + 9, {argv + 2, argv + argc});
  }
  ::testing::InitGoogleTest(&argc, argv);
  ::testing::UnitTest::GetInstance()->listeners().Append(new shunt::test::TimeLimit);
  return RUN_ALL_TESTS();
}
