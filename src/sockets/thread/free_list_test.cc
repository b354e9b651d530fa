// The list under threads that take and give at once: no node is ever had twice, and none is lost.
#include "sockets/thread/free_list.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace shunt::sockets {
namespace {

struct Node {
  std::atomic<Node*> next{nullptr};
  std::atomic<int> holders{0};
};

TEST(FreeList, GivesBackWhatItWasGivenLastFirst) {
  FreeList<Node, &Node::next> list;
  Node nodes[3];
  EXPECT_EQ(nullptr, list.pop());
  for (Node& n : nodes) list.push(&n);
  EXPECT_EQ(&nodes[2], list.pop());
  list.push(&nodes[2]);
  for (int i = 2; i >= 0; --i) EXPECT_EQ(&nodes[i], list.pop());
  EXPECT_EQ(nullptr, list.pop());
}

TEST(FreeList, NoNodeIsHadTwice) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 50'000;
  FreeList<Node, &Node::next> list;
  std::vector<Node> nodes(6);
  for (Node& n : nodes) list.push(&n);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kRounds; ++i) {
        Node* first = list.pop();
        Node* second = list.pop();
        for (Node* n : {first, second}) {
          if (n == nullptr) continue;
          ASSERT_EQ(0, n->holders.fetch_add(1));
        }
        // The first comes back first: a pop that was interrupted with it in hand finds another one behind it.
        for (Node* n : {first, second}) {
          if (n == nullptr) continue;
          n->holders.fetch_sub(1);
          list.push(n);
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  std::size_t left = 0;
  while (list.pop() != nullptr) ++left;
  EXPECT_EQ(nodes.size(), left);
}

}  // namespace
}  // namespace shunt::sockets
