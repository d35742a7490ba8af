#include "server/attach/wake_timer.h"

#include <unistd.h>

namespace tsc_handoff::attach {
namespace {

void InstallHandler() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};  // without SA_RESTART: to interrupt is its purpose
  sigaction(WakeSignal(), &action, nullptr);
}

}  // namespace

WakeTimer::WakeTimer() {
  static const bool installed = (InstallHandler(), true);
  (void)installed;
  sigset_t wake;
  sigemptyset(&wake);
  sigaddset(&wake, WakeSignal());
  pthread_sigmask(SIG_UNBLOCK, &wake, nullptr);
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = WakeSignal();
  event._sigev_un._tid = gettid();
  usable_ = timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
}

WakeTimer::~WakeTimer() {
  if (usable_) timer_delete(timer_);
}

void WakeTimer::Start(absl::Duration every) {
  const timespec each = absl::ToTimespec(every);
  const itimerspec timer = {each, each};
  if (usable_) timer_settime(timer_, 0, &timer, nullptr);
}

void WakeTimer::Stop() {
  const itimerspec off = {};
  if (usable_) timer_settime(timer_, 0, &off, nullptr);
}

}  // namespace tsc_handoff::attach
