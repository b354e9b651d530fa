// A mixed Redis workload on many connections at once whose every answer is compared byte for byte.
//
//   redis_mix --port 6379 --connections 50 --requests 100000
//
// Single-threaded, non-blocking, epoll. Every connection has its own keys and a model of their
// values, so the expected stream of answers is known exactly. Requests are pipelined in batches of
// random depth. Values are 1 B to 1 MiB, mostly small. Prints one JSON line; the hash of the answers
// depends only on the seed.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <memory>
#include <nlohmann/json.hpp>

#include "common/options.h"
#include "common/program.h"
#include "common/stream.h"

namespace shunt::test {
namespace {

constexpr std::size_t kValueMax = 1 << 20;
constexpr int kKeys = 24;
constexpr int kDepthMax = 16;

struct Settings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 6379;
  int connections = 50;
  int requests = 100'000;
  std::uint64_t seed = 1;
  unsigned limit_s = 120;
  bool hold = false;
};

using Value = std::shared_ptr<const std::string>;  // null: no such key

std::string bulk(const std::string& text) {
  return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
}

std::string command(std::initializer_list<std::string> words) {
  std::string out = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) out += bulk(word);
  return out;
}

// The expected answers, compared as bytes arrive. Large values are held by reference.
class Expected {
 public:
  void text(const std::string& s) { parts_.push_back(std::make_shared<const std::string>(s)); }
  void value(const Value& v) {
    if (v == nullptr) return text("$-1\r\n");
    text("$" + std::to_string(v->size()) + "\r\n");
    parts_.push_back(v);
    text("\r\n");
  }
  // A null part marks the end of one answer.
  void end_of_answer() { parts_.push_back(nullptr); }

  // Consumes `size` bytes; returns the number of answers completed, -1 for a difference.
  int match(const char* data, std::size_t size) {
    int answers = 0;
    for (;;) {
      while (!parts_.empty() && parts_.front() == nullptr) {
        parts_.pop_front();
        ++answers;
      }
      if (size == 0) return answers;
      if (parts_.empty()) return -1;  // more than was asked for
      const std::string& part = *parts_.front();
      const std::size_t n = std::min(size, part.size() - at_);
      if (std::memcmp(part.data() + at_, data, n) != 0) return -1;
      at_ += n;
      data += n;
      size -= n;
      if (at_ < part.size()) continue;
      at_ = 0;
      parts_.pop_front();
    }
  }

 private:
  std::deque<Value> parts_;
  std::size_t at_ = 0;
};

// One connection: its model, the bytes to send and the answers it waits for.
class Client {
 public:
  Client(int number, const Settings& s, const std::string& noise)
      : fd(connect_to(s.host, s.port)),
        number_(number),
        random_(s.seed * 1'000'003 + static_cast<std::uint64_t>(number)),
        noise_(noise),
        values_(kKeys) {
    set_nonblocking(fd);
  }

  bool waiting() const { return outstanding_ > 0; }
  bool wants_to_send() const { return sent_ < out_.size(); }

  // Queues a batch of at most `limit` requests; returns how many.
  int ask(int limit) {
    const int depth = 1 + static_cast<int>(random_.below(kDepthMax));
    const int n = std::min(depth, limit);
    out_.clear();
    sent_ = 0;
    for (int i = 0; i < n; ++i) one_request();
    outstanding_ += n;
    return n;
  }

