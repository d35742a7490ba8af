// FileWatch: says when files may have changed. It looks at the directories that hold their names,
// because renames and Kubernetes' swap of a symbolic link change no file that was open; and, as
// other links in a path may be swapped, says so now and then in any case.
//
// Threading: the callback runs in a thread of its own, one call at a time.
#ifndef TSC_HANDOFF_SERVER_TLS_FILE_WATCH_H_
#define TSC_HANDOFF_SERVER_TLS_FILE_WATCH_H_

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "server/base/unique_fd.h"

namespace tsc_handoff::tls {

class FileWatch {
 public:
  struct Options {
    // Files are often written one after the other: nothing is said until this long after the last.
    std::chrono::milliseconds settle{200};
    // ... but not longer than so after the first.
    std::chrono::milliseconds settle_at_most{2000};
    std::chrono::milliseconds poll{30000};
  };

  FileWatch(const std::vector<std::string>& paths, std::function<void()> on_change,
            Options options);
  FileWatch(const std::vector<std::string>& paths, std::function<void()> on_change)
      : FileWatch(paths, std::move(on_change), Options()) {}
  // Waits for a callback in progress.
  ~FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

 private:
  enum class Woken { kByFiles, kByTime, kToStop };

  void Run();
  Woken Wait(std::chrono::milliseconds limit);

  const std::function<void()> on_change_;
  const Options options_;
  const UniqueFd inotify_;  // invalid where the kernel has none left: then there is the poll
  const UniqueFd stop_;
  std::thread thread_;
};

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_FILE_WATCH_H_
