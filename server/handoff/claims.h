// Claims: who works on which handoff or VM, by name. A try-lock per name: who comes second is told
// so at once.
//
// Threading: thread-safe.
#ifndef TSC_HANDOFF_SERVER_HANDOFF_CLAIMS_H_
#define TSC_HANDOFF_SERVER_HANDOFF_CLAIMS_H_

#include <mutex>
#include <set>
#include <string>
#include <utility>

namespace tsc_handoff::handoff {

class Claims {
 public:
  // Holds a name until destroyed, if it got it.
  class Claim {
   public:
    Claim() = default;
    Claim(Claim&& other) noexcept
        : claims_(std::exchange(other.claims_, nullptr)), name_(std::move(other.name_)) {}
    Claim& operator=(Claim&&) = delete;
    ~Claim() {
      if (claims_ == nullptr) return;
      const std::lock_guard<std::mutex> lock(claims_->mutex_);
      claims_->names_.erase(name_);
    }

    bool held() const { return claims_ != nullptr; }

   private:
    friend class Claims;
    Claim(Claims* claims, std::string name) : claims_(claims), name_(std::move(name)) {}

    Claims* claims_ = nullptr;
    std::string name_;
  };

  Claim TryVm(const std::string& vm_id) { return Try("vm " + vm_id); }
  Claim TryHandoff(const std::string& handoff_id) { return Try("handoff " + handoff_id); }

 private:
  Claim Try(std::string name) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return names_.insert(name).second ? Claim(this, std::move(name)) : Claim();
  }

  std::mutex mutex_;
  std::set<std::string> names_;  // guarded by mutex_
};

}  // namespace tsc_handoff::handoff

#endif  // TSC_HANDOFF_SERVER_HANDOFF_CLAIMS_H_
