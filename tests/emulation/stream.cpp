#include "stream.h"

#include <utility>

namespace emulation {

namespace {

thread_local bool tls_is_stream_thread = false;

}  // namespace

bool is_stream_thread() { return tls_is_stream_thread; }

void Record::finish() {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_done_ = true;
    time_ = std::chrono::steady_clock::now();
    done_changed_.notify_all();
}

void Record::wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    done_changed_.wait(lock, [this] { return is_done_; });
}

bool Record::is_done() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return is_done_;
}

std::chrono::steady_clock::time_point Record::time() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return time_;
}

Stream::Stream(std::uint64_t stream_id, bool blocking, int stream_priority, Shared& shared)
    : id(stream_id), is_blocking(blocking), priority(stream_priority), shared_(shared),
      thread_([this] { run(); }) {}

Stream::~Stream() {
    close();
    thread_.join();
}

void Stream::close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_closed_ = true;
    pushed_.notify_one();
}

bool Stream::is_finished() const { return is_finished_; }

void Stream::enqueue(std::function<void()> work) {
    push([this, work = std::move(work)] {
        if (shared_.fault != CUDA_SUCCESS) {
            return;
        }
        const CUresult fault = shared_.next_fault.exchange(CUDA_SUCCESS);
        if (fault != CUDA_SUCCESS) {
            shared_.fault = fault;
            return;
        }
        work();
    });
}

std::shared_ptr<Record> Stream::record() {
    auto record = std::make_shared<Record>();
    push({}, record);
    return record;
}

void Stream::wait(std::shared_ptr<Record> record) {
    push([record = std::move(record)] { record->wait(); });
}

bool Stream::is_idle() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return steps_.empty() && !is_running_;
}

void Stream::push(std::function<void()> work, std::shared_ptr<Record> record) {
    const std::lock_guard<std::mutex> lock(mutex_);
    steps_.push_back({std::move(work), std::move(record)});
    pushed_.notify_one();
}

void Stream::run() {
    tls_is_stream_thread = true;
    for (std::uint64_t count = 0;; ++count) {
        Step step;
        {
            std::unique_lock<std::mutex> lock(mutex_);
            pushed_.wait(lock, [this] { return is_closed_ || !steps_.empty(); });
            if (steps_.empty()) {
                is_finished_ = true;
                return;
            }
            step = std::move(steps_.front());
            steps_.pop_front();
            is_running_ = true;
        }
        if (const std::uint64_t delay_us = shared_.jitter.delay_us(id, count)) {
            std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
        }
        if (step.work) {
            step.work();
        }
        // Together, so that a stream whose last event is done is idle for whoever asks.
        const std::lock_guard<std::mutex> lock(mutex_);
        is_running_ = false;
        if (step.record) {
            step.record->finish();
        }
    }
}

}  // namespace emulation
