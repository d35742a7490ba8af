// bench_vm: see --help. Makes a VM, registers it with an agent, and measures the agent's two
// operations against what they cannot be faster than.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/host/host_facts.h"
#include "tests/bench/agent_stub.h"
#include "tests/bench/clock_cost.h"
#include "tests/bench/guard_cost.h"
#include "tests/bench/local_agent.h"
#include "tests/bench/rounds.h"
#include "tests/bench/simulated_agent.h"
#include "tests/bench/test_vm.h"

namespace tsc_handoff::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kDescription[] =
    "bench_vm: measures GetTscState and SetTscState of one VM against the bare loop of their "
    "ioctls "
    "and an\n"
    "empty RPC to the same agent. One JSON object on stdout; all times in ns.";
constexpr char kVmId[] = "bench";
constexpr uint32_t kSimulatedKhz = 2'600'000;
constexpr int kReferences = 500;
// The stages in between only explain: fewer samples do.
constexpr int kStagesEvery = 4;

struct Options {
  std::string kvm = "real";
  uint32_t vcpus = 1;
  std::string agent;
  std::string vmm_socket;
  int64_t ioctl_ns = 0;
  RoundLimits limits;
};

// The simulated clocks, as the agent's parts want them.
class SimulatedClock final : public clock::HostClock {
 public:
  explicit SimulatedClock(sim::HostClock& clock) : clock_(clock) {}
  uint64_t ReadTsc() override { return clock_.ReadTsc(); }
  int64_t ReadRealtimeNs() override { return clock_.ReadRealtimeNs(); }
  int64_t ReadMonotonicNs() override { return clock_.ReadMonotonicNs(); }
  void SleepNs(int64_t ns) override { clock_.time().Advance(ns); }

 private:
  sim::HostClock& clock_;
};

// Everything that differs between a real and a simulated host.
struct World {
  // Of a simulated host; null on a real one.
  std::unique_ptr<SimulatedAgent> agent;
  std::unique_ptr<sim::SimHost> host;
  std::unique_ptr<TestVm> vm;
  std::string grpc_address;
  std::string vmm_socket;
  host::HostFacts facts;
  std::unique_ptr<clock::HostClock> clock;
};

absl::Status MakeRealWorld(const Options& options, World& world) {
  world.grpc_address = options.agent;
  world.vmm_socket = options.vmm_socket;
  world.facts = host::ReadHostFacts();
  if (!world.facts.kvm_unavailable_reason.empty())
    return absl::UnavailableError(world.facts.kvm_unavailable_reason);
  world.clock = std::make_unique<clock::LinuxHostClock>();
  auto vm = MakeRealVm(options.vcpus);
  if (!vm.ok()) return vm.status();
  world.vm = *std::move(vm);
  return absl::OkStatus();
}

absl::Status MakeSimulatedWorld(const Options& options, World& world) {
  const auto time = std::make_shared<sim::SimTime>(sim::SimTime::Mode::kLive);
  sim::SimHostOptions host;
  host.clock.tsc_khz = kSimulatedKhz;
  host.kvm.vendor = sim::Vendor::kSvm;
  host.kvm.tsc_control = false;
  host.ioctl_ns = 0;  // what they take in real time is what counts here
  host.real_fds = true;
  host.record_calls = false;
  auto agent = SimulatedAgent::Start(time, host);
  if (!agent.ok()) return agent.status();
  world.agent = *std::move(agent);
  world.grpc_address = world.agent->grpc_address();
  world.vmm_socket = world.agent->vmm_socket();
  world.host = std::make_unique<sim::SimHost>(time, host);
  world.facts.boot_id = std::string(16, 'b');  // as with an agent, a capture here is known again
  world.facts.tsc.host_khz = kSimulatedKhz;
  world.facts.tsc.frac_bits = static_cast<uint32_t>(sim::FracBits(host.kvm.vendor));
  world.facts.simulated = true;
  world.clock = std::make_unique<SimulatedClock>(world.host->clock());
  auto vm = MakeSimulatedVm(*world.host, options.vcpus, options.ioctl_ns);
  if (!vm.ok()) return vm.status();
  world.vm = *std::move(vm);
  return absl::OkStatus();
}

// Two copies of every descriptor: with the VM and in the parts of the agent in this process.
absl::Status RaiseDescriptorLimit(uint32_t vcpus) {
  const rlim_t needed = 256 + rlim_t{2} * vcpus;
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= needed) return absl::OkStatus();
  limit = {needed, std::max(limit.rlim_max, needed)};
  if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("needs ", needed, " descriptors: raise the hard limit (ulimit -Hn)"));
}

void AddKinds(BareLoop& bare, AgentStub& stub, LocalAgent& local, port::ApplyOrder& order,
              Rounds& rounds) {
  const auto capture = [&] { return bare.Capture(); };
  rounds.AddKind("bare_get", capture);
  rounds.AddKind("empty_rpc", [&] { return stub.Empty(); });
  rounds.AddKind("get", [&] { return stub.GetTscState(); });
  rounds.AddKind(
      "bare_set", [&] { return bare.Apply(); }, capture);
  rounds.AddKind(
      "set", [&] { return stub.SetTscState(); },
      [&] {
        stub.PrepareSet();
        return absl::OkStatus();
      });
  rounds.AddKind(
      "host_info_rpc", [&] { return stub.GetHostInfo(); }, nullptr, kStagesEvery);
  rounds.AddKind(
      "get_vm_rpc", [&] { return stub.GetVm(); }, nullptr, kStagesEvery);
  rounds.AddKind(
      "compare_clocks", [&] { return stub.CompareClocks(); }, nullptr, kStagesEvery);
  rounds.AddKind(
      "port_get", [&] { return local.PortRead(); }, nullptr, kStagesEvery);
  rounds.AddKind(
      "port_set", [&] { return local.PortWrite(order); },
      [&] {
        absl::Status status = bare.Capture();
        order = {bare.Target(), bare.states()};
        return status;
      },
      kStagesEvery);
  rounds.AddKind(
      "operation_get", [&] { return local.Capture(); }, nullptr, kStagesEvery);
  rounds.AddKind(
      "operation_set", [&] { return local.Apply(); }, nullptr, kStagesEvery);
}

