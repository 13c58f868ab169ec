#include "graph.h"

#include <utility>

#include "jitter.h"

namespace emulation {

bool Capture::is_joined(const std::set<std::size_t>& tail) const {
    std::vector<bool> is_reached(graph.nodes.size(), false);
    std::vector<std::size_t> pending(tail.begin(), tail.end());
    while (!pending.empty()) {
        const std::size_t node = pending.back();
        pending.pop_back();
        if (!is_reached[node]) {
            is_reached[node] = true;
            const auto& after = graph.nodes[node].after;
            pending.insert(pending.end(), after.begin(), after.end());
        }
    }
    for (const bool reached : is_reached) {
        if (!reached) {
            return false;
        }
    }
    return true;
}

void run_graph(const Graph& graph, std::uint64_t seed) {
    std::vector<std::size_t> missing(graph.nodes.size());
    std::vector<std::vector<std::size_t>> followers(graph.nodes.size());
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
        missing[i] = graph.nodes[i].after.size();
        for (const std::size_t earlier : graph.nodes[i].after) {
            followers[earlier].push_back(i);
        }
        if (missing[i] == 0) {
            ready.push_back(i);
        }
    }
    while (!ready.empty()) {
        seed = mix_bits(seed);
        std::swap(ready[seed % ready.size()], ready.back());
        const std::size_t node = ready.back();
        ready.pop_back();
        graph.nodes[node].work();
        for (const std::size_t follower : followers[node]) {
            if (--missing[follower] == 0) {
                ready.push_back(follower);
            }
        }
    }
}

}  // namespace emulation
