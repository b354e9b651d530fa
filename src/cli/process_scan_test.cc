#include "cli/process_scan.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "cli/status_page_test_util.h"
#include "cli/temp_dir_test_util.h"

namespace shunt::cli {
namespace {

const ProcessStatus* find(const ProcessScan& scan, pid_t pid) {
  const auto it = std::find_if(scan.processes.begin(), scan.processes.end(),
                               [pid](const ProcessStatus& p) { return p.pid == pid; });
  return it == scan.processes.end() ? nullptr : &*it;
}

TEST(ProcessScanTest, FindsThisProcess) {
  TestPage page;
  page->kernel.connections = 5;
  const ProcessScan scan = scan_processes();
  const ProcessStatus* own = find(scan, getpid());
  ASSERT_NE(own, nullptr);
  EXPECT_EQ(own->program, "cli_test");
  EXPECT_EQ(own->page.kernel.connections, 5u);
  EXPECT_TRUE(own->shared_with.empty());
}

TEST(ProcessScanTest, ListsASharedPageOnce) {
  TestPage page;
  const int second = dup(page.fd());  // two descriptors of one process are one holder
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  const ProcessScan scan = scan_processes();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(second);
  const ProcessStatus* own = find(scan, getpid());
  ASSERT_NE(own, nullptr);
  EXPECT_EQ(own->shared_with, std::vector<pid_t>{child});
  EXPECT_EQ(find(scan, child), nullptr);
}

TEST(ProcessScanTest, WhoOnlyLooksAtAPageDoesNotShareIt) {
  TestPage page;
  const std::string path = "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(page.fd());
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const int looking = open(path.c_str(), O_RDONLY);  // as another `shunt status` does
    close(page.fd());
    if (write(ready[1], &looking, 1) == 1) pause();
    _exit(0);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const ProcessScan scan = scan_processes();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
  const ProcessStatus* own = find(scan, getpid());
  ASSERT_NE(own, nullptr);
  EXPECT_TRUE(own->shared_with.empty());
  EXPECT_EQ(find(scan, child), nullptr);
}

TEST(ProcessScanTest, CountsPagesThatCannotBeRead) {
  const TempDir proc;  // with this process only
  const std::string own = std::to_string(getpid());
  std::filesystem::create_directory_symlink("/proc/" + own, proc.path() + "/" + own);
  TestPage page;
  EXPECT_EQ(scan_processes(proc.path()).unreadable, 0);
  page->magic = 0;
  const ProcessScan scan = scan_processes(proc.path());
  EXPECT_EQ(scan.unreadable, 1);
  EXPECT_TRUE(scan.processes.empty());
}

TEST(ProcessScanTest, IgnoresWhatIsNoProcess) {
  const TempDir proc;
  std::filesystem::create_directories(proc.path() + "/self/fd");
  std::filesystem::create_directories(proc.path() + "/12x/fd");
  std::filesystem::create_directories(proc.path() + "/12/fd");
  std::filesystem::create_symlink("/memfd:shunt-status (deleted)", proc.path() + "/12/fd/9");
  const ProcessScan scan = scan_processes(proc.path());
  EXPECT_TRUE(scan.processes.empty());
  EXPECT_EQ(scan.unreadable, 0);
}

}  // namespace
}  // namespace shunt::cli
