// What the test programs share: sockets by plain libc calls, errors, and the conversation with the
// harness (lines on stdout, end of stdin).
#pragma once

#include <cstdint>
#include <string>

namespace shunt::test {

// Prints "PROGRAM: WHAT: error text" and exits with 1.
[[noreturn]] void die(const std::string& what);
[[noreturn]] void die_plain(const std::string& what);

// Ends the process with status 124 after `seconds`: no test program ever hangs.
void limit_time(unsigned seconds);

// One line on stdout, flushed, so that the harness sees it at once.
void say(const std::string& line);

// Blocks until stdin ends: the harness looks at the live process meanwhile.
void hold_until_stdin_ends();

void raise_descriptor_limit();

// Listens and says "ready PORT".
int listen_and_say(const std::string& host, std::uint16_t port, int backlog = 1024);
int connect_to(const std::string& host, std::uint16_t port);
int accept_one(int listener);
void set_nonblocking(int fd);

std::string hex(std::uint64_t value);
double now_seconds();  // monotonic

}  // namespace shunt::test