  void write_more() {
    while (wants_to_send()) {
      const ssize_t n = send(fd, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
      if (n < 0 && errno == EAGAIN) return;
      if (n < 0) die("send");
      sent_ += static_cast<std::size_t>(n);
      bytes_sent += static_cast<std::uint64_t>(n);
    }
  }

  void read_more(std::vector<char>& block) {
    for (;;) {
      const ssize_t n = recv(fd, block.data(), block.size(), 0);
      if (n < 0 && errno == EAGAIN) return;
      if (n < 0) die("recv");
      if (n == 0) die_plain("the server closed connection " + std::to_string(number_));
      hash.update(block.data(), static_cast<std::size_t>(n));
      const int answers = expected_.match(block.data(), static_cast<std::size_t>(n));
      if (answers < 0) {
        die_plain("connection " + std::to_string(number_) + ": a wrong answer within the " +
                  std::to_string(n) + " bytes after byte " + std::to_string(hash.bytes()));
      }
      outstanding_ -= answers;
    }
  }

  const int fd;
  StreamHash hash;
  std::uint64_t bytes_sent = 0;

 private:
  std::string key(std::size_t i) const {
    return "mix:" + std::to_string(number_) + ":" + std::to_string(i);
  }
  std::string random_value() {
    std::size_t max = 4096;
    if (random_.below(80) == 0) max = kValueMax;
    const std::size_t size = max == kValueMax && random_.below(4) == 0 ? max : random_.size(max);
    return noise_.substr(random_.below(noise_.size() - size + 1), size);
  }

  void one_request() {
    const std::size_t i = random_.below(kKeys);
    switch (random_.below(10)) {
      case 0:
      case 1:
      case 2:
        set(i);
        break;
      case 3:
        append(i);
        break;
      case 4:
        get_many();
        break;
      case 5:
        delete_or_length(i);
        break;
      case 6:
        get_range(i);
        break;
      default:
        out_ += command({"GET", key(i)});
        expected_.value(values_[i]);
    }
    expected_.end_of_answer();
  }

  void set(std::size_t i) {
    values_[i] = std::make_shared<const std::string>(random_value());
    out_ += command({"SET", key(i), *values_[i]});
    expected_.text("+OK\r\n");
  }
  void append(std::size_t i) {
    std::string more = random_value();
    const std::size_t old = values_[i] == nullptr ? 0 : values_[i]->size();
    if (old + more.size() > kValueMax) more.resize(std::min<std::size_t>(kValueMax - old, 1));
    std::string all = (values_[i] == nullptr ? "" : *values_[i]) + more;
    expected_.text(":" + std::to_string(all.size()) + "\r\n");
    out_ += command({"APPEND", key(i), more});
    values_[i] = std::make_shared<const std::string>(std::move(all));
  }
  void get_many() {
    const std::size_t n = 1 + random_.below(8);
    out_ += "*" + std::to_string(n + 1) + "\r\n" + bulk("MGET");
    expected_.text("*" + std::to_string(n) + "\r\n");
    for (std::size_t k = 0; k < n; ++k) {
      const std::size_t i = random_.below(kKeys);
      out_ += bulk(key(i));
      expected_.value(values_[i]);
    }
  }
  void delete_or_length(std::size_t i) {
    const bool exists = values_[i] != nullptr;
    if (random_.below(2) == 0) {
      out_ += command({"DEL", key(i)});
      expected_.text(exists ? ":1\r\n" : ":0\r\n");
      values_[i] = nullptr;
    } else {
      out_ += command({"STRLEN", key(i)});
      expected_.text(":" + std::to_string(exists ? values_[i]->size() : 0) + "\r\n");
    }
  }
  void get_range(std::size_t i) {
    const std::size_t size = values_[i] == nullptr ? 0 : values_[i]->size();
    const std::size_t from = random_.below(size + 1);
    const std::size_t to = from + random_.below(size - from + 1);
    out_ += command({"GETRANGE", key(i), std::to_string(from), std::to_string(to)});
    const std::string part = from < size ? values_[i]->substr(from, to - from + 1) : std::string();
    expected_.text(bulk(part));
  }

  int number_;
  Random random_;
  const std::string& noise_;
  std::vector<Value> values_;
  Expected expected_;
  std::string out_;
  std::size_t sent_ = 0;
  int outstanding_ = 0;
};

class Mix {
 public:
  explicit Mix(const Settings& s) : settings_(s), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    Stream stream(s.seed);
    noise_.assign(reinterpret_cast<const char*>(stream.peek(kValueMax)), kValueMax);
    noise_ += noise_.substr(0, kValueMax / 2);
    clients_.reserve(static_cast<std::size_t>(s.connections));
    for (int i = 0; i < s.connections; ++i) {
      clients_.push_back(std::make_unique<Client>(i, s, noise_));
      epoll_event event{EPOLLIN | EPOLLOUT | EPOLLET, {}};
      event.data.ptr = clients_.back().get();
      if (epoll_ctl(epoll_, EPOLL_CTL_ADD, clients_.back()->fd, &event) != 0) die("epoll_ctl");
      left_.push_back(s.requests / s.connections + (i < s.requests % s.connections ? 1 : 0));
    }
  }

  void run() {
    const double start = now_seconds();
    for (std::size_t i = 0; i < clients_.size(); ++i) next_batch(i);
    std::vector<char> block(1 << 18);
    while (busy()) {
      epoll_event events[64];
      const int n = epoll_wait(epoll_, events, 64, -1);
      if (n < 0) die("epoll_wait");
      for (int k = 0; k < n; ++k) {
        auto* client = static_cast<Client*>(events[k].data.ptr);
        if ((events[k].events & ~EPOLLOUT) != 0) client->read_more(block);
        client->write_more();
      }
      for (std::size_t i = 0; i < clients_.size(); ++i) {
        if (!clients_[i]->waiting() && left_[i] > 0) next_batch(i);
      }
    }
    report(now_seconds() - start);
  }

 private:
  void next_batch(std::size_t i) {
    left_[i] -= clients_[i]->ask(left_[i]);
    clients_[i]->write_more();
  }
  bool busy() const {
    for (const auto& client : clients_) {
      if (client->waiting()) return true;
    }
    return false;
  }
  void report(double seconds) const {
    std::uint64_t hash = 0;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    for (const auto& client : clients_) {
      hash = mix64(hash ^ client->hash.value());
      sent += client->bytes_sent;
      received += client->hash.bytes();
    }
    say(nlohmann::json{{"requests", settings_.requests},
                       {"sent", sent},
                       {"received", received},
                       {"answers_hash", hex(hash)},
                       {"seconds", seconds}}
            .dump());
  }

  Settings settings_;
  int epoll_;
  std::string noise_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<int> left_;
};

}  // namespace
}  // namespace shunt::test

int main(int argc, char** argv) {
  shunt::test::Settings s;
  shunt::test::Options app{"A mixed Redis workload, compared byte for byte"};
  app.value("--host", s.host, "numeric address");
  app.value("--port", s.port, "port");
  app.between(1, 10'000, "--connections", s.connections, "at once");
  app.value("--requests", s.requests, "in all");
  app.value("--seed", s.seed, "of everything");
  app.value("--limit", s.limit_s, "seconds after which to give up");
  app.flag("--hold", s.hold, "stay until stdin ends");
  app.parse(argc, argv);
  shunt::test::limit_time(s.limit_s);
  shunt::test::Mix mix(s);
  mix.run();
  if (s.hold) shunt::test::hold_until_stdin_ends();
  return 0;
}
