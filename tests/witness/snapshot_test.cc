#include "tests/witness/snapshot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "tests/witness/record.h"

namespace tsc_handoff::witness {
namespace {

using ::testing::HasSubstr;

Snapshot Example(uint32_t vcpu_count) {
  Snapshot snapshot;
  snapshot.record_version = WITNESS_RECORD_VERSION;
  snapshot.irqchip = true;
  snapshot.vm_id = "db-7";
  for (uint32_t i = 0; i < vcpu_count; ++i) {
    VcpuSnapshot vcpu;
    vcpu.id = 3 * i;
    vcpu.regs.rip = WITNESS_CODE_GPA + i;
    vcpu.sregs.cr3 = 0x1000 + i;
    vcpu.mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
    vcpu.events.flags = i;
    vcpu.lapic.regs[0x320] = static_cast<char>(i);
    vcpu.msrs = {{0x174, 0, i}, {0x277, 0, ~uint64_t{i}}};
    snapshot.vcpus.push_back(vcpu);
  }
  snapshot.memory.assign(WITNESS_MEMORY_SIZE, '\0');
  snapshot.memory[WITNESS_SHARED_GPA] = 'x';
  snapshot.memory[WITNESS_MEMORY_SIZE - 1] = 'y';
  return snapshot;
}

TEST(SnapshotTest, ComesBackAsItWas) {
  for (uint32_t count : {1u, 3u, 64u}) {
    const Snapshot in = Example(count);
    auto out = DecodeSnapshot(EncodeSnapshot(in));
    ASSERT_TRUE(out.ok()) << out.status();
    EXPECT_EQ(out->irqchip, in.irqchip);
    EXPECT_EQ(out->vm_id, in.vm_id);
    EXPECT_TRUE(out->memory == in.memory);
    ASSERT_EQ(out->vcpus.size(), count);
    for (uint32_t i = 0; i < count; ++i) {
      const VcpuSnapshot &a = in.vcpus[i], &b = out->vcpus[i];
      EXPECT_EQ(a.id, b.id);
      EXPECT_EQ(std::memcmp(&a.regs, &b.regs, sizeof a.regs), 0);
      EXPECT_EQ(std::memcmp(&a.sregs, &b.sregs, sizeof a.sregs), 0);
      EXPECT_EQ(std::memcmp(&a.events, &b.events, sizeof a.events), 0);
      EXPECT_EQ(std::memcmp(&a.lapic, &b.lapic, sizeof a.lapic), 0);
      EXPECT_EQ(a.mp_state.mp_state, b.mp_state.mp_state);
      ASSERT_EQ(b.msrs.size(), 2u);
      EXPECT_EQ(std::memcmp(a.msrs.data(), b.msrs.data(), 2 * sizeof a.msrs[0]), 0);
    }
  }
}

TEST(SnapshotTest, IsSmallBecauseMemoryIsMostlyZeros) {
  EXPECT_LT(EncodeSnapshot(Example(8)).size(), 32u * 1024);
}

TEST(SnapshotTest, EveryTruncationIsDataLoss) {
  const std::string bytes = EncodeSnapshot(Example(2));
  for (size_t size = 0; size < bytes.size(); ++size) {
    auto out = DecodeSnapshot(std::string_view(bytes).substr(0, size));
    ASSERT_TRUE(absl::IsDataLoss(out.status())) << size << ": " << out.status();
  }
  EXPECT_TRUE(absl::IsDataLoss(DecodeSnapshot(bytes + "x").status()));
}

TEST(SnapshotTest, AFlippedByteIsRefused) {
  const std::string good = EncodeSnapshot(Example(2));
  // Every byte of the header, and a sample of the rest, each of which costs a decompression.
  for (size_t i = 0; i < good.size(); i += i < 64 ? 1 : 61) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x40);
    auto out = DecodeSnapshot(bad);
    // Some bits of a zlib stream mean nothing; then the contents must still be the same.
    if (out.ok()) {
      EXPECT_TRUE(EncodeSnapshot(*out) == good) << i;
    }
  }
}

TEST(SnapshotTest, AnotherVersionIsNamed) {
  std::string bytes = EncodeSnapshot(Example(1));
  bytes[8] = 2;
  auto out = DecodeSnapshot(bytes);
  EXPECT_TRUE(absl::IsFailedPrecondition(out.status())) << out.status();
  EXPECT_THAT(std::string(out.status().message()), HasSubstr("version 2"));
}

TEST(SnapshotTest, AnotherRecordVersionIsNamed) {
  Snapshot snapshot = Example(1);
  snapshot.record_version = 77;
  auto out = DecodeSnapshot(EncodeSnapshot(snapshot));
  EXPECT_TRUE(absl::IsFailedPrecondition(out.status())) << out.status();
  EXPECT_THAT(std::string(out.status().message()), HasSubstr("77"));
}

TEST(SnapshotTest, ContentsThatMakeNoSenseAreRefused) {
  Snapshot none = Example(1);
  none.vcpus.clear();
  EXPECT_TRUE(absl::IsDataLoss(DecodeSnapshot(EncodeSnapshot(none)).status()));
  EXPECT_TRUE(absl::IsDataLoss(DecodeSnapshot(EncodeSnapshot(Example(65))).status()));
  Snapshot long_memory = Example(1);
  long_memory.memory += "z";
  EXPECT_TRUE(absl::IsDataLoss(DecodeSnapshot(EncodeSnapshot(long_memory)).status()));
}

TEST(SnapshotFileTest, WritesWholeAndReadsBack) {
  char directory[] = "/tmp/witness.XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/vm";
  const std::string bytes = EncodeSnapshot(Example(2));
  ASSERT_TRUE(WriteFile(path, "old").ok());
  ASSERT_TRUE(WriteFile(path, bytes).ok());
  auto back = ReadFile(path);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_TRUE(*back == bytes);
  unlink(path.c_str());
  EXPECT_THAT(std::string(ReadFile(path).status().message()), HasSubstr(path));
  rmdir(directory);
  EXPECT_FALSE(WriteFile(path, bytes).ok());
}

}  // namespace
}  // namespace tsc_handoff::witness
