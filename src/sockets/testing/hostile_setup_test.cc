// Set-up messages that are nonsense, late, or never come: accept() neither hangs nor crashes, honest
// clients are served, and nothing is leaked.
#include <poll.h>
#include <sched.h>

#include <functional>
#include <thread>

#include "sockets/testing/test_hostile.h"

namespace shunt::sockets {
namespace {

constexpr std::uint64_t kArenaBytes = layout::ArenaShape{1}.bytes();

// A CONNECT about to be sent, with what a case changes in it. The descriptors are closed after it.
struct Offer {
  wire::Message message;
  std::vector<int> fds;  // area, reservation
  std::function<void(wire::MessageBytes&)> edit = [](wire::MessageBytes&) {};
  std::size_t size = wire::kMessageBytes;

  void replace(std::size_t index, int fd) {
    ::close(fds[index]);
    fds[index] = fd;
  }
};

int memory(const char* name, unsigned flags, std::size_t size, int seals) {
  const int fd = memfd_create(name, flags | MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return ::open("/dev/null", O_RDONLY | O_CLOEXEC);  // no huge pages here
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) ADD_FAILURE();
  if (::fcntl(fd, F_ADD_SEALS, seals) != 0) ADD_FAILURE();
  return fd;
}

int file_of_arena_size(const char* directory) {
  const int fd = ::open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (::ftruncate(fd, kArenaBytes) != 0) ADD_FAILURE();
  return fd;
}

int ip_socket(int type, bool bound) {
  const int fd = ::socket(AF_INET, type | SOCK_CLOEXEC, 0);
  const sockaddr_in in = loopback(0);
  if (bound) {
    EXPECT_EQ(0, ::bind(fd, reinterpret_cast<const sockaddr*>(&in), sizeof in));
  }
  return fd;
}

// Bound in a network namespace of its own; -1 without the right to make one.
int socket_of_another_namespace() {
  int fd = -1;
  std::thread([&] {
    if (unshare(CLONE_NEWNET) != 0) return;
    fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in in = loopback(4242);
    in.sin_addr.s_addr = INADDR_ANY;
    EXPECT_EQ(0, ::bind(fd, reinterpret_cast<const sockaddr*>(&in), sizeof in));
  }).join();
  return fd;
}

// A connected TCP socket whose last close would wait ten seconds for its unsent bytes.
int lingering_socket(std::vector<int>* others) {
  wire::Endpoint local;
  const int listener = bound_tcp(&local);
  const int fd = ip_socket(SOCK_STREAM, true);
  const sockaddr_in in = loopback(local.port);
  EXPECT_EQ(0, ::listen(listener, 1));
  EXPECT_EQ(0, ::connect(fd, reinterpret_cast<const sockaddr*>(&in), sizeof in));
  const linger wait{1, 10};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &wait, sizeof wait);
  const std::string bytes(1 << 20, 'x');
  while (::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
  }
  others->push_back(listener);
  return fd;
}

struct Case {
  const char* name;
  std::function<void(Offer&)> change;
};

const std::vector<Case>& malformed_connects() {
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;
  static const std::vector<Case> cases = {
      {"CutShort", [](Offer& o) { o.size = 255; }},
      {"OneByte", [](Offer& o) { o.size = 1; }},
      {"WrongMagic", [](Offer& o) { o.edit = [](auto& b) { b[1] ^= 1; }; }},
      {"WrongVersion", [](Offer& o) { o.edit = [](auto& b) { b[4] ^= 0xff; }; }},
      {"UnknownType", [](Offer& o) { o.edit = [](auto& b) { b[6] = 99; }; }},
      {"Connected", [](Offer& o) { o.message.type = wire::MessageType::kConnected; }},
      {"Zeros", [](Offer& o) { o.edit = [](auto& b) { b.fill(0); }; }},
      {"DirtyPadding", [](Offer& o) { o.edit = [](auto& b) { b.back() = 1; }; }},
      {"NoDescriptors",
       [](Offer& o) {
         for (const int fd : o.fds) ::close(fd);
         o.fds.clear();
       }},
      {"OneDescriptor",
       [](Offer& o) {
         ::close(o.fds.back());
         o.fds.pop_back();
       }},
      {"ManyDescriptorsOfTheWrongKind",
       [](Offer& o) {
         while (o.fds.size() < 4) o.fds.push_back(::dup(o.fds[1]));
         std::swap(o.fds[0], o.fds[1]);
       }},
      {"ArenaNotSealed",
       [](Offer& o) { o.replace(0, memory("arena", 0, kArenaBytes, F_SEAL_GROW)); }},
      {"ArenaTooSmall", [](Offer& o) { o.replace(0, memory("arena", 0, 4096, kSeals)); }},
      {"ArenaEmpty", [](Offer& o) { o.replace(0, memory("arena", 0, kArenaBytes, kSeals)); }},
      {"ArenaOfHugePages",
       [](Offer& o) { o.replace(0, memory("arena", MFD_HUGETLB, 6 << 20, kSeals)); }},
      {"ArenaIsARegularFile", [](Offer& o) { o.replace(0, file_of_arena_size("/tmp")); }},
      {"ArenaIsATmpfsFile", [](Offer& o) { o.replace(0, file_of_arena_size("/dev/shm")); }},
      {"ArenaIsADirectory", [](Offer& o) { o.replace(0, ::open("/", O_RDONLY | O_CLOEXEC)); }},
      {"WrongGeneration", [](Offer& o) { ++o.message.generation; }},
      {"PlaceBehindTheLast", [](Offer& o) { o.message.area.offset = 1; }},
      {"PlaceFarBehindTheLast", [](Offer& o) { o.message.area.offset = ~std::uint64_t{0}; }},
      {"MorePlacesThanTheArenaHas", [](Offer& o) { o.message.area.length = 2; }},
      {"MorePlacesThanAnArenaMayHave", [](Offer& o) { o.message.area.length = 1 << 20; }},
      {"NoPlaces", [](Offer& o) { o.message.area.length = 0; }},
      {"PlacesBeyondAllBounds", [](Offer& o) { o.message.area.length = ~std::uint64_t{0}; }},
      {"AnotherArena", [](Offer& o) { ++o.message.arena.low; }},
      {"NoArena", [](Offer& o) { o.message.arena = {}; }},
      {"AnAreaOfItsOwn",
       [](Offer& o) {
         o.message.arena = {};
         o.message.area = {wire::kObjectDescriptor, 0, layout::kAreaBytes};
       }},
      {"UnknownObject", [](Offer& o) { o.message.area.object = 7; }},
      {"ReservationIsNoSocket",
       [](Offer& o) { o.replace(1, ::open("/dev/null", O_RDONLY | O_CLOEXEC)); }},
      {"ReservationUnbound", [](Offer& o) { o.replace(1, ip_socket(SOCK_STREAM, false)); }},
      {"ReservationIsUdp", [](Offer& o) { o.replace(1, ip_socket(SOCK_DGRAM, true)); }},
      {"ReservationIsUnix",
       [](Offer& o) { o.replace(1, ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }},
      {"OtherPort", [](Offer& o) { ++o.message.destination.port; }},
      {"OtherAddress", [](Offer& o) { o.message.destination.address[3] = 9; }},
      {"OtherFamily", [](Offer& o) { o.message.destination.family = AF_INET6; }},
      {"NotTheDriver", [](Offer& o) { o.message.flags = wire::kViaDriver; }},
  };
  return cases;
}

struct HostileSetup : testing::Test {
  Server server;
  HostileSetup() {
    // Whatever is made once in a process is made before anybody counts.
    Neighbour(server).expect_unharmed();
    untrusted_resets();
  }
  void send_malformed(const Case& c, Liar& liar) {
    wire::Endpoint source;
    Offer offer{liar.connect_message(server.local), {::dup(liar.area_fd), bound_tcp(&source)}};
    c.change(offer);
    wire::MessageBytes bytes = wire::encode(offer.message);
    offer.edit(bytes);
    liar.reach(server);
    EXPECT_EQ(static_cast<long>(offer.size),
              sys::send_fds(liar.bell, bytes.data(), offer.size, offer.fds.data(),
                            static_cast<int>(offer.fds.size()), 0));
    for (const int fd : offer.fds) ::close(fd);
  }
};

TEST_F(HostileSetup, MalformedConnectsAreDroppedAndHonestClientsServed) {
  for (const Case& c : malformed_connects()) {
    SCOPED_TRACE(c.name);
    const Holdings before = Holdings::now();
    {
      Liar liar;
      send_malformed(c, liar);
      const Neighbour honest(server);
      honest.expect_unharmed();
      EXPECT_TRUE(liar.hung_up());
      EXPECT_EQ(-EAGAIN, server.accept_raw());
    }
    EXPECT_EQ(before, Holdings::now());
  }
}

TEST_F(HostileSetup, AReservationOfAnotherNamespaceIsRefused) {
  const int other = socket_of_another_namespace();
  if (other < 0) GTEST_SKIP() << "no right to make a network namespace";
  Liar liar;
  send_malformed({"", [&](Offer& o) { o.replace(1, other); }}, liar);
  EXPECT_EQ(-EAGAIN, server.accept_raw());
  EXPECT_TRUE(liar.hung_up());
}

TEST_F(HostileSetup, ALingeringReservationDelaysNobody) {
  std::vector<int> others;
  Liar liar;
  send_malformed({"", [&](Offer& o) { o.replace(1, lingering_socket(&others)); }}, liar);
  const std::int64_t begin = sys::monotonic_ns();
  EXPECT_EQ(-EAGAIN, server.accept_raw());
  EXPECT_GT(2'000'000'000, sys::monotonic_ns() - begin);
  EXPECT_TRUE(liar.hung_up());
  for (const int fd : others) ::close(fd);
}

TEST_F(HostileSetup, SilentClientsStarveNobody) {
  const Holdings before = Holdings::now();
  {
    std::vector<std::unique_ptr<Liar>> silent;
    for (int i = 0; i < 150; ++i) {
      silent.push_back(std::make_unique<Liar>());
      silent.back()->reach(server);
    }
    for (int i = 0; i < 3; ++i) Neighbour(server).expect_unharmed();
    EXPECT_EQ(-EAGAIN, server.accept_raw());
    EXPECT_TRUE(silent.front()->hung_up()) << "of too many the oldest give way";
    // Among those that stay, a late CONNECT is noticed and answered.
    Liar& late = *silent.back();
    late.send_connect(server);
    pollfd p{waiting_descriptor(server.end.fd, server.end.socket), POLLIN, 0};
    EXPECT_EQ(1, ::poll(&p, 1, 2000));
    const End accepted = server.accept();
    EXPECT_TRUE(accepted.shunted());
  }
  EXPECT_EQ(-EAGAIN, server.accept_raw()) << "the silent ones have gone";
  EXPECT_EQ(before, Holdings::now());
}

TEST_F(HostileSetup, TheOldestSilentClientGivesWayNotTheSlowOne) {
  std::vector<std::unique_ptr<Liar>> silent;
  const auto arrive = [&](int count) {
    for (int i = 0; i < count; ++i) {
      silent.push_back(std::make_unique<Liar>());
      silent.back()->reach(server);
      EXPECT_EQ(-EAGAIN, server.accept_raw());
    }
  };
  arrive(kMaxPending);
  Liar slow;
  slow.reach(server);
  EXPECT_EQ(-EAGAIN, server.accept_raw());
  arrive(kMaxPending - 1);
  slow.send_connect(server);
  EXPECT_TRUE(server.accept().shunted());
}

void cut_short(const Liar& l) {
  EXPECT_EQ(100, ::send(l.bell, std::string(100, 'S').data(), 100, 0));
}
void rings(const Liar& l) {
  EXPECT_EQ(5000, ::send(l.bell, std::string(5000, '\0').data(), 5000, 0));
}

TEST_F(HostileSetup, AnswersThatAreNonsenseReset) {
  const auto changed = [](auto change) {
    return [change](const Liar& l) {
      wire::Message m = connected_message(l);
      change(m);
      answer(l, m, l.area_fd);
    };
  };
  const std::vector<std::pair<const char*, std::function<void(const Liar&)>>> answers = {
      {"cut short", cut_short},
      {"rings", rings},
      {"no area",
       [](const Liar& l) {
         const wire::MessageBytes b = wire::encode(connected_message(l));
         EXPECT_EQ(256, ::send(l.bell, b.data(), b.size(), 0));
       }},
      {"wrong object", [](const Liar& l) { answer(l, connected_message(l), l.bell); }},
      {"wrong generation", changed([](wire::Message& m) { ++m.generation; })},
      {"wrong type", changed([](wire::Message& m) { m.type = wire::MessageType::kRefused; })},
      {"wrong length", changed([](wire::Message& m) { m.area.length = 2; })},
  };
  for (const auto& [name, say] : answers) {
    SCOPED_TRACE(name);
    const Holdings before = Holdings::now();
    const std::uint64_t resets = untrusted_resets();
    {
      const HostileListener listener;
      const End victim = connect_to(listener.local);
      Liar liar;
      listener.take(liar);
      char byte = 'x';
      EXPECT_EQ(1, victim.send(&byte, 1));
      auto result = std::async(std::launch::async, [&] { return victim.receive(&byte, 1, 0); });
      EXPECT_EQ(std::future_status::timeout, result.wait_for(std::chrono::milliseconds(10)));
      say(liar);
      EXPECT_EQ(-ECONNRESET, within_seconds(5, result, [&] { ::shutdown(liar.bell, SHUT_RDWR); }));
      EXPECT_EQ(-EPIPE, victim.send(&byte, 1));
    }
    EXPECT_EQ(resets + 1, untrusted_resets());
    EXPECT_EQ(before, Holdings::now());
  }
  Neighbour(server).expect_unharmed();
}

TEST_F(HostileSetup, ASecondConnectedIsARingLikeAnyOther) {
  const Holdings before = Holdings::now();
  {
    const HostileListener listener;
    const End victim = connect_to(listener.local);
    Liar liar;
    Liar other;
    listener.take(liar);
    answer(liar, connected_message(liar), liar.area_fd);
    answer(liar, connected_message(other), other.area_fd);
    liar.write(10);
    char bytes[20];
    EXPECT_EQ(10, victim.receive(bytes, sizeof bytes, 0));
    EXPECT_EQ(-EAGAIN, victim.receive(bytes, sizeof bytes));
  }
  EXPECT_EQ(before, Holdings::now());
}

}  // namespace
}  // namespace shunt::sockets
