// Places change hands: only when both ends have let go, in turn, within their budgets; and what a link and a pair keep.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "ring/writer.h"
#include "sockets/arenas/links.h"
#include "sockets/arenas/pairs.h"
#include "sockets/arenas/places.h"
#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

void forget_all() {
  const ArenasLocked locked;
  drop_links();
  drop_pairs();
}

std::size_t descriptors() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    count += !entry.path().empty();
  return count;
}

LinkKey listener(std::uint16_t port) {
  return {.pid = 1, .uid = 0, .own_uid = 0, .destination = {AF_INET, port, {127, 0, 0, 1}}};
}

// Both ends of a connection in one process, as connect() and accept() have them.
struct Ends {
  Offer offer;
  Answer answer;
  PlaceRef peer;  // the connecting side's, of the answer

  static Ends make(std::uint16_t port) {
    Ends e;
    EXPECT_TRUE(offer_place(listener(port), &e.offer));
    const Arena* a = e.offer.place.arena;
    int fd = ::fcntl(e.offer.fd, F_DUPFD_CLOEXEC, 3);
    EXPECT_EQ(Answering::kYes,
              answer_place({&fd, a->id, a->shape.places, e.offer.place.index}, &e.answer));
    if (fd >= 0) ::close(fd);
    offer_sent(e.offer, true);
    const Arena* mine = e.answer.own.arena;
    EXPECT_TRUE(take_answer(
        e.offer.place, {e.answer.fd, mine->id, mine->shape.places, e.answer.own.index}, &e.peer));
    answer_sent(e.answer, true);
    return e;
  }
  void connecting_ends(std::uint64_t written = 0) const {
    let_go({.own = offer.place,
            .peer = peer,
            .peer_held = true,
            .peer_generation = answer.generation,
            .last = true,
            .written = written,
            .segments = written != 0 ? 1u : 0u});
  }
  void accepting_ends(std::uint64_t written = 0) const {
    let_go({.own = answer.own,
            .peer = answer.peer,
            .peer_held = true,
            .peer_generation = offer.generation,
            .last = true,
            .written = written,
            .segments = written != 0 ? 1u : 0u});
  }
};

PlaceState state(const PlaceRef& p) { return p.arena->places[p.index].state.load(); }

struct Arenas : testing::Test {
  std::size_t before = descriptors();
  ~Arenas() override {
    forget_all();
    EXPECT_EQ(before, descriptors());
  }
};

TEST_F(Arenas, APlaceIsGivenAgainWhenBothHaveLetGo) {
  const Ends first = Ends::make(1);
  const PlaceRef place = first.offer.place;
  first.connecting_ends();
  EXPECT_EQ(PlaceState::kWaiting, state(place));
  PlaceRef again;
  std::uint32_t generation = 0;
  EXPECT_FALSE(take_any(place.arena, &again, &generation)) << "the other end may still read";
  first.accepting_ends();
  ASSERT_TRUE(take_any(place.arena, &again, &generation));
  EXPECT_EQ(place.index, again.index);
  EXPECT_NE(first.offer.generation, generation);
  let_go({.own = again, .peer = {}, .last = true});
}

TEST_F(Arenas, TheOrderOfTheTwoEndsIsAllTheSame) {
  const Ends first = Ends::make(1);
  first.accepting_ends();
  EXPECT_EQ(PlaceState::kWaiting, state(first.answer.own));
  first.connecting_ends();
  EXPECT_EQ(PlaceState::kFree, state(first.offer.place));
  // The connecting side names the place again: so it has let go of the answer's.
  const Ends second = Ends::make(1);
  EXPECT_EQ(first.offer.place.arena, second.offer.place.arena);
  EXPECT_EQ(first.answer.own.arena, second.answer.own.arena);
  second.connecting_ends();
  second.accepting_ends();
}

TEST_F(Arenas, WhatIsKnownNeedsNoDescriptor) {
  const Ends first = Ends::make(1);
  EXPECT_FALSE(first.answer.known);
  EXPECT_GE(first.answer.fd, 0);
  first.connecting_ends();
  first.accepting_ends();
  const Ends second = Ends::make(1);
  EXPECT_TRUE(second.answer.known);
  EXPECT_TRUE(knows_arena(second.offer.place.arena->id));
  second.connecting_ends();
  second.accepting_ends();
}

TEST_F(Arenas, WhatHasBeenForgottenIsAskedForItsDescriptor) {
  const Ends first = Ends::make(1);
  const Arena* a = first.offer.place.arena;
  first.connecting_ends();
  first.accepting_ends();
  ASSERT_TRUE(knows_arena(a->id));
  {
    const ArenasLocked locked;
    drop_pairs();
  }
  int fd = -1;
  Answer answer;
  EXPECT_EQ(Answering::kUnknown, answer_place({&fd, a->id, a->shape.places, 0}, &answer));
  const Ends second = Ends::make(1);
  EXPECT_FALSE(second.answer.known) << "with another arena";
  second.connecting_ends();
  second.accepting_ends();
}

