#include "conn/carriage.h"

namespace shunt::conn {
namespace {

constexpr Carriage kWait = Carriage::kWaiting;
constexpr Carriage kRings = Carriage::kRings;
constexpr Carriage kFoll = Carriage::kFollowing;
constexpr Carriage kRest = Carriage::kRest;
constexpr Carriage kPlain = Carriage::kPlain;
constexpr Carriage kLost = Carriage::kLost;

// clang-format off
constexpr Carriage kTable[kCarriages][kCarriageEvents] = {
    // kConnected kPeerLeft kLeft   kFollowed kRestMoved kRehomed kArrived kUntrusted
    {kRings,      kWait,    kWait,  kWait,    kWait,     kPlain,  kPlain,  kLost},   // kWaiting
    {kRings,      kFoll,    kPlain, kRings,   kRings,    kPlain,  kRings,  kLost},   // kRings
    {kFoll,       kFoll,    kPlain, kRest,    kFoll,     kPlain,  kFoll,   kLost},   // kFollowing
    {kRest,       kRest,    kRest,  kRest,    kPlain,    kPlain,  kRest,   kLost},   // kRest
    {kPlain,      kPlain,   kPlain, kPlain,   kPlain,    kPlain,  kPlain,  kPlain},  // kPlain
    {kLost,       kLost,    kLost,  kLost,    kLost,     kPlain,  kLost,   kLost},   // kLost
};
// clang-format on

}  // namespace

Carriage after(Carriage now, CarriageEvent event) {
  return kTable[static_cast<int>(now)][static_cast<int>(event)];
}

}  // namespace shunt::conn
