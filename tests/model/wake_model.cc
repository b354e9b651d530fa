// A model of how the two ends of a connection sleep and wake each other, checked by relacy under the
// C++ memory model: every interleaving within bounds, and every value that a load may return.
//
// It has what ring/writer.cc and ring/reader.cc do to head, tail, recv_waiting and send_waiting, and
// the bell as a semaphore. Data, segments and inline messages are left out: head and tail order them
// (ring/threads_test.cc shows that). The buffer is counted in units; the constants keep the relations
// of the real ones: a writer sleeps only while kUnreadOfSleeper units are unread as it sees it, and a
// reader looks whether the writer sleeps once for every kLookEvery units consumed.
//
// Usage: wake_model VARIANT. The variants that take something out of the protocol are the negative
// control: there the checker must find the deadlock that a lost wake is.
#include <climits>
#include <cstdio>
#include <cstring>
#include <relacy/relacy.hpp>

namespace {

enum Variant {
  kCorrect,
  kNoFenceInPublish,    // sender does not fence between head and the look at recv_waiting
  kNoFenceInConsume,    // receiver does not fence between tail and the look at send_waiting
  kNoFenceInBeginWait,  // sleeper does not fence between its announcement and the last look
  kOldEpochKept,        // a sleeper woken in vain goes back to sleep under the same epoch
  kLookByUnread,        // receiver skips the look when it believes that little is unread
};

enum Shape {
  kBothWays,  // each end is one thread that sends and receives, and sleeps for both on one bell
  kOneWay,    // a sender and a receiver
};

constexpr unsigned kCapacity = 3;
constexpr unsigned kUnreadOfSleeper = 2;  // writable() is false from here on
constexpr unsigned kLookEvery = 2;

struct Line {  // what one end publishes
  rl::atomic<unsigned> head;
  rl::atomic<unsigned> tail;
  rl::atomic<unsigned> recv_waiting;
  rl::atomic<unsigned> send_waiting;
  rl::semaphore<Line> bell;  // rings for this end; never wakes without one
};

template <Variant variant, Shape shape, unsigned units, rl::test_result_e result>
struct Connection : rl::test_suite<Connection<variant, shape, units, result>, 2, result> {
  Line line[2];

  void before() {
    for (Line& each : line) {
      each.head.store(0, rl::mo_relaxed, $);
      each.tail.store(0, rl::mo_relaxed, $);
      each.recv_waiting.store(0, rl::mo_relaxed, $);
      each.send_waiting.store(0, rl::mo_relaxed, $);
      each.bell.init(false, 0, INT_MAX, $);
    }
  }
  void after() {
    for (Line& each : line) each.bell.deinit($);
  }

  struct Private {
    unsigned sent, tail_seen;               // writer
    unsigned received, head_seen, looked;   // reader
    unsigned recv_epoch, send_epoch;        // our announcements
    unsigned rung_for_recv, rung_for_send;  // the peer's epochs for which we have rung
    unsigned to_send, to_receive;
  };

  static void fence_unless(Variant without) {
    if (variant != without) rl::atomic_thread_fence(rl::mo_seq_cst, $);
  }

  // Rings the peer once for each epoch.
  void ring_if(rl::atomic<unsigned>& waiting, unsigned& rung, Line& peer) {
    const unsigned epoch = waiting.load(rl::mo_relaxed, $);
    if (epoch % 2 == 0 || epoch == rung) return;
    rung = epoch;
    unsigned before = 0;
    peer.bell.post(1, before, $);
  }

  bool send(Private& p, Line& own, Line& peer) {
    if (p.sent == p.to_send) return false;
    if (p.sent - p.tail_seen == kCapacity) p.tail_seen = peer.tail.load(rl::mo_acquire, $);
    if (p.sent - p.tail_seen == kCapacity) return false;
    own.head.store(++p.sent, rl::mo_release, $);
    fence_unless(kNoFenceInPublish);
    ring_if(peer.recv_waiting, p.rung_for_recv, peer);
    return true;
  }

  bool receive(Private& p, Line& own, Line& peer) {
    if (p.received == p.to_receive) return false;
    if (p.head_seen == p.received) p.head_seen = peer.head.load(rl::mo_acquire, $);
    if (p.head_seen == p.received) return false;
    const unsigned unread = p.head_seen - p.received;
    own.tail.store(++p.received, rl::mo_release, $);
    const bool look =
        variant == kLookByUnread ? unread >= kUnreadOfSleeper : p.received - p.looked >= kLookEvery;
    if (look) {
      p.looked = p.received;
      fence_unless(kNoFenceInConsume);
      ring_if(peer.send_waiting, p.rung_for_send, peer);
    }
    return true;
  }

