// Driver: the one driver of a partition. Sets connections to other partitions up; no data of theirs
// passes through it. On one kernel none of them is lost when it dies; between kernels it holds the bells,
// and they end with it.
//
// Two ways to learn of messages in the other partitions' output queues. Polling: look at the lanes
// again and again, paced by traffic. Interrupt: say in the section that we sleep, look once more,
// sleep until a doorbell (a datagram on the `.peer` socket, or what Options::doorbells says) or anything
// else wakes us. A driver that somebody alive cannot ring looks at the lanes by itself.
//
// On a device it also watches whether the other partitions live, and whether its own place is still its own:
// run() throws WindowError when it is not, or when the window was made again. Nothing is written after that, nor
// after a pause before it was looked at.
//
// Thread safety: one thread runs the driver; stop() from any thread and from signal handlers.
// Errors: the constructor throws WindowError (what to tell the user) or std::system_error.
#pragma once

#include <memory>
#include <string>

#include "driver/carriers/carrier.h"
#include "driver/carriers/descriptor_carrier.h"
#include "driver/carriers/mailbox.h"
#include "driver/carriers/range_carrier.h"
#include "driver/core/core.h"
#include "driver/core/options.h"
#include "driver/core/pacing.h"
#include "driver/requests/arrivals.h"
#include "driver/requests/requests.h"
#include "window/unique_fd.h"

namespace shunt::driver {

class Driver {
 public:
  // Afterwards the sockets listen and other drivers see this one up.
  explicit Driver(const Options& options);
  // Refuses what is open, removes the sockets, marks the section down.
  ~Driver();

  void run();  // until stop()
  void stop();
  // Ends run() when `fd` becomes readable (a signalfd); not owned.
  void stop_when_readable(int fd);

  std::uint64_t generation() const { return core_.generation(); }

 private:
  bool read_lanes();
  bool read_lane(Peer& peer, std::uint32_t most);
  // On a device: what has become of the peer, and all that follows from it.
  void look_at(Peer& peer, Clock::time_point now);
  bool is_for_us(Peer& from, const wire::Message& message);
  bool everybody_can_ring() const;
  void dispatch(Peer& from, const wire::MessageBytes& bytes);
  std::unique_ptr<RangeCarrier> make_ranges();
  void report(Peer& from, const char* what);
  void wait(bool had_work, std::chrono::microseconds limit);
  void say_the_last();
  void announce();
  void start_ticking();
  void on_tick();
  void watch_window(Clock::time_point now);
  void watch_place(Clock::time_point now);
  void after_sleep();
  void look_at_head();
  [[noreturn]] void leave(const std::string& why);
  void make_doorbells();
  void look_at_doorbells();

  // The directory for what the constructor binds, which is removed also when it fails half way.
  struct SocketFiles {
    explicit SocketFiles(const Core& core);
    ~SocketFiles();
    const Core& core;
  };

  Core core_;
  SocketFiles socket_files_;
  Mailbox mailbox_;
  // One of the two, and that one as what both are.
  const std::unique_ptr<DescriptorCarrier> descriptors_;  // in a directory
  const std::unique_ptr<RangeCarrier> ranges_;            // on a device
  Carrier& carrier_;
  Requests requests_;
  Arrivals arrivals_;
  window::UniqueFd timer_;
  window::UniqueFd stop_event_;
  Pacing pacing_;
  bool stopping_ = false;
  bool ticked_ = false;
  bool head_damaged_ = false;  // and said so
  std::uint32_t ticks_unrung_ = 0;
  Clock::time_point place_seen_ = Clock::now();  // when it was looked at whether it is still ours
};

}  // namespace shunt::driver
