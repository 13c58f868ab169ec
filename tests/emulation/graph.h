// What a capture records, and how it is replayed.
//
// A graph promises the order of its edges and no other. A launch runs the nodes one after another
// in an order drawn anew each time from those that the edges allow: a fork or join that somebody
// forgot in a capture comes out wrong.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <thread>
#include <vector>

namespace emulation {

class Stream;

struct Node {
    std::function<void()> work;
    std::set<std::size_t> after;  // numbers of earlier nodes
};

struct Graph {
    std::vector<Node> nodes;
};

enum class CaptureMode { kGlobal = 0, kThreadLocal = 1, kRelaxed = 2 };

class Capture {
public:
    Capture(const Stream* origin, CaptureMode mode)
        : origin(origin), mode(mode), thread(std::this_thread::get_id()) {}

    // Whether everything that was captured comes before the end of the origin's `tail`.
    bool is_joined(const std::set<std::size_t>& tail) const;

    const Stream* const origin;
    const CaptureMode mode;
    const std::thread::id thread;
    bool is_valid = true;
    Graph graph;
};

void run_graph(const Graph& graph, std::uint64_t seed);

}  // namespace emulation
