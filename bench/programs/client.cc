// The bench's client.
//
//   bench_client --to ADDRESS rate --clients N --seconds S
//       says "up"; on "go" N threads connect, exchange a byte and close again and again;
//       "done COUNT SECONDS"
//   bench_client --to ADDRESS count --connections N
//       so many connections one after another, without a word
//   bench_client --to ADDRESS hold [--bulk-in N] [--bulk-out N]
//       says "up", then does what the lines of stdin say:
//         open N   connections more, a byte there and back on each; "open"
//         bulk     on each connection a bulk message and its answer; "bulk"
//         close    all; "closed START END" (CLOCK_MONOTONIC)
#include <getopt.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <vector>

#include "common.h"

namespace bench {
namespace {

// Connections in one go: each keeps a port in TIME-WAIT, and there are some 28 000.
constexpr long kMost = 20'000;

struct Settings {
  std::string to;
  std::string what;
  long clients = 1;
  long connections = 0;
  double seconds = 1;
  std::size_t bulk_in = 1;
  std::size_t bulk_out = 0;
};

int open_one(const Address& address) {
  const int fd = connect_to(address);
  char byte = kByte;
  send_all(fd, &byte, 1);
  if (!receive_all(fd, &byte, 1) || byte != kByte) die_plain("the byte did not come back");
  return fd;
}

void connect_and_close(const Address& address) {
  const int fd = open_one(address);
  if (close(fd) != 0) die("close");
}

struct Race {
  explicit Race(const Settings& s) : address(s.to) {}
  Address address;
  std::atomic<bool> over{false};
  std::atomic<long> done{0};
};

void* racer(void* argument) {
  auto* race = static_cast<Race*>(argument);
  while (!race->over.load(std::memory_order_relaxed)) {
    connect_and_close(race->address);
    race->done.fetch_add(1, std::memory_order_relaxed);
  }
  return nullptr;
}

// One client alone needs no thread beside it: it looks at the clock itself.
void rate_of_one(const Settings& s, const Address& address) {
  const double start = now_seconds();
  double now = start;
  long done = 0;
  for (; now - start < s.seconds && done < kMost; now = now_seconds(), ++done)
    connect_and_close(address);
  say("done " + std::to_string(done) + " " + std::to_string(now - start));
}

void rate_of_many(const Settings& s) {
  Race race(s);
  std::vector<pthread_t> threads(static_cast<std::size_t>(s.clients));
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  for (pthread_t& thread : threads) {
    errno = pthread_create(&thread, &attributes, racer, &race);
    if (errno != 0) die("pthread_create");
  }
  // All of them are on their way before the clock runs.
  const double begun = now_seconds();
  while (race.done.load() < 2 * s.clients && now_seconds() - begun < 0.2) usleep(1000);
  const double start = now_seconds();
  const long before = race.done.load();
  while (now_seconds() - start < s.seconds && race.done.load() < kMost) usleep(1000);
  const long count = race.done.load() - before;
  const double seconds = now_seconds() - start;
  race.over = true;
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  say("done " + std::to_string(count) + " " + std::to_string(seconds));
}

void rate(const Settings& s) {
  const Address address(s.to);
  for (int i = 0; i < 20; ++i) connect_and_close(address);  // what only the first ones cost
  say("up");
  std::string command;
  if (!next_command(&command)) return;
  if (s.clients == 1) {
    rate_of_one(s, address);
  } else {
    rate_of_many(s);
  }
  while (next_command(&command)) {  // the runner looks at the live process
  }
}

void count(const Settings& s) {
  const Address address(s.to);
  for (long i = 0; i < s.connections; ++i) connect_and_close(address);
}

void exchange_bulk(const Settings& s, int fd, std::vector<char>* piece) {
  (*piece)[0] = kBulk;
  for (std::size_t left = s.bulk_in; left > 0;) {
    const std::size_t size = std::min(left, kPiece);
    send_all(fd, piece->data(), size);
    left -= size;
  }
  for (std::size_t left = s.bulk_out; left > 0;) {
    const std::size_t size = std::min(left, kPiece);
    if (!receive_all(fd, piece->data(), size)) die_plain("the stream ended");
    left -= size;
  }
}

void hold(const Settings& s) {
  const Address address(s.to);
  std::vector<char> piece(kPiece, 'x');
  std::vector<int> fds;
  say("up");
  for (std::string command; next_command(&command);) {
    if (command.rfind("open ", 0) == 0) {
      for (long n = number("open", command.c_str() + 5); n > 0; --n)
        fds.push_back(open_one(address));
      say("open");
    } else if (command == "bulk") {
      for (int fd : fds) exchange_bulk(s, fd, &piece);
      say("bulk");
    } else if (command == "close") {
      const double start = now_seconds();
      for (int fd : fds) {
        if (close(fd) != 0) die("close");
      }
      say("closed " + std::to_string(start) + " " + std::to_string(now_seconds()));
      fds.clear();
    } else {
      die_plain("unknown command '" + command + "'");
    }
  }
}

Settings parse(int argc, char** argv) {
  static const option options[] = {{"to", required_argument, nullptr, 't'},
                                   {"clients", required_argument, nullptr, 'c'},
                                   {"connections", required_argument, nullptr, 'n'},
                                   {"seconds", required_argument, nullptr, 's'},
                                   {"bulk-in", required_argument, nullptr, 'i'},
                                   {"bulk-out", required_argument, nullptr, 'o'},
                                   {}};
  Settings s;
  for (int c; (c = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    if (c == 't')
      s.to = optarg;
    else if (c == 'c')
      s.clients = number("clients", optarg);
    else if (c == 'n')
      s.connections = number("connections", optarg);
    else if (c == 's')
      s.seconds = std::atof(optarg);
    else if (c == 'i')
      s.bulk_in = static_cast<std::size_t>(number("bulk-in", optarg));
    else if (c == 'o')
      s.bulk_out = static_cast<std::size_t>(number("bulk-out", optarg));
    else
      std::exit(2);
  }
  if (s.to.empty() || optind + 1 != argc) die_plain("--to ADDRESS and one of rate, count, hold");
  if (s.seconds <= 0 || s.clients < 1 || s.bulk_in < 1)
    die_plain("--seconds, --clients, --bulk-in: more than 0");
  s.what = argv[optind];
  return s;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  const bench::Settings settings = bench::parse(argc, argv);
  bench::prepare_process();
  if (settings.what == "rate")
    bench::rate(settings);
  else if (settings.what == "count")
    bench::count(settings);
  else if (settings.what == "hold")
    bench::hold(settings);
  else
    bench::die_plain("rate, count or hold, not '" + settings.what + "'");
  return 0;
}