absl::StatusOr<Json> Report(const Options& options, const Rounds& rounds, const AgentStub& stub) {
  Json series;
  for (const auto& [name, samples] : rounds.all()) series[name] = samples.ToJson();
  const Samples& empty = rounds.samples("empty_rpc");
  series["floor_get"] = Sum(rounds.samples("bare_get"), empty).ToJson();
  series["floor_set"] = Sum(rounds.samples("bare_set"), empty).ToJson();
  const ClockCost cost = MeasureClockCost(kReferences);
  const auto guard = MeasureGuardCost(kReferences);
  if (!guard.ok()) return guard.status();
  return Json{{"kvm", options.kvm},
              {"ioctl_ns", options.ioctl_ns},
              {"vcpus", options.vcpus},
              {"rounds", rounds.rounds()},
              {"failed_rounds", rounds.failed_rounds()},
              {"failure", rounds.failure()},
              {"state_bytes", stub.state_bytes()},
              {"series", series},
              {"reference",
               {{"width", cost.reference_width_ns.ToJson()},
                {"cost", cost.reference_cost_ns.ToJson()},
                {"single_bracket_width", cost.bracket_width_ns.ToJson()},
                {"trust_check", cost.trust_check_ns.ToJson()}}},
              {"guard",
               {{"admission", guard->admission_ns.ToJson()},
                {"audit_line", guard->audit_line_ns.ToJson()}}},
              {"probe",
               {{"rounds", stub.probe_rounds()},
                {"duration", stub.probe_duration_ns().ToJson()},
                {"offset_error", stub.probe_offset_error_ns().ToJson()}}}};
}

absl::StatusOr<Json> Measure(const Options& options) {
  if (absl::Status status = RaiseDescriptorLimit(options.vcpus); !status.ok()) return status;
  World world;
  absl::Status status =
      options.kvm == "real" ? MakeRealWorld(options, world) : MakeSimulatedWorld(options, world);
  if (!status.ok()) return status;
  BareLoop bare(*world.vm, world.facts.tsc.host_khz);
  if (status = bare.MakeUnequal(); !status.ok()) return status;
  auto session = Session::Connect(*world.vm, kVmId, world.vmm_socket);
  if (!session.ok()) return session.status();
  if (status = (*session)->AwaitRegistered(); !status.ok()) return status;
  auto local = LocalAgent::Start(*world.vm, world.facts, std::move(world.clock));
  if (!local.ok()) return local.status();
  AgentStub stub(world.grpc_address, kVmId);
  if (status = stub.Connect(); !status.ok()) return status;

  Rounds rounds;
  port::ApplyOrder order;
  AddKinds(bare, stub, **local, order, rounds);
  if (status = rounds.Run(options.limits); !status.ok()) return status;
  return Report(options, rounds, stub);
}

void AddOptions(CLI::App& app, Options& options, double& seconds) {
  app.add_option("--kvm", options.kvm, "real, or simulated: brings its own agent [real]")
      ->check(CLI::IsMember({"real", "simulated"}));
  app.add_option("--vcpus", options.vcpus, "vCPUs of the VM [1]")
      ->check(CLI::Range(1, static_cast<int>(TSC_KVM_MAX_VCPUS)));
  app.add_option("--agent", options.agent, "Real: the agent's gRPC address, unix:/PATH");
  app.add_option("--vmm-socket", options.vmm_socket, "Real: the agent's socket for VMMs");
  app.add_option("--ioctl-ns", options.ioctl_ns,
                 "Simulated: every ioctl takes at least this long [0: as long as it takes]")
      ->check(CLI::Range(0, 1'000'000));
  app.add_option("--min-rounds", options.limits.min_rounds, "Rounds at least [30]")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--max-rounds", options.limits.max_rounds, "Rounds at most [1000]")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--seconds", seconds, "Time after which no further round begins [10]")
      ->check(CLI::Range(0.1, 3600.0));
}

}  // namespace
}  // namespace tsc_handoff::bench

int main(int argc, char** argv) {
  tsc_handoff::bench::Options options;
  double seconds = 10;
  CLI::App app(tsc_handoff::bench::kDescription, "bench_vm");
  tsc_handoff::bench::AddOptions(app, options, seconds);
  try {
    app.parse(argc, argv);
    if (options.kvm == "real" && (options.agent.empty() || options.vmm_socket.empty()))
      throw CLI::ValidationError("--kvm real needs --agent and --vmm-socket");
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.limits.time = absl::Seconds(seconds);
  const auto report = tsc_handoff::bench::Measure(options);
  if (!report.ok()) {
    std::fprintf(stderr, "bench_vm: %s\n", std::string(report.status().message()).c_str());
    return 1;
  }
  std::cout << report->dump() << std::endl;
  return 0;
}
