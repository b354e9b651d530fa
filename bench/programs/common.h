// What the bench's server and client share: addresses, errors, and the conversation with the runner
// (lines on stdout and stdin). libc sockets and nothing of Shunt, so that every carrier is measured
// with the same program.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <string>

namespace bench {

// The first byte of a message says what it is: one byte that comes back, or the first of the bulk
// bytes that both sides were told on their command lines.
constexpr char kByte = 'b';
constexpr char kBulk = 'X';
constexpr std::size_t kPiece = 65536;  // of one send() or recv() of bulk

// Ends the process with "PROGRAM: WHAT: error text" on stderr.
[[noreturn]] void die(const std::string& what);
[[noreturn]] void die_plain(const std::string& what);

// To be called first: ends with the runner, has all the descriptors it may have, and no SIGPIPE.
void prepare_process();

// One line on stdout, at once.
void say(const std::string& line);
// A line of stdin without its end; false when stdin has ended.
bool next_command(std::string* line);

double now_seconds();  // CLOCK_MONOTONIC: the same clock in both processes
long number(const std::string& option, const char* text);

// Listens on a free port of 127.0.0.1 ("tcp") or on an abstract name of the kernel's choice
// ("unix"), which leaves no file, and says "ready 127.0.0.1:PORT" or "ready @NAME".
int listen_and_say(const std::string& family);

// Where to connect to, as "ready" names it.
struct Address {
  explicit Address(const std::string& text);
  sockaddr_storage storage{};
  socklen_t length = 0;
};
int connect_to(const Address& address);

void send_all(int fd, const char* data, std::size_t size);
// False at the end of the stream.
bool receive_all(int fd, char* data, std::size_t size);

}  // namespace bench