  void announce(rl::atomic<unsigned>& waiting, unsigned& epoch) {
    epoch = variant == kOldEpochKept ? epoch | 1 : (epoch + 1) | 1;
    waiting.store(epoch, rl::mo_relaxed, $);
    fence_unless(kNoFenceInBeginWait);
  }
  void withdraw(rl::atomic<unsigned>& waiting, unsigned& epoch) {
    if (epoch % 2 == 0) return;
    waiting.store(++epoch, rl::mo_relaxed, $);
  }

  void sleep(Private& p, Line& own, Line& peer) {
    const bool for_data = p.received != p.to_receive;
    const bool for_space = p.sent != p.to_send;
    if (for_data) announce(own.recv_waiting, p.recv_epoch);
    if (for_space) announce(own.send_waiting, p.send_epoch);
    bool ready = false;
    if (for_data) {
      p.head_seen = peer.head.load(rl::mo_acquire, $);
      ready = p.head_seen != p.received;
    }
    if (for_space) {
      p.tail_seen = peer.tail.load(rl::mo_acquire, $);
      ready = ready || p.sent - p.tail_seen < kUnreadOfSleeper;
    }
    if (!ready) own.bell.wait(false, false, $);
    if (variant == kOldEpochKept) return;  // "still waiting": announces again without an end
    withdraw(own.recv_waiting, p.recv_epoch);
    withdraw(own.send_waiting, p.send_epoch);
  }

  void thread(unsigned index) {
    Line& own = line[index];
    Line& peer = line[1 - index];
    Private p = {};
    p.to_send = shape == kBothWays || index == 0 ? units : 0;
    p.to_receive = shape == kBothWays || index == 1 ? units : 0;
    while (p.sent != p.to_send || p.received != p.to_receive) {
      bool progress = receive(p, own, peer);
      progress = send(p, own, peer) || progress;
      if (!progress) sleep(p, own, peer);
    }
  }
};

template <typename Test>
bool check(rl::scheduler_type_e scheduler, unsigned iterations, unsigned bound) {
  rl::test_params params;
  params.search_type = scheduler;
  params.iteration_count = iterations;
  params.context_bound = bound;
  params.execution_depth_limit = 20000;
  return rl::simulate<Test>(params);
}

constexpr unsigned kIterations = 100000;

// Nothing may be found, by random schedules and by all with few preemptions.
template <Shape shape, unsigned units>
bool sound() {
  using Test = Connection<kCorrect, shape, units, rl::test_result_success>;
  return check<Test>(rl::sched_random, kIterations, 0) &&
         check<Test>(rl::sched_bound, kIterations, 2);
}

// The lost wake must be found: everybody sleeps.
template <Variant variant, Shape shape, unsigned units>
bool broken() {
  using Test = Connection<variant, shape, units, rl::test_result_deadlock>;
  return check<Test>(rl::sched_random, 10 * kIterations, 0);
}

}  // namespace

int main(int argc, char** argv) {
  const struct {
    const char* name;
    bool (*run)();
  } variants[] = {
      {"correct", sound<kBothWays, 4>},
      {"correct-one-way", sound<kOneWay, 6>},
      {"no-fence-in-publish", broken<kNoFenceInPublish, kBothWays, 4>},
      {"no-fence-in-consume", broken<kNoFenceInConsume, kOneWay, 6>},
      {"no-fence-in-begin-wait", broken<kNoFenceInBeginWait, kOneWay, 6>},
      {"old-epoch-kept", broken<kOldEpochKept, kOneWay, 6>},
      {"look-by-unread", broken<kLookByUnread, kOneWay, 6>},
  };
  for (const auto& each : variants) {
    if (argc == 2 && std::strcmp(argv[1], each.name) == 0) {
      const bool as_expected = each.run();
      std::printf("%s: %s\n", each.name, as_expected ? "as expected" : "NOT as expected");
      return as_expected ? 0 : 1;
    }
  }
  std::fprintf(stderr, "usage: wake_model VARIANT, one of:");
  for (const auto& each : variants) std::fprintf(stderr, " %s", each.name);
  std::fprintf(stderr, "\n");
  return 2;
}
