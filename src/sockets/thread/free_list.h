// Free nodes of type-stable memory, for callers that may be interrupted at any instruction.
//
// A signal handler may use the list that its own thread was just using, and may leave by siglongjmp(): nothing is locked,
// and no signal has to be blocked for it. A node that is on its way at that moment is lost at worst.
//
// The head carries a count beside the pointer, and both change at once (CMPXCHG16B, which every processor that runs
// this has): a node that was taken and came back meanwhile is not taken for one that never left. `Next` names the
// node's link, which is read even where another thread has just taken the node: memory of nodes is never given back.
//
// Thread safety: any thread. Async-signal-safe. Zero-initialised memory is an empty list.
#pragma once

#include <atomic>
#include <cstdint>

namespace shunt::sockets {

template <typename Node, std::atomic<Node*> Node::*Next>
class FreeList {
 public:
  void push(Node* node) {
    Head seen = look();
    do {
      (node->*Next).store(seen.first(), std::memory_order_relaxed);
    } while (!change(&seen, node));
  }
  // nullptr: empty.
  Node* pop() {
    Head seen = look();
    for (;;) {
      Node* node = seen.first();
      if (node == nullptr) return nullptr;
      if (change(&seen, (node->*Next).load(std::memory_order_relaxed))) return node;
    }
  }
  // In the child of a fork: the nodes are the parent's.
  void clear() { word_ = 0; }

 private:
  __extension__ using Word = unsigned __int128;
  struct Head {
    Word word;
    Node* first() const { return reinterpret_cast<Node*>(static_cast<std::uintptr_t>(word)); }
  };

  // Two loads: where they do not fit together the change that follows fails, and has seen both.
  Head look() const {
    const auto* half = reinterpret_cast<const std::uint64_t*>(&word_);
    const Word count = __atomic_load_n(half + 1, __ATOMIC_RELAXED);
    return {count << 64 | __atomic_load_n(half, __ATOMIC_ACQUIRE)};
  }
  __attribute__((target("cx16"))) bool change(Head* seen, Node* first) {
    const Word count = (seen->word >> 64) + 1;
    const Word next = count << 64 | reinterpret_cast<std::uintptr_t>(first);
    const Word found = __sync_val_compare_and_swap(&word_, seen->word, next);
    if (found == seen->word) return true;
    seen->word = found;
    return false;
  }

  alignas(16) Word word_ = 0;
};

}  // namespace shunt::sockets
