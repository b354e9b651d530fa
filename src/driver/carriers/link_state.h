// LinkState: how far the two ends of a link are (bell_relay.h), as this driver knows it.
//
//   here    kUnanswered -> kRungEarly -> kCarrying -> kHungUp -> kLetGo
//                 \______________________/            each of the three may hang up
//   there   kOpen -> kClosed -> kLetGo -> kGone       gone may follow each of the three
//
// The two are independent: an end that is closed there can still be accepted here and read to its end.
//
// Invariants: each goes forward only, by the arrows above (may_follow). Whoever calls advance() has checked what
// the other partition said (may_hear) or a program did: a wrong step is a mistake of this driver, and asserted.
//
// Thread safety: one thread. Errors: none.
#pragma once

#include <cassert>

namespace shunt::driver {

// The own program and its bell.
enum class Here {
  kUnanswered,  // no CONNECTED has passed the bell
  kRungEarly,   // the same, of a connecting program: a ring came that is to follow CONNECTED
  kCarrying,    // CONNECTED has passed the bell: rings do
  kHungUp,      // the bell is closed; a program may still map the peer's area
  kLetGo,       // and none does
};

// The other partition and its program.
enum class There {
  kOpen,
  kClosed,  // no process holds the other bell
  kLetGo,   // and no program there maps our area
  kGone,    // nobody is there who knows of this link: nothing more is told
};

constexpr bool may_follow(Here from, Here to) {
  switch (to) {
    case Here::kUnanswered:
      return false;
    case Here::kRungEarly:
      return from == Here::kUnanswered;
    case Here::kCarrying:
      return from == Here::kUnanswered || from == Here::kRungEarly;
    case Here::kHungUp:
      return from < Here::kHungUp;
    case Here::kLetGo:
      return from == Here::kHungUp;
  }
  return false;
}

constexpr bool may_follow(There from, There to) {
  switch (to) {
    case There::kOpen:
      return false;
    case There::kClosed:
      return from == There::kOpen;
    case There::kLetGo:
      return from == There::kClosed;
    case There::kGone:
      return from != There::kGone;
  }
  return false;
}

class LinkState {
 public:
  Here here() const { return here_; }
  There there() const { return there_; }
  bool hung_up() const { return here_ >= Here::kHungUp; }
  bool gone() const { return there_ == There::kGone; }
  // Neither end has anything more to say. To whom is gone nothing needs to be said.
  bool over() const {
    if (!hung_up() || there_ < There::kLetGo) return false;
    return gone() || here_ == Here::kLetGo;
  }

  // Whether one notice may say these of the other end. Nothing follows the end but that nothing is mapped any more, and
  // each of it comes once.
  bool may_hear(bool rings, bool closes, bool lets_go) const {
    switch (there_) {
      case There::kOpen:
        return closes || !lets_go;
      case There::kClosed:
        return !rings && !closes;
      case There::kLetGo:
        return !rings && !closes && !lets_go;
      case There::kGone:
        return false;
    }
    return false;
  }

  void advance(Here to) {
    assert(may_follow(here_, to));
    here_ = to;
  }
  void advance(There to) {
    assert(may_follow(there_, to));
    there_ = to;
  }

 private:
  Here here_ = Here::kUnanswered;
  There there_ = There::kOpen;
};

}  // namespace shunt::driver
