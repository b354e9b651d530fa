// InterruptDevice: a device by which the kernels that share it interrupt each other (ivshmem-doorbell). It
// gives its owner a number, and vectors that others ring by number and vector.
//
// The device does not say who rang. So each peer is given a vector of its own, by which alone it rings.
//
// Thread safety: one thread. Errors: tick() throws WindowError, in its first call only, for what can never
// work; ring() returns errno.
#pragma once

#include <cstdint>
#include <optional>

namespace shunt::driver {

class InterruptDevice {
 public:
  virtual ~InterruptDevice() = default;
  // One vector more, before the first tick().
  virtual std::uint16_t add_vector() = 0;
  // An eventfd that counts the rings of that vector; the same one as long as the device lives.
  virtual int rung(std::uint16_t vector) const = 0;
  virtual void tick() = 0;  // opens it if it is not open and it is time to try
  // By which others ring this system; nothing: it is not open.
  virtual std::optional<std::uint16_t> number() const = 0;
  // Of another one. Whether that exists is not told.
  virtual int ring(std::uint16_t number, std::uint16_t vector) = 0;
};

}  // namespace shunt::driver
