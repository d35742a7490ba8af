// VMs that nobody registered, as callers see them: found, observed, and reached or refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/lib/handoff.h"
#include "server/agent/fake_host_vms.h"
#include "server/base/error.h"
#include "tests/service/pair.h"

namespace tsc_handoff {
namespace {

using absl::StatusCode;
using agent::FakeHostVms;
using ::testing::HasSubstr;

// A pair whose hosts have VMs of unmodified VMMs, both the same.
class FoundVms : public testing::Test {
 protected:
  FoundVms() {
    PairOptions options;
    options.source.make_host_vms = [this] { return Make(source_); };
    options.destination.make_host_vms = [this] { return Make(destination_); };
    pair_ = std::make_unique<Pair>(options);
  }
  void SetUp() override { ASSERT_TRUE(pair_->ok()); }

  static std::unique_ptr<agent::HostVms> Make(FakeHostVms*& out) {
    auto host = std::make_unique<FakeHostVms>();
    host->Refuse(70, Error(Reason::kAttachDenied, "attaching is switched off (--attach)",
                           {{"option", "--attach"}}));
    host->Refuse(71, Error(Reason::kAttachRefused, "process 71 has a seccomp filter",
                           {{"refusal", "seccomp_filter"}}));
    discovery::FoundVm undecided = FakeHostVms::Vm(72, "undecided", 0);
    undecided.descriptors.undecided = "the process has several VMs with a vCPU 0";
    host->Set({FakeHostVms::Vm(69, "reached"), FakeHostVms::Vm(70, "denied"),
               FakeHostVms::Vm(71, "refused"), undecided, FakeHostVms::Vm(73, "refused")});
    observe::VmView view;
    for (uint32_t id = 0; id < 2; ++id) {
      observe::VcpuView vcpu;
      vcpu.id = id;
      vcpu.offset_ticks = id * 35'000;
      view.vcpus.push_back(vcpu);
    }
    host->Show({{{69, 10}, view}, {{72, 10}, view}});
    out = host.get();
    return host;
  }

  std::map<std::string, v1::Vm> List() const {
    std::map<std::string, v1::Vm> out;
    const auto vms = pair_->from->ListVms();
    EXPECT_TRUE(vms.ok()) << vms.status();
    for (const v1::Vm& vm : *vms) out[vm.vm_id()] = vm;
    return out;
  }
  absl::Status HandOff(const std::string& source_vm, const std::string& destination_vm) const {
    client::HandoffRequest request;
    request.source_vm_id = source_vm;
    request.apply.set_vm_id(destination_vm);
    request.apply.set_mode(v1::APPLY_MODE_ELAPSED);
    return client::Handoff(*pair_->from, *pair_->to, request).status;
  }

  FakeHostVms* source_ = nullptr;
  FakeHostVms* destination_ = nullptr;
  std::unique_ptr<Pair> pair_;
};

TEST_F(FoundVms, AreListedWithWhatIsPossible) {
  const auto vms = List();
  ASSERT_EQ(vms.size(), 6u) << "with the one that registered";
  EXPECT_EQ(vms.at("vm").port(), v1::Vm::PORT_IN_PROCESS);
  EXPECT_EQ(vms.at("reached").port(), v1::Vm::PORT_ATTACHED);
  EXPECT_EQ(vms.at("reached").unreachable(), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(vms.at("reached").vmm_pid(), 69);
  EXPECT_EQ(vms.at("reached").vcpu_count(), 2u);
  EXPECT_TRUE(vms.at("reached").may_run());
  const struct {
    const char* vm_id;
    v1::ErrorReason reason;
    const char* text;
  } rows[] = {{"denied", v1::ATTACH_DENIED, "--attach"},
              {"refused", v1::ATTACH_REFUSED, "seccomp"},
              {"undecided", v1::VM_AMBIGUOUS, "several VMs"}};
  for (const auto& row : rows) {
    const v1::Vm& vm = vms.at(row.vm_id);
    EXPECT_EQ(vm.port(), v1::Vm::PORT_NONE) << row.vm_id;
    EXPECT_EQ(vm.unreachable(), row.reason);
    EXPECT_THAT(vm.unreachable_reason(), HasSubstr(row.text));
    const auto one = pair_->from->GetVm(row.vm_id);
    ASSERT_TRUE(one.ok()) << one.status();
    EXPECT_EQ(one->unreachable(), row.reason);
  }
}

TEST_F(FoundVms, OneWhoseNameIsTakenIsListedUnderItsProcess) {
  for (const auto& [vm_id, vm] : List()) {
    if (vm.vmm_pid() != 73) continue;
    EXPECT_THAT(vm_id, testing::StartsWith("kvm-73-10-"));
    EXPECT_EQ(vm.unreachable(), v1::VM_AMBIGUOUS);
    ExpectRefused(pair_->from->GetTscState(vm_id).status(), StatusCode::kFailedPrecondition,
                  "VM_AMBIGUOUS");
    return;
  }
  FAIL() << "not listed";
}

TEST_F(FoundVms, TheirTscsAreObserved) {
  const auto vms = List();
  EXPECT_EQ(vms.at("reached").observation().phase_spread_ticks(), 35'000u);
  EXPECT_FALSE(vms.at("reached").observation().offsets_equal());
  EXPECT_GT(vms.at("reached").observation().observed_at_ns(), 0);
  EXPECT_EQ(vms.at("undecided").vcpu_count(), 2u) << "its descriptors do not say";
  EXPECT_FALSE(vms.at("denied").has_observation());
}

TEST_F(FoundVms, WhatCannotBeReachedIsRefusedByName) {
  const v1::SetTscStateRequest apply = pair_->Request();
  const struct {
    const char* vm_id;
    StatusCode code;
    const char* reason;
  } rows[] = {{"denied", StatusCode::kPermissionDenied, "ATTACH_DENIED"},
              {"refused", StatusCode::kFailedPrecondition, "ATTACH_REFUSED"},
              {"undecided", StatusCode::kFailedPrecondition, "VM_AMBIGUOUS"}};
  for (const auto& row : rows) {
    SCOPED_TRACE(row.vm_id);
    ExpectRefused(pair_->from->GetTscState(row.vm_id).status(), row.code, row.reason);
    v1::SetTscStateRequest request = apply;
    request.set_vm_id(row.vm_id);
    ExpectRefused(pair_->to->SetTscState(request).status(), row.code, row.reason);
    ExpectRefused(HandOff(row.vm_id, "vm"), row.code, row.reason);
    ExpectRefused(HandOff("vm", row.vm_id), row.code, row.reason);
  }
  const auto vm = pair_->from->GetVm("vm");
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_TRUE(vm->may_run()) << "each handoff was undone";
}

TEST_F(FoundVms, OneThatRegistersUnderTheNameHasIt) {
  auto guest = pair_->source->AddGuest(Named("denied"));
  ASSERT_TRUE(guest.ok()) << guest.status();
  EXPECT_EQ(List().at("denied").port(), v1::Vm::PORT_IN_PROCESS);
  EXPECT_TRUE(pair_->from->GetTscState("denied").ok());
}

TEST_F(FoundVms, ComeAndGo) {
  source_->Set({FakeHostVms::Vm(80, "later")});
  EXPECT_TRUE(Await([this] { return List().count("later") == 1; }));
  EXPECT_TRUE(Await([this] { return List().count("reached") == 0; }));
  ExpectRefused(pair_->from->GetTscState("reached").status(), StatusCode::kNotFound,
                "VM_NOT_FOUND");
}

}  // namespace
}  // namespace tsc_handoff
