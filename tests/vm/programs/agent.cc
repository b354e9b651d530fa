// The last thing that a test guest's /init becomes: runs the host's commands, as process 1.
//
//   vm_agent PORT_NAME      PORT_NAME is a virtio-serial port's name ("control")
//
// The conversation is in frames, little endian: u32 payload length, u32 id, u8 kind, 3 bytes zero,
// payload. Commands run side by side; the host chooses their ids.
//
//   host to guest   kRun     u8 with_input, then a command line for /bin/sh
//                   kInput   bytes for the command's stdin; none: end of input
//                   kSignal  u8 signal number, to the command's process group
//   guest to host   kOutput, kErrors   what the command wrote
//                   kExit    i32 exit status, negative: killed by that signal. Ends the command.
//
// A frame may be cut in two by a reset of the guest. So each boot starts with a hello that no frame can
// be mistaken for (its length would be too large), the host answers with the nonce from it, and
// whatever comes before either is skipped.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace {

enum Kind : std::uint8_t { kRun = 1, kInput = 2, kSignal = 3, kOutput = 4, kErrors = 5, kExit = 6 };

struct Header {
  std::uint32_t length;
  std::uint32_t id;
  std::uint8_t kind;
  std::uint8_t zero[3];
};
static_assert(sizeof(Header) == 12);

constexpr std::size_t kPayloadMax = 64 * 1024;
constexpr std::size_t kOutgoingMax = 1024 * 1024;  // above it, commands wait with their output
const std::string kHello = std::string("\xff\xff\xff\xff", 4) + "shunt-guest-";
const std::string kAnswer = std::string("\xff\xff\xff\xff", 4) + "shunt-host--";
constexpr std::size_t kNonce = 8;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "vm_agent: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

struct Child {
  pid_t pid = -1;
  int input = -1;
  int output = -1;
  int errors = -1;
  std::string pending_input;
  bool input_ends = false;
};

int open_port(const std::string& name) {
  for (const auto& entry : std::filesystem::directory_iterator("/sys/class/virtio-ports")) {
    std::string found;
    std::getline(std::ifstream(entry.path() / "name"), found);
    if (found != name) continue;
    const int fd =
        ::open(("/dev" / entry.path().filename()).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) die("open of the control port");
    return fd;
  }
  errno = ENODEV;
  die(name.c_str());
}

void close_one(int& fd) {
  if (fd >= 0) ::close(fd);
  fd = -1;
}

