// FloodWatch: finds the connection that is the reason when the agent's memory grows, and has it
// closed. gRPC 1.51 limits neither what a peer opens before it has acknowledged the limit of calls
// at once, nor what it opens and takes back without reading the answers (CVE-2023-44487): both take
// some 200 MB a second, and its memory quota does not see it.
//
// Looks at the memory ten times a second, and at the connections only when that has grown; gives
// back in the seconds after that what was freed by then.
//
// Threading: a thread of its own, from construction to destruction.
#ifndef TSC_HANDOFF_SERVER_AGENT_FLOOD_WATCH_H_
#define TSC_HANDOFF_SERVER_AGENT_FLOOD_WATCH_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "server/agent/connection_load.h"
#include "server/base/unique_fd.h"

namespace tsc_handoff::agent {

class FloodWatch {
 public:
  // By so much the memory grows before somebody looks.
  static constexpr int64_t kGrowthBytes = int64_t{24} * 1024 * 1024;
  static constexpr std::chrono::milliseconds kEvery{100};

  // `close` is told of a connection's peer, as gRPC has it, and a sentence; called from the thread.
  FloodWatch(uint32_t max_streams,
             std::function<void(const std::string& peer, const std::string& why)> close);
  ~FloodWatch();
  FloodWatch(const FloodWatch&) = delete;
  FloodWatch& operator=(const FloodWatch&) = delete;

 private:
  void Run();
  // Whether there were any.
  bool CloseFloods();
  std::optional<int64_t> ResidentBytes() const;

  const uint32_t max_streams_;
  const std::function<void(const std::string&, const std::string&)> close_;
  const UniqueFd memory_;  // /proc/self/statm
  ConnectionLoads loads_;  // of the thread
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_FLOOD_WATCH_H_
