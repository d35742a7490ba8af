// attach_bench: see --help. How long the attached port keeps a VMM's thread from its work, beside
// what a cooperating VMM takes and the bare loop of ioctls.
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/attach/attached_port.h"
#include "server/attach/target.h"
#include "server/host/host_facts.h"
#include "server/port/vmm_listener.h"
#include "server/registry/vm_registry.h"
#include "tests/bench/own_descriptors.h"
#include "tests/bench/rounds.h"
#include "tests/bench/vmm_process.h"

namespace tsc_handoff::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr char kDescription[] =
    "attach_bench: a VMM with one VM of paused vCPUs, in a process of its own; captures and "
    "applies "
    "in it\n"
    "by attaching, over the cooperative port, and as the bare loop in the VMM, in turn. One JSON "
    "object on stdout;\n"
    "all times in ns.";
constexpr char kVmId[] = "bench";
constexpr uint32_t kSimulatedKhz = 2'600'000;

// When the attached port came to each of its steps, in the operation under way.
std::vector<std::pair<std::string, Clock::time_point>> steps;

struct Options {
  std::string kvm = "real";
  uint32_t vcpus = 1;
  int64_t ioctl_ns = 0;
  RoundLimits limits;
};

// A directory for the socket, gone with this object.
class SocketDirectory {
 public:
  SocketDirectory() {
    if (mkdtemp(path_) == nullptr) path_[0] = '\0';
  }
  ~SocketDirectory() {
    std::error_code ignored;
    if (path_[0] != '\0') std::filesystem::remove_all(path_, ignored);
  }
  std::string socket() const { return absl::StrCat(path_, "/vmm.sock"); }

 private:
  char path_[32] = "/tmp/tsc-bench.XXXXXX";
};

// What is measured, and what it is measured with.
struct World {
  SocketDirectory directory;
  std::unique_ptr<VmmProcess> vmm;
  registry::VmRegistry registry{1};
  OwnDescriptors check;
  std::unique_ptr<port::VmmListener> listener;
  std::unique_ptr<attach::AttachedPort> attached;
  port::ApplyOrder order;
  std::map<std::string, Samples> step_samples;
};

absl::Status Make(const Options& options, World& world) {
  VmmOptions vmm;
  vmm.simulated = options.kvm != "real";
  vmm.ioctl_ns = options.ioctl_ns;
  vmm.vcpus = options.vcpus;
  vmm.host_khz = vmm.simulated ? kSimulatedKhz : host::ReadHostFacts().tsc.host_khz;
  vmm.vm_id = kVmId;
  vmm.agent_socket = world.directory.socket();
  auto process = VmmProcess::Start(vmm);
  if (!process.ok()) return process.status();
  world.vmm = *std::move(process);
  world.listener = std::make_unique<port::VmmListener>(
      port::VmmListener::Options{.socket_path = vmm.agent_socket}, world.registry, world.check);
  if (absl::Status status = world.listener->Start(); !status.ok()) return status;
  if (absl::Status status = world.vmm->AwaitRegistered(); !status.ok()) return status;
  auto target = attach::Target::Open(world.vmm->pid());
  if (!target.ok()) return target.status();
  attach::AttachedPortOptions port;
  port.tid = world.vmm->pid();
  port.ops = world.vmm->ops();
  world.attached = std::make_unique<attach::AttachedPort>(
      *std::move(target), attach::AttachedVm{kVmId, world.vmm->vm_fd(), world.vmm->vcpus()}, port);
  return absl::OkStatus();
}

// What else a host does between two operations: uses memory. Otherwise each would get the very
// pages that held the code of the last one, and an emulated CPU takes milliseconds to write to code
// that it has translated; a real one does not care.
void UseMemory() {
  constexpr size_t kBytes = 4 << 20;
  cpu_set_t all;
  if (sched_getaffinity(0, sizeof(all), &all) != 0) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &all)) continue;
    cpu_set_t one;  // each has pages of its own at hand
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
    void* const memory =
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) break;
    memset(memory, 1, kBytes);
    munmap(memory, kBytes);
  }
  sched_setaffinity(0, sizeof(all), &all);
}

