#include "sockets/options/option_store.h"

#include <algorithm>
#include <cstring>

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {

constexpr std::int64_t kSecondsForEver = 3'000'000'000;  // beyond, nanoseconds would not fit

// More might never come: a writer with the smallest limit sleeps before that.
constexpr std::uint32_t kMaxLowWater = layout::kSegmentBytes;

std::int64_t timeout_ns(const StoredOption& option) {
  std::int64_t parts[2];  // seconds, microseconds: one layout for both forms on a 64-bit machine
  static_assert(sizeof parts == sizeof option.value);
  std::memcpy(parts, option.value, sizeof parts);
  if (parts[0] > kSecondsForEver) return 0;
  return parts[0] * 1'000'000'000 + parts[1] * 1'000;
}

}  // namespace

int stored_name(int level, int name) {
  if (level != SOL_SOCKET) return name;
  switch (name) {
    case SO_SNDBUFFORCE:
      return SO_SNDBUF;
    case SO_RCVBUFFORCE:
      return SO_RCVBUF;
    case SO_RCVTIMEO_NEW:
      return SO_RCVTIMEO_OLD;
    case SO_SNDTIMEO_NEW:
      return SO_SNDTIMEO_OLD;
    default:
      return name;
  }
}

bool store_option(Connection* c, const StoredOption& option) {
  Hold hold(c->options_lock);
  StoredOption* place = nullptr;
  for (StoredOption& o : c->options) {
    if (o.length == 0) {
      if (place == nullptr) place = &o;
    } else if (o.level == option.level && o.name == option.name) {
      place = &o;
      break;
    }
  }
  if (place == nullptr) return false;
  *place = option;
  return true;
}

bool load_option(Connection* c, int level, int name, StoredOption* out) {
  Hold hold(c->options_lock);
  for (const StoredOption& o : c->options) {
    if (o.length != 0 && o.level == level && o.name == name) {
      *out = o;
      return true;
    }
  }
  return false;
}

bool read_option(int fd, int level, int name, StoredOption* out) {
  *out = {level, stored_name(level, name), 0, {}};
  socklen_t length = sizeof out->value;
  if (sys::getsockopt(fd, level, out->name, out->value, &length) != 0 || length == 0) return false;
  out->length = std::min<std::uint32_t>(length, sizeof out->value);
  return true;
}

void apply_option(Connection* c, const StoredOption& option) {
  if (option.level != SOL_SOCKET) return;
  switch (option.name) {
    case SO_SNDBUF: {
      Hold tx(c->tx);
      c->write_end().set_limit(static_cast<std::uint64_t>(std::max(0, int_value(option))));
      break;
    }
    case SO_RCVLOWAT:
      c->read_low_water =
          std::clamp<std::uint32_t>(static_cast<std::uint32_t>(int_value(option)), 1, kMaxLowWater);
      break;
    case SO_LINGER: {
      linger l;
      static_assert(sizeof l <= sizeof option.value);
      std::memcpy(&l, option.value, sizeof l);
      c->linger_seconds = l.l_onoff != 0 ? std::max(0, l.l_linger) : -1;
      break;
    }
    case SO_RCVTIMEO_OLD:
      c->read_timeout_ns = timeout_ns(option);
      break;
    case SO_SNDTIMEO_OLD:
      c->write_timeout_ns = timeout_ns(option);
      break;
    default:
      break;
  }
}

}  // namespace shunt::sockets
