// On this process's own descriptors, and a child's.
#include "server/attach/held_descriptors.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "gtest/gtest.h"
#include "server/base/error.h"

namespace tsc_handoff::attach {
namespace {

class HeldDescriptorsTest : public testing::Test {
 protected:
  HeldDescriptorsTest() : target_(*Target::Open(getpid())) {
    auto held = HeldDescriptors::Take(target_, vm_, {vcpus_[0], vcpus_[1]});
    EXPECT_TRUE(held.ok()) << held.status();
    held_ = std::make_unique<HeldDescriptors>(*std::move(held));
  }
  ~HeldDescriptorsTest() override {
    for (int fd : {vm_, vcpus_[0], vcpus_[1]}) close(fd);
  }
  std::optional<Reason> Check() const { return ReasonOf(held_->CheckUnchanged(target_)); }

  const int vm_ = eventfd(0, EFD_CLOEXEC);
  const int vcpus_[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
  Target target_;
  std::unique_ptr<HeldDescriptors> held_;
};

TEST_F(HeldDescriptorsTest, AreOfTheSameFiles) {
  EXPECT_EQ(eventfd_write(vcpus_[1], 7), 0);
  eventfd_t value = 0;
  EXPECT_EQ(eventfd_read(held_->vcpus()[1].get(), &value), 0);
  EXPECT_EQ(value, 7u);
  EXPECT_NE(held_->vm().get(), vm_);
  EXPECT_EQ(Check(), std::nullopt);
}

TEST_F(HeldDescriptorsTest, ANumberThatMeansAnotherFileIsNoticedThoughItsNameIsTheSame) {
  const int other = eventfd(0, EFD_CLOEXEC);
  ASSERT_EQ(dup3(other, vcpus_[1], O_CLOEXEC), vcpus_[1]);
  EXPECT_EQ(Check(), Reason::kVmmGone);
  close(other);
}

TEST_F(HeldDescriptorsTest, ANumberThatWasClosedIsNoticed) {
  close(vm_);
  EXPECT_EQ(Check(), Reason::kVmmGone);
  ASSERT_EQ(dup3(held_->vm().get(), vm_, O_CLOEXEC), vm_);
  EXPECT_EQ(Check(), std::nullopt) << "the same file again";
}

TEST(HeldDescriptors, OutliveTheProcessThatHadThem) {
  const int fd = eventfd(0, EFD_CLOEXEC);
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  auto target = Target::Open(child);
  ASSERT_TRUE(target.ok()) << target.status();
  auto held = HeldDescriptors::Take(*target, fd, {fd});
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_TRUE(held->CheckUnchanged(*target).ok());
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(ReasonOf(held->CheckUnchanged(*target)), Reason::kVmmGone);
  EXPECT_EQ(eventfd_write(held->vm().get(), 1), 0);
  close(fd);
}

TEST(HeldDescriptors, CannotBeTakenOfWhatIsNotThere) {
  auto target = Target::Open(getpid());
  ASSERT_TRUE(target.ok());
  EXPECT_EQ(ReasonOf(HeldDescriptors::Take(*target, 100'000, {}).status()), Reason::kAttachRefused);
}

}  // namespace
}  // namespace tsc_handoff::attach
