#include "server/service/worker_pool.h"

#include <utility>

namespace tsc_handoff::service {

WorkerPool::WorkerPool(const Limits& limits) : limits_(limits) {
  threads_.reserve(limits.threads);
  for (size_t i = 0; i < limits.threads; ++i) threads_.emplace_back([this] { Serve(); });
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkerPool::Run(const std::string& caller, std::function<void()> work) {
  bool may_begin = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (queued_ >= limits_.queued) return false;
    const auto lane = lanes_.try_emplace(caller).first;
    if (lane->second.waiting.size() >= limits_.queued_of_one) return false;
    lane->second.waiting.push_back(std::move(work));
    ++queued_;
    may_begin = TakeTurn(lane);
  }
  if (may_begin) changed_.notify_one();
  return true;
}

bool WorkerPool::TakeTurn(Lanes::iterator lane) {
  Lane& of = lane->second;
  if (of.waiting.empty() || of.running >= limits_.threads_of_one) return false;
  if (!of.has_turn) turns_.push_back(lane);
  of.has_turn = true;
  return true;
}

void WorkerPool::Serve() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    // At the end each thread goes on until nothing may begin any more; what may not because of
    // threads_of_one is begun by the threads that run the same caller's works.
    changed_.wait(lock, [this] { return stopping_ || !turns_.empty(); });
    if (turns_.empty()) return;
    const auto lane = turns_.front();
    turns_.pop_front();
    Lane& of = lane->second;
    of.has_turn = false;
    const std::function<void()> work = std::move(of.waiting.front());
    of.waiting.pop_front();
    --queued_;
    ++of.running;
    const bool more = TakeTurn(lane);
    lock.unlock();
    if (more) changed_.notify_one();
    work();
    lock.lock();
    --of.running;
    if (!TakeTurn(lane) && of.waiting.empty() && of.running == 0) lanes_.erase(lane);
  }
}

}  // namespace tsc_handoff::service
