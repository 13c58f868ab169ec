// Run-time dispatch by the compiler: a function marked DFF_CLONES is compiled for several
// instruction sets, and the loader selects the best one that the CPU has. So a wheel built here
// runs elsewhere. On other CPUs than x86-64 the baseline has the vectors already (NEON).
//
// Functions that a clone calls must be inlined, or they stay baseline: mark them DFF_INLINE.

#pragma once

#define DFF_INLINE inline __attribute__((always_inline))

// Sanitizers run before the loader's resolvers would, and crash in them.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DFF_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define DFF_SANITIZED 1
#endif
#endif

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(DFF_SANITIZED)
#define DFF_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DFF_CLONES
#endif

namespace dff {

// Returns the instruction set that clones run with on this CPU.
inline const char* simd_name() {
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(DFF_SANITIZED)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
        return "avx512f";
    }
    return __builtin_cpu_supports("avx2") ? "avx2" : "sse2";
#elif defined(__aarch64__)
    return "neon";
#else
    return "baseline";
#endif
}

}  // namespace dff
