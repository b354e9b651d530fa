// For tests: somebody who writes over memory at random. Knows nothing of what the memory is for.
//
// Half of the writes go to `hot` places (where few bytes decide much), the others anywhere. What is written is
// noise, or what gets further than noise: small numbers, all bits, single bits turned, values near those that are
// there, copies of other places. Reproducible by its seed as far as the memory itself is.
//
// Writes are relaxed atomics of 1 to 8 bytes, as a processor would do them: a race with everybody else on purpose.
// Thread safety: one thread for each Scribble. Places are whole words.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <thread>
#include <utility>
#include <vector>

namespace shunt {

class Scribble {
 public:
  using Place = std::span<std::uint8_t>;

  Scribble(std::vector<Place> all, std::vector<Place> hot, std::uint64_t seed)
      : all_(std::move(all)), hot_(hot.empty() ? all_ : std::move(hot)), random_(seed) {}

  void once() {
    const Place& place = pick(random_() % 2 == 0 ? hot_ : all_);
    std::uint8_t* word = place.data() + random_() % (place.size() / 8) * 8;
    if (random_() % 64 == 0) {
      copy_block(place);
    } else {
      write(word, value(word, place));
    }
  }

  // Bursts of up to 65536 writes with rests of up to `rest` between them: at full speed nothing would ever get far
  // enough to be damaged. Until `stop` is set.
  void until(const std::atomic<bool>& stop, std::chrono::microseconds rest) {
    while (!stop.load(std::memory_order_relaxed)) {
      const std::uint64_t burst = std::uint64_t{1} << random_() % 17;
      for (std::uint64_t i = 0; i < burst && !stop.load(std::memory_order_relaxed); ++i) once();
      writes_ += burst;
      std::this_thread::sleep_for(rest * (random_() % 100) / 100);
    }
  }
  std::uint64_t writes() const { return writes_; }

 private:
  static constexpr std::size_t kBlock = 256;

  const Place& pick(const std::vector<Place>& places) { return places[random_() % places.size()]; }

  static std::atomic<std::uint64_t>& atomic(std::uint8_t* word) {
    return *reinterpret_cast<std::atomic<std::uint64_t>*>(word);
  }
  static std::uint64_t read(std::uint8_t* word) {
    return atomic(word).load(std::memory_order_relaxed);
  }

  std::uint64_t value(std::uint8_t* word, const Place& place) {
    switch (random_() % 10) {
      case 0:
        return 0;
      case 1:
        return ~std::uint64_t{0};
      case 2:
        return random_() % 70;
      case 3:
        return std::uint64_t{1} << random_() % 64;
      case 4:
        return read(word) ^ (std::uint64_t{1} << random_() % 64);
      case 5:
        return read(word) + random_() % 9 - 4;
      case 6:
        return read(neighbour(word, place));
      case 7:
        return read(place.data() + random_() % (place.size() / 8) * 8);
      default:
        return random_();
    }
  }
  // A word of the same page.
  std::uint8_t* neighbour(const std::uint8_t* word, const Place& place) {
    const std::size_t page = static_cast<std::size_t>(word - place.data()) / 4096 * 4096;
    const std::size_t bytes = std::min<std::size_t>(4096, place.size() - page);
    return place.data() + page + random_() % (bytes / 8) * 8;
  }

  void write(std::uint8_t* word, std::uint64_t value) {
    switch (random_() % 6) {
      case 0:
        reinterpret_cast<std::atomic<std::uint8_t>*>(word + random_() % 8)
            ->store(static_cast<std::uint8_t>(value), std::memory_order_relaxed);
        break;
      case 1:
        reinterpret_cast<std::atomic<std::uint16_t>*>(word + random_() % 4 * 2)
            ->store(static_cast<std::uint16_t>(value), std::memory_order_relaxed);
        break;
      case 2:
        reinterpret_cast<std::atomic<std::uint32_t>*>(word + random_() % 2 * 4)
            ->store(static_cast<std::uint32_t>(value), std::memory_order_relaxed);
        break;
      default:
        atomic(word).store(value, std::memory_order_relaxed);
    }
  }

  // An old message in the place of a new one.
  void copy_block(const Place& place) {
    if (place.size() < 2 * kBlock) return;
    const std::size_t blocks = place.size() / kBlock;
    std::uint8_t* to = place.data() + random_() % blocks * kBlock;
    std::uint8_t* from = place.data() + random_() % blocks * kBlock;
    for (std::size_t i = 0; i < kBlock; i += 8) {
      atomic(to + i).store(read(from + i), std::memory_order_relaxed);
    }
  }

  std::vector<Place> all_;
  std::vector<Place> hot_;
  std::mt19937_64 random_;
  std::uint64_t writes_ = 0;
};

}  // namespace shunt
