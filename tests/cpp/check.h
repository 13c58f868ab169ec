// A minimal test harness: CHECK counts and prints failures, main returns them.

#pragma once

#include <cstdio>

namespace dff_test {

inline int failures = 0;

inline void report(bool ok, const char* text, const char* file, int line) {
    if (!ok) {
        ++failures;
        std::fprintf(stderr, "%s:%d: CHECK(%s) failed\n", file, line, text);
    }
}

inline int result() {
    std::fprintf(stderr, failures == 0 ? "all checks passed\n" : "%d check(s) failed\n", failures);
    return failures == 0 ? 0 : 1;
}

}  // namespace dff_test

#define CHECK(condition) dff_test::report((condition), #condition, __FILE__, __LINE__)
