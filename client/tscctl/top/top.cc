#include "client/tscctl/top/top.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "client/tscctl/connect.h"
#include "client/tscctl/top/collector.h"
#include "client/tscctl/top/terminal.h"
#include "client/tscctl/top/view.h"
#include "client/tscctl/watch/agent_feed.h"
#include "client/tscctl/watch/signal_pipe.h"

namespace tsc_handoff::tscctl {
namespace {

// Ages and elapsed times are shown anew this often, whatever agents say.
constexpr int kTickMs = 500;
// News is shown at most this often, so that a storm of handoffs can be read.
constexpr int64_t kQuietNs = 100'000'000;

Failure NoTerminal(absl::string_view what) {
  Failure failure{.status = absl::FailedPreconditionError(what)};
  failure.exit_code = ExitCode::kUsage;
  failure.reason = "NO_TERMINAL";
  failure.next_step =
      "Run it in a terminal. For scripts use `tscctl watch`, which prints events as lines, or "
      "`tscctl vms` and `tscctl handoffs` with -o json.";
  return failure;
}

class Loop {
 public:
  Loop(Terminal& terminal, Collector& collector, SignalPipe& signals)
      : terminal_(terminal), collector_(collector), signals_(signals) {}

  // The signal that ended it; nothing when a key did.
  std::optional<int> Run() {
    Refresh();
    while (true) {
      pollfd waits[] = {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                        {.fd = signals_.fd(), .events = POLLIN, .revents = 0},
                        {.fd = collector_.fd(), .events = POLLIN, .revents = 0}};
      poll(waits, Quiet() ? 2 : std::size(waits), Quiet() ? QuietLeftMs() : kTickMs);
      while (const std::optional<int> signal = signals_.Take()) {
        if (EndsIt(*signal)) return signal;
      }
      // A terminal that has gone is no place for a person to press q.
      if ((waits[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) return SIGHUP;
      while (const std::optional<Key> key = terminal_.ReadKey()) {
        if (key->code == Key::Code::kRedraw) terminal_.Redraw();
        view_.Handle(*key);
        if (view_.quit()) return std::nullopt;
      }
      if (!Quiet()) Refresh();
      Show();
    }
  }

 private:
  bool EndsIt(int signal) {
    if (signal == SIGWINCH) {
      terminal_.Resize();
    } else if (signal == SIGTSTP) {
      terminal_.Suspend();
    } else {
      return true;
    }
    return false;
  }

  bool Quiet() const { return NsBetween(refreshed_, SteadyNow()) < kQuietNs; }
  int QuietLeftMs() const {
    return static_cast<int>((kQuietNs - NsBetween(refreshed_, SteadyNow())) / 1'000'000) + 1;
  }

  void Refresh() {
    const Moment now{.steady = SteadyNow(), .wall = absl::Now()};
    view_.SetSnapshot(collector_.Take(), now);
    refreshed_ = now.steady;
  }

  void Show() { terminal_.Show(view_.Draw(terminal_.size(), terminal_.glyphs())); }

  Terminal& terminal_;
  Collector& collector_;
  SignalPipe& signals_;
  View view_;
  SteadyTime refreshed_;
};

// Ends this process as the signal always does.
void EndBy(int signal) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  raise(signal);
}

}  // namespace

Result RunTop(const Options& options, Io& io) {
  if (isatty(STDIN_FILENO) != 1 || !io.out_is_terminal)
    return NoTerminal("`tscctl top` draws on a terminal, and this is none");
  std::optional<int> signal;
  {
    // Before ncurses, which takes only signals that nobody has taken.
    SignalPipe signals({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP});
    Collector collector(options.agents);
    FeedOptions feed_options;
    feed_options.interval = options.interval;
    std::vector<std::unique_ptr<AgentFeed>> feeds;
    for (size_t i = 0; i < options.agents.size(); ++i) {
      auto agent = ConnectTo(options.agents[i], options);
      if (!agent.ok()) return UsageFailure(agent.status().message(), "tscctl top --help");
      feeds.push_back(std::make_unique<AgentFeed>(i, *std::move(agent), feed_options, collector));
    }
    auto terminal = Terminal::Open(io.color);
    if (!terminal.ok()) return NoTerminal(terminal.status().message());
    signal = Loop(**terminal, collector, signals).Run();
  }
  if (signal.has_value() && *signal != SIGINT) EndBy(*signal);
  return std::nullopt;
}

}  // namespace tsc_handoff::tscctl
