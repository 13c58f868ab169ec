// Splits rows over threads: contiguous, equal shares, the last one run by the caller. Which
// thread computes a row never changes its result.

#pragma once

#include <algorithm>
#include <cstdint>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace dff {

// Calls work(begin, end) for disjoint ranges that cover [0, rows). `work` must not throw. Where
// the system allows no further thread (or has no memory for one), the caller does the rest.
template <typename Work>
void split_rows(std::int64_t rows, int threads, const Work& work) {
    const std::int64_t parts = std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(rows, 1));
    std::vector<std::thread> workers;
    std::int64_t begin = 0;
    try {
        workers.reserve(static_cast<std::size_t>(parts - 1));
        for (std::int64_t part = 0; part + 1 < parts; ++part) {
            const std::int64_t end = rows * (part + 1) / parts;
            workers.emplace_back([&work, begin, end] { work(begin, end); });
            begin = end;
        }
    } catch (const std::system_error&) {  // no thread: the rest is done below
    } catch (const std::bad_alloc&) {     // no memory for one: likewise
    }
    work(begin, rows);
    for (std::thread& worker : workers) {
        worker.join();
    }
}

}  // namespace dff