TEST_F(Arenas, AFullArenaIsFollowedByALargerOne) {
  std::vector<Ends> open;
  std::set<const Arena*> arenas;
  for (int i = 0; i < 1 + 8 + 64 + 1; ++i) {
    open.push_back(Ends::make(1));
    arenas.insert(open.back().offer.place.arena);
  }
  EXPECT_EQ(4u, arenas.size());
  EXPECT_EQ(layout::kPlacesMax, open.back().offer.place.arena->shape.places);
  for (const Ends& e : open) {
    e.connecting_ends();
    e.accepting_ends();
  }
}

TEST_F(Arenas, NobodySharesAnArenaWithTheClientOfAnotherListener) {
  const Ends one = Ends::make(1);
  const Ends other = Ends::make(2);
  EXPECT_NE(one.offer.place.arena, other.offer.place.arena);
  EXPECT_NE(one.answer.own.arena, other.answer.own.arena);
  LinkKey stranger = listener(1);
  stranger.uid = 7;
  Offer offer;
  ASSERT_TRUE(offer_place(stranger, &offer));
  EXPECT_NE(one.offer.place.arena, offer.place.arena) << "the port is another user's now";
  offer_sent(offer, false);
  let_go({.own = offer.place, .peer = {}, .last = true});
  for (const Ends* e : {&one, &other}) {
    e->connecting_ends();
    e->accepting_ends();
  }
}

TEST_F(Arenas, OneWithoutAnAnswerIsLostAndItsArenaGoesOn) {
  Offer offer;
  ASSERT_TRUE(offer_place(listener(1), &offer));
  Arena* arena = offer.place.arena;
  const wire::ArenaId id = arena->id;
  hold(arena);
  offer_sent(offer, true);
  let_go({.own = offer.place, .peer = {}, .last = true});
  EXPECT_EQ(PlaceState::kLost, state(offer.place)) << "the listener may accept it yet";
  drop(arena);
  const Ends next = Ends::make(1);
  EXPECT_NE(id, next.offer.place.arena->id);
  next.connecting_ends();
  next.accepting_ends();
}

TEST_F(Arenas, APlaceInUseIsNotAnsweredTwice) {
  const Ends first = Ends::make(1);
  const Arena* a = first.offer.place.arena;
  int fd = ::fcntl(first.offer.place.arena->fd.load(), F_DUPFD_CLOEXEC, 3);
  Answer answer;
  EXPECT_EQ(Answering::kNonsense,
            answer_place({&fd, a->id, a->shape.places, first.offer.place.index}, &answer));
  ::close(fd);
  first.connecting_ends();
  first.accepting_ends();
}

TEST_F(Arenas, AnotherArenaUnderAKnownNameIsNotLookedAt) {
  const Ends first = Ends::make(1);
  const Arena* a = first.offer.place.arena;
  int fd = -1;
  Answer answer;
  EXPECT_EQ(Answering::kUnknown, answer_place({&fd, a->id, a->shape.places + 1, 0}, &answer))
      << "as many places as it has";
  wire::ArenaId other = a->id;
  ++other.low;
  fd = ::fcntl(a->fd.load(), F_DUPFD_CLOEXEC, 3);
  EXPECT_EQ(Answering::kNonsense, answer_place({&fd, other, a->shape.places, 0}, &answer))
      << "its header has its name";
  ::close(fd);
  first.connecting_ends();
  first.accepting_ends();
}

TEST_F(Arenas, AForkRetiresThem) {
  const Ends first = Ends::make(1);
  const wire::ArenaId id = first.offer.place.arena->id;
  arenas_before_fork();
  const pid_t child = ::fork();
  if (child == 0) {
    arenas_after_fork();
    // What the child closes it had in common with its parent: nobody uses the places again.
    let_go({.own = first.offer.place, .peer = first.peer, .peer_held = true, .last = false});
    const Ends own = Ends::make(1);
    ::_exit(own.offer.place.arena->id != id && !HasFailure() ? 0 : 1);
  }
  int status = 1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(0, status);
  EXPECT_EQ(1u, first.offer.place.arena->own->retired.load());
  const Ends second = Ends::make(1);
  EXPECT_NE(first.offer.place.arena, second.offer.place.arena);
  EXPECT_NE(first.answer.own.arena, second.answer.own.arena);
  for (const Ends* e : {&first, &second}) {
    e->connecting_ends();
    e->accepting_ends();
  }
}

TEST_F(Arenas, MuchThatNobodyReadsIsNotKept) {
  constexpr std::uint64_t kMuch = layout::kSegmentBytes;
  std::vector<Ends> open;
  for (int i = 0; i < 300; ++i) open.push_back(Ends::make(1));
  for (const Ends& e : open) e.accepting_ends(kMuch);
  EXPECT_TRUE(too_much_waits()) << "300 places of 64 KiB";
  for (const Ends& e : open) e.connecting_ends();
  // All of it has been let go of: the next answer finds that out.
  const Ends next = Ends::make(1);
  EXPECT_FALSE(too_much_waits());
  next.connecting_ends();
  next.accepting_ends();
}

}  // namespace
}  // namespace shunt::sockets
