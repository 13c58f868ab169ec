// Streams are threads; a record of an event is something that a stream marks and others wait for.

#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "jitter.h"
#include "types.h"

namespace emulation {

class Capture;

// One record of an event: not done, then done for ever.
class Record {
public:
    void finish();
    void wait();
    bool is_done();
    std::chrono::steady_clock::time_point time();

private:
    std::mutex mutex_;
    std::condition_variable done_changed_;
    bool is_done_ = false;
    std::chrono::steady_clock::time_point time_;
};

// What a context shares with its streams' threads.
struct Shared {
    Jitter jitter;
    std::atomic<CUresult> fault{CUDA_SUCCESS};        // sticky, as an illegal access is
    std::atomic<CUresult> next_fault{CUDA_SUCCESS};   // taken by the operation that runs next
};

// True in a stream's thread, where host functions run and must not call the driver.
bool is_stream_thread();

class Stream {
public:
    Stream(std::uint64_t id, bool is_blocking, int priority, Shared& shared);
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    ~Stream();  // finishes what is enqueued

    void close();              // takes no more, and ends when it has finished
    bool is_finished() const;  // closed, and its destructor would not wait

    // Work is skipped after a fault; marks and waits never are, so that nobody is left waiting.
    void enqueue(std::function<void()> work);
    std::shared_ptr<Record> record();
    void wait(std::shared_ptr<Record> record);

    bool is_idle();  // whether everything enqueued is done

    const std::uint64_t id;
    const bool is_blocking;  // in step with the legacy default stream
    const int priority;      // told on request; threads have none

    // Of a stream that takes part in a capture; the driver's lock is held around their use.
    std::shared_ptr<Capture> capture;
    std::set<std::size_t> tail;  // the nodes that its next one comes after

private:
    struct Step {
        std::function<void()> work;      // or none
        std::shared_ptr<Record> record;  // done with it, or none
    };

    void push(std::function<void()> work, std::shared_ptr<Record> record = nullptr);
    void run();

    Shared& shared_;
    std::mutex mutex_;
    std::condition_variable pushed_;
    std::deque<Step> steps_;
    bool is_running_ = false;  // a step
    bool is_closed_ = false;
    std::atomic<bool> is_finished_{false};
    std::thread thread_;  // last: it uses the rest
};

struct Event {
    bool has_timing = true;
    std::shared_ptr<Record> latest;  // null while never recorded
    // Where the latest record was captured instead; the capture may have ended since.
    bool is_captured = false;
    std::weak_ptr<Capture> capture;
    std::set<std::size_t> captured_tail;
};

}  // namespace emulation