absl::StatusOr<int64_t> StopOf(World& world, const absl::Status& status, const char* operation) {
  if (!status.ok()) return status;
  for (size_t i = 1; i < steps.size(); ++i) {
    const auto took = steps[i].second - steps[i - 1].second;
    world.step_samples[absl::StrCat(operation, ".", steps[i].first)].Add(
        std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
  }
  return absl::ToInt64Nanoseconds(world.attached->last_stop());
}

void AddKinds(World& world, Rounds& rounds) {
  const auto take_order = [&world] {
    auto order = world.vmm->Order();
    if (order.ok()) world.order = *std::move(order);
    UseMemory();
    return order.status();
  };
  rounds.AddTimedKind("bare_capture", [&world] { return world.vmm->BareCapture(); });
  rounds.AddTimedKind("bare_apply", [&world] { return world.vmm->BareApply(); });
  rounds.AddKind("cooperative_capture", [&world] {
    auto lease = world.registry.Lease(kVmId);
    return lease.ok() ? lease->port().ReadAll(port::Hold::kNo).status() : lease.status();
  });
  rounds.AddKind(
      "cooperative_apply",
      [&world] {
        auto lease = world.registry.Lease(kVmId);
        return lease.ok() ? lease->port().WriteAll(world.order, port::Hold::kNo).status()
                          : lease.status();
      },
      take_order);
  rounds.AddTimedKind(
      "attached_capture_stop",
      [&world] {
        steps.clear();
        return StopOf(world, world.attached->ReadAll(port::Hold::kNo).status(), "capture");
      },
      take_order);
  rounds.AddTimedKind(
      "attached_apply_stop",
      [&world] {
        steps.clear();
        return StopOf(world, world.attached->WriteAll(world.order, port::Hold::kNo).status(),
                      "apply");
      },
      take_order);
  rounds.AddKind("attached_capture",
                 [&world] { return world.attached->ReadAll(port::Hold::kNo).status(); });
  rounds.AddKind(
      "attached_apply",
      [&world] { return world.attached->WriteAll(world.order, port::Hold::kNo).status(); },
      take_order);
}

absl::StatusOr<Json> Measure(const Options& options) {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  World world;
  if (absl::Status status = Make(options, world); !status.ok()) return status;
  steps.reserve(64);
  Rounds rounds;
  AddKinds(world, rounds);
  if (absl::Status status = rounds.Run(options.limits); !status.ok()) return status;
  Json series;
  for (const auto& [name, samples] : rounds.all()) series[name] = samples.ToJson();
  Json step_json;
  for (const auto& [name, samples] : world.step_samples) step_json[name] = samples.ToJson();
  return Json{{"kvm", options.kvm},
              {"ioctl_ns", options.ioctl_ns},
              {"vcpus", options.vcpus},
              {"rounds", rounds.rounds()},
              {"failed_rounds", rounds.failed_rounds()},
              {"failure", rounds.failure()},
              {"series", series},
              {"steps", step_json}};
}

void AddOptions(CLI::App& app, Options& options, double& seconds) {
  app.add_option("--kvm", options.kvm, "real or simulated [real]")
      ->check(CLI::IsMember({"real", "simulated"}));
  app.add_option("--vcpus", options.vcpus, "vCPUs of the VM [1]")
      ->check(CLI::Range(1, static_cast<int>(TSC_KVM_MAX_VCPUS)));
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

// The attached port's failpoints are also the steps of which it is told how long each takes.
extern "C" void tsc_handoff_failpoint(const char* name) {
  tsc_handoff::bench::steps.emplace_back(name, tsc_handoff::bench::Clock::now());
}

int main(int argc, char** argv) {
  tsc_handoff::bench::Options options;
  double seconds = 10;
  CLI::App app(tsc_handoff::bench::kDescription, "attach_bench");
  tsc_handoff::bench::AddOptions(app, options, seconds);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.limits.time = absl::Seconds(seconds);
  const auto report = tsc_handoff::bench::Measure(options);
  if (!report.ok()) {
    std::fprintf(stderr, "attach_bench: %s\n", std::string(report.status().message()).c_str());
    return 1;
  }
  std::cout << report->dump() << std::endl;
  return 0;
}
