// What a call of the provider answers.
//
//   a value    what the program's call returns: >= 0, or -errno
//   kPassOn    nothing of ours is concerned: libc's own call, or whoever is asked next, is to answer
//   kNotOurs   the descriptor stopped being this Socket while the call began: look it up again
//
// One word, in a register. A value is compared and taken out only after the two other answers were excluded, so an
// answer that is none never becomes an errno.
#pragma once

#include <cassert>

namespace shunt::sockets {

class Outcome {
 public:
  constexpr Outcome(long value)
      : word_(value) {  // NOLINT(google-explicit-constructor): `return -EAGAIN;`
    assert(is_value());
  }

  constexpr bool is_value() const { return word_ != kPassOnWord && word_ != kNotOursWord; }
  constexpr long value() const {
    assert(is_value());
    return word_;
  }
  constexpr long value_or(long other) const { return is_value() ? word_ : other; }
  friend constexpr bool operator==(Outcome a, Outcome b) { return a.word_ == b.word_; }

  static constexpr Outcome pass_on() { return Outcome(kPassOnWord, Mark{}); }
  static constexpr Outcome not_ours() { return Outcome(kNotOursWord, Mark{}); }

 private:
  // No errno has these numbers: Linux's go to 4095, and none above 133 is ever given to a program.
  static constexpr long kPassOnWord = -4094;
  static constexpr long kNotOursWord = -4095;
  struct Mark {};
  constexpr Outcome(long word, Mark) : word_(word) {}
  long word_;
};
inline constexpr Outcome kPassOn = Outcome::pass_on();
inline constexpr Outcome kNotOurs = Outcome::not_ours();

}  // namespace shunt::sockets