class Agent {
 public:
  explicit Agent(int port) : port_(port) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    children_died_ = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (children_died_ < 0) die("signalfd");
    char nonce[kNonce];
    if (::getrandom(nonce, sizeof nonce, GRND_INSECURE) != sizeof nonce) die("getrandom");
    nonce_.assign(nonce, sizeof nonce);
    outgoing_ = kHello + nonce_;
  }

  [[noreturn]] void serve() {
    for (;;) {
      wait_for_work();
      flush();
    }
  }

 private:
  void wait_for_work() {
    std::vector<pollfd> fds{{port_, short(outgoing_.empty() ? POLLIN : POLLIN | POLLOUT), 0},
                            {children_died_, POLLIN, 0}};
    std::vector<std::uint32_t> ids(2);
    const auto watch = [&](std::uint32_t id, int fd, short events) {
      if (fd < 0) return;
      fds.push_back({fd, events, 0});
      ids.push_back(id);
    };
    for (const auto& [id, child] : children_) {
      if (outgoing_.size() < kOutgoingMax) {
        watch(id, child.output, POLLIN);
        watch(id, child.errors, POLLIN);
      }
      if (!child.pending_input.empty()) watch(id, child.input, POLLOUT);
    }
    if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) die("poll");
    for (std::size_t i = 2; i < fds.size(); i++) {
      if (fds[i].revents == 0) continue;
      Child& child = children_.at(ids[i]);
      if (fds[i].fd == child.output) forward(ids[i], child.output, kOutput);
      if (fds[i].fd == child.errors) forward(ids[i], child.errors, kErrors);
      if (fds[i].fd == child.input) feed(child);
    }
    if (fds[0].revents & (POLLIN | POLLHUP)) receive();
    if (fds[1].revents) reap();
  }

  void send(std::uint32_t id, Kind kind, const void* data, std::size_t length) {
    const Header header{static_cast<std::uint32_t>(length), id, kind, {}};
    outgoing_.append(reinterpret_cast<const char*>(&header), sizeof header);
    outgoing_.append(static_cast<const char*>(data), length);
  }

  void flush() {
    while (!outgoing_.empty()) {
      const ssize_t n = ::write(port_, outgoing_.data(), std::min(outgoing_.size(), kPayloadMax));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return;
      if (n < 0) die("write to the control port");
      outgoing_.erase(0, n);
    }
  }

  // Passes one piece of output on; false at its end, or when there is none at the moment.
  bool forward(std::uint32_t id, int& fd, Kind kind) {
    char buffer[kPayloadMax];
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n > 0) {
      send(id, kind, buffer, n);
      return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) close_one(fd);
    return false;
  }

  void feed(Child& child) {
    while (!child.pending_input.empty() && child.input >= 0) {
      const ssize_t n =
          ::write(child.input, child.pending_input.data(), child.pending_input.size());
      if (n > 0) {
        child.pending_input.erase(0, n);
      } else if (errno == EAGAIN || errno == EINTR) {
        return;
      } else {
        close_one(child.input);
      }
    }
    if (child.input_ends) close_one(child.input);
    if (child.input < 0) child.pending_input.clear();
  }

  void receive() {
    char buffer[kPayloadMax];
    const ssize_t n = ::read(port_, buffer, sizeof buffer);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {  // the host's end is closed: nobody will ever command again
      errno = n == 0 ? ENOTCONN : errno;
      die("read from the control port");
    }
    incoming_.append(buffer, n);
    if (!answered_) {
      const auto at = incoming_.find(kAnswer + nonce_);
      if (at == std::string::npos) return;
      incoming_.erase(0, at + kAnswer.size() + kNonce);
      answered_ = true;
    }
    Header header;
    while (incoming_.size() >= sizeof header) {
      std::memcpy(&header, incoming_.data(), sizeof header);
      if (header.length > kPayloadMax) die("nonsense on the control port");
      if (incoming_.size() < sizeof header + header.length) return;
      obey(header, incoming_.substr(sizeof header, header.length));
      incoming_.erase(0, sizeof header + header.length);
    }
  }

  void obey(const Header& header, const std::string& payload) {
    if (header.kind == kRun) {
      start(header.id, payload.at(0) != 0, payload.substr(1));
      return;
    }
    const auto found = children_.find(header.id);
    if (found == children_.end()) return;  // it ended meanwhile
    Child& child = found->second;
    if (header.kind == kSignal) {
      ::kill(-child.pid, static_cast<unsigned char>(payload.at(0)));
    } else if (header.kind == kInput && child.input >= 0) {
      child.pending_input += payload;
      child.input_ends |= payload.empty();
      feed(child);
    }
  }

  void start(std::uint32_t id, bool with_input, const std::string& command) {
    int input[2] = {-1, -1};
    int output[2];
    int errors[2];
    if (with_input && ::pipe2(input, O_CLOEXEC) != 0) die("pipe");
    if (::pipe2(output, O_CLOEXEC) != 0 || ::pipe2(errors, O_CLOEXEC) != 0) die("pipe");
    const pid_t pid = ::fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
      ::setpgid(0, 0);
      if (!with_input) input[0] = ::open("/dev/null", O_RDONLY);
      ::dup2(input[0], 0);
      ::dup2(output[1], 1);
      ::dup2(errors[1], 2);
      sigset_t none;
      sigemptyset(&none);
      sigprocmask(SIG_SETMASK, &none, nullptr);
      ::signal(SIGPIPE, SIG_DFL);
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
    ::setpgid(pid, pid);  // here too: a signal may come before the child has run at all
    close_one(input[0]);
    close_one(output[1]);
    close_one(errors[1]);
    for (const int fd : {input[1], output[0], errors[0]}) {
      if (fd >= 0) ::fcntl(fd, F_SETFL, O_NONBLOCK);
    }
    children_[id] = {pid, input[1], output[0], errors[0], {}, false};
  }

  // A command ends with its first process: what that has written is passed on, what its offspring
  // writes later is not.
  void reap() {
    signalfd_siginfo ignored;
    while (::read(children_died_, &ignored, sizeof ignored) > 0) {
    }
    int status = 0;
    for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      for (auto it = children_.begin(); it != children_.end(); ++it) {
        if (it->second.pid != pid) continue;
        finish(it->first, it->second, status);
        children_.erase(it);
        break;
      }
    }
  }

  void finish(std::uint32_t id, Child& child, int status) {
    while (child.output >= 0 && forward(id, child.output, kOutput)) {
    }
    while (child.errors >= 0 && forward(id, child.errors, kErrors)) {
    }
    const std::int32_t code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    send(id, kExit, &code, sizeof code);
    close_one(child.input);
    close_one(child.output);
    close_one(child.errors);
  }

  int port_;
  int children_died_ = -1;
  std::string nonce_;
  bool answered_ = false;
  std::string outgoing_;
  std::string incoming_;
  std::map<std::uint32_t, Child> children_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: vm_agent PORT_NAME\n");
    return 2;
  }
  ::setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
  ::setenv("HOME", "/root", 1);
  Agent(open_port(argv[1])).serve();
}
