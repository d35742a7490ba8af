// handoff_bench: see --help. Whole handoffs between two agents with journals on a real disk,
// against the RPCs and syncs that they cannot do without.
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/base/unique_fd.h"
#include "server/journal/sqlite_journal.h"
#include "server/tls/channel_credentials.h"
#include "server/tls/min_version.h"
#include "server/tls/tls_files.h"
#include "tests/bench/agent_stub.h"
#include "tests/bench/handoff_caller.h"
#include "tests/bench/rounds.h"

namespace tsc_handoff::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kDescription[] =
    "handoff_bench: measures whole handoffs (capture, apply, two commits) between two agents that "
    "run\nalready and have the same VMs. One JSON object on stdout.";
// Of a handoff: CAPTURED, APPLYING, APPLIED, RELEASED, ACTIVE.
constexpr int kSyncs = 5;
constexpr int kRpcs = 4;
constexpr int kSyncsOfRpc[kRpcs] = {1, 2, 1, 1};
// About what one change adds to the journal: the pages that it touches, each with a header.
constexpr size_t kSyncBytes = 4 * 4120;

struct Options {
  std::vector<std::string> agents;  // two
  tls::TlsFiles tls;                // empty: without TLS
  std::string directory;
  std::string vm_id;
  uint32_t parallel = 1;
  int from = 0;
  std::string journal;
  uint32_t entries = 10'000;
  RoundLimits limits;
};

// The disk's floor: writes of a change's size, one after the other in a file, each with its sync.
class BareSyncs {
 public:
  explicit BareSyncs(const std::string& path)
      : file_(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) {
    // As the journal's log after its first checkpoint, the file has its blocks already: a sync then
    // writes data alone.
    const std::string zeros(kFileBytes, '\0');
    if (pwrite(file_.get(), zeros.data(), zeros.size(), 0) > 0) fsync(file_.get());
  }

  absl::Status Run(int count) {
    static const std::string bytes(kSyncBytes, 'x');
    for (int i = 0; i < count; ++i) {
      if (at_ + static_cast<off_t>(bytes.size()) > kFileBytes) at_ = 0;
      if (pwrite(file_.get(), bytes.data(), bytes.size(), at_) !=
              static_cast<ssize_t>(bytes.size()) ||
          fdatasync(file_.get()) != 0)
        return absl::UnavailableError("cannot write and sync a file in --directory");
      at_ += static_cast<off_t>(bytes.size());
    }
    return absl::OkStatus();
  }

 private:
  static constexpr off_t kFileBytes = 4 << 20;
  const UniqueFd file_;
  off_t at_ = 0;
};

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> CredentialsOf(const Options& options) {
  if (options.tls.empty()) return grpc::InsecureChannelCredentials();
  if (absl::Status status = tls::SetMinVersion(tls::MinVersion::kTls13); !status.ok())
    return status;
  const auto pem = tls::ReadTlsFiles(options.tls);
  if (!pem.ok()) return pem.status();
  return tls::MakeChannelCredentials(*pem);
}

// One VM to and fro, in rounds with its floor.
absl::StatusOr<Json> MeasureOne(const Options& options) {
  const std::string agents[2] = {options.agents[0], options.agents[1]};
  BareSyncs syncs[2] = {BareSyncs(absl::StrCat(options.directory, "/syncs-0")),
                        BareSyncs(absl::StrCat(options.directory, "/syncs-1"))};
  const auto credentials = CredentialsOf(options);
  if (!credentials.ok()) return credentials.status();
  AgentStub stubs[2] = {AgentStub(agents[0], options.vm_id, *credentials),
                        AgentStub(agents[1], options.vm_id, *credentials)};
  for (AgentStub& stub : stubs) {
    if (absl::Status status = stub.Connect(); !status.ok()) return status;
  }
  HandoffCaller caller(agents, *credentials);
  if (absl::Status status = caller.Connect(); !status.ok()) return status;
  int from = options.from;
  Rounds rounds;
  rounds.AddKind("syncs", [&] { return syncs[0].Run(kSyncs); });
  rounds.AddKind("empty_rpcs", [&] {
    absl::Status status;
    for (int i = 0; i < kRpcs; ++i) status.Update(stubs[0].Empty());
    return status;
  });
  // The same in the order of a handoff, from one agent and disk to the other one.
  rounds.AddKind("floor", [&] {
    absl::Status status;
    for (int i = 0; i < kRpcs; ++i) {
      status.Update(stubs[i % 2].Empty());
      status.Update(syncs[i % 2].Run(kSyncsOfRpc[i]));
    }
    return status;
  });
  rounds.AddKind("handoff", [&] {
    absl::Status status = caller.Handoff(options.vm_id, from);
    from = 1 - from;
    return status;
  });
  if (absl::Status status = rounds.Run(options.limits); !status.ok()) return status;
  Json series;
  for (const auto& [name, samples] : rounds.all()) series[name] = samples.ToJson();
  series["floor_apart"] = Sum(rounds.samples("syncs"), rounds.samples("empty_rpcs")).ToJson();
  for (const auto& [name, samples] : caller.steps()) series[name] = samples.ToJson();
  return Json{{"rounds", rounds.rounds()},
              {"failed_rounds", rounds.failed_rounds()},
              {"failure", rounds.failure()},
              {"from", from},
              {"series", series}};
}

// Every VM that may run at agent `from`, once, to the other one.
absl::StatusOr<Json> Evacuate(const Options& options) {
  const std::string agents[2] = {options.agents[0], options.agents[1]};
  const auto credentials = CredentialsOf(options);
  if (!credentials.ok()) return credentials.status();
  std::vector<std::unique_ptr<HandoffCaller>> callers;
  for (uint32_t i = 0; i < options.parallel; ++i) {
    callers.push_back(std::make_unique<HandoffCaller>(agents, *credentials));
    if (absl::Status status = callers.back()->Connect(); !status.ok()) return status;
  }
  const auto vms = callers.front()->VmsAt(options.from);
  if (!vms.ok()) return vms.status();
  std::atomic<size_t> next{0};
  std::vector<absl::Status> ended(options.parallel);
  std::vector<std::thread> threads;
  const absl::Time started = absl::Now();
  for (uint32_t i = 0; i < options.parallel; ++i) {
    threads.emplace_back([&, i] {
      for (size_t vm = next++; vm < vms->size() && ended[i].ok(); vm = next++)
        ended[i] = callers[i]->Handoff((*vms)[vm], options.from);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = absl::ToDoubleSeconds(absl::Now() - started);
  for (const absl::Status& status : ended) {
    if (!status.ok()) return status;
  }
  return Json{{"parallel", options.parallel},
              {"vms", vms->size()},
              {"seconds", seconds},
              {"handoffs_per_second", static_cast<double>(vms->size()) / seconds}};
}

// A journal as an agent has it that has handed over 16-vCPU VMs for a while.
absl::StatusOr<Json> FillJournal(const Options& options) {
  constexpr int kThreads = 16;
  auto journal = journal::SqliteJournal::Open(options.journal);
  if (!journal.ok()) return journal.status();
  std::atomic<uint32_t> next{0};
  std::vector<absl::Status> ended(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (uint32_t entry = next++; entry < options.entries && ended[i].ok(); entry = next++) {
        journal::HandoffRecord record;
        record.side = entry % 2 == 0 ? journal::Side::kSource : journal::Side::kDestination;
        record.state = entry % 2 == 0 ? journal::State::kReleased : journal::State::kActive;
        record.vm_id = absl::StrCat("vm-", entry);
        record.ticket = {absl::StrCat("handoff-", entry),
                         1,
                         std::string(16, 's'),
                         std::string(16, 'd'),
                         record.vm_id,
                         std::string(32, 'r'),
                         std::string(32, 'a')};
        record.request_digest = std::string(32, 'q');
        record.answer = std::string(1200, 'x');
        record.begun_at_ns = record.changed_at_ns = absl::ToUnixNanos(absl::Now());
        journal::VmRecord vm{
            record.vm_id, 1,
            entry % 2 == 0 ? journal::Standing::kReleased : journal::Standing::kOwned,
            record.ticket.handoff_id, ""};
        ended[i] = (*journal)->Write({record, vm});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : ended) {
    if (!status.ok()) return status;
  }
  return Json{{"entries", options.entries}};
}

}  // namespace
}  // namespace tsc_handoff::bench

int main(int argc, char** argv) {
  using tsc_handoff::bench::Json;
  tsc_handoff::bench::Options options;
  double seconds = 10;
  CLI::App app(tsc_handoff::bench::kDescription, "handoff_bench");
  app.require_subcommand(1);
  const auto add_agents = [&](CLI::App* command) {
    command->add_option("--agent", options.agents, "gRPC addresses of the two agents")
        ->required()
        ->expected(2);
    command->add_option("--tls-ca", options.tls.ca, "Call by mutual TLS: authorities");
    command->add_option("--tls-cert", options.tls.cert, "The caller's certificate");
    command->add_option("--tls-key", options.tls.key, "Its key");
    command->add_option("--from", options.from, "Number of the agent that has the VMs [0]")
        ->check(CLI::Range(0, 1));
  };
  CLI::App* const one = app.add_subcommand("one", "One VM to and fro, in rounds with its floor");
  add_agents(one);
  one->add_option("--vm", options.vm_id, "Which")->required();
  one->add_option("--directory", options.directory, "On the journals' disk; gets a file")
      ->required()
      ->check(CLI::ExistingDirectory);
  one->add_option("--min-rounds", options.limits.min_rounds, "Rounds at least [30]")
      ->check(CLI::Range(1, 1'000'000));
  one->add_option("--max-rounds", options.limits.max_rounds, "Rounds at most [1000]")
      ->check(CLI::Range(1, 1'000'000));
  one->add_option("--seconds", seconds, "Time after which no further round begins [10]")
      ->check(CLI::Range(0.1, 3600.0));
  CLI::App* const evacuate = app.add_subcommand("evacuate", "All VMs of one agent to the other");
  add_agents(evacuate);
  evacuate->add_option("--parallel", options.parallel, "Handoffs at a time [1]")
      ->check(CLI::Range(1, 256));
  CLI::App* const fill = app.add_subcommand("fill", "Make a journal with many entries");
  fill->add_option("--journal", options.journal, "Its absolute path")->required();
  fill->add_option("--entries", options.entries, "How many [10000]")
      ->check(CLI::Range(1, 10'000'000));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  spdlog::set_level(spdlog::level::warn);
  options.limits.time = absl::Seconds(seconds);
  const absl::StatusOr<Json> report = one->parsed() ? tsc_handoff::bench::MeasureOne(options)
                                      : evacuate->parsed()
                                          ? tsc_handoff::bench::Evacuate(options)
                                          : tsc_handoff::bench::FillJournal(options);
  if (!report.ok()) {
    std::fprintf(stderr, "handoff_bench: %s\n", std::string(report.status().message()).c_str());
    return 1;
  }
  std::cout << report->dump() << std::endl;
  return 0;
}
