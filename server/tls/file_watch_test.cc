#include "server/tls/file_watch.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "server/tls/testing/test_directory.h"

namespace tsc_handoff::tls {
namespace {

using std::chrono::milliseconds;

constexpr auto kPatience = std::chrono::seconds(20);

class Counter {
 public:
  void Add() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  bool Reaches(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return count_ >= count; });
  }
  int count() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

std::vector<std::string> Paths(const TestDirectory& directory) {
  const TlsFiles files = directory.files();
  return {files.ca, files.cert, files.key};
}

// So long that a test that waits for it fails.
FileWatch::Options Quiet() {
  FileWatch::Options options;
  options.settle = milliseconds(20);
  options.poll = std::chrono::minutes(10);
  return options;
}

TEST(FileWatchTest, NoticesRenames) {
  TestDirectory directory;
  directory.Put({"1", "2", "3"});
  Counter counter;
  FileWatch watch(
      Paths(directory), [&] { counter.Add(); }, Quiet());
  directory.Put("tls.crt", "4");
  EXPECT_TRUE(counter.Reaches(1));
}

TEST(FileWatchTest, NoticesTheSwapOfASecret) {
  TestDirectory directory;
  directory.PutAsSecret({"1", "2", "3"});
  Counter counter;
  FileWatch watch(
      Paths(directory), [&] { counter.Add(); }, Quiet());
  directory.PutAsSecret({"4", "5", "6"});
  EXPECT_TRUE(counter.Reaches(1));
  EXPECT_EQ(ReadTlsFiles(directory.files())->key, "6");
}

TEST(FileWatchTest, WaitsUntilAllFilesAreInPlace) {
  TestDirectory directory;
  directory.Put({"1", "2", "3"});
  Counter counter;
  FileWatch::Options options = Quiet();
  options.settle = std::chrono::seconds(1);
  options.settle_at_most = std::chrono::seconds(10);
  FileWatch watch(
      Paths(directory), [&] { counter.Add(); }, options);
  for (int i = 0; i < 10; ++i) directory.Put({"a", "b", "c"});
  EXPECT_TRUE(counter.Reaches(1));
  EXPECT_EQ(counter.count(), 1) << "thirty renames, one word";
}

TEST(FileWatchTest, SpeaksWhileFilesNeverSettle) {
  TestDirectory directory;
  directory.Put({"1", "2", "3"});
  Counter counter;
  FileWatch::Options options = Quiet();
  options.settle = std::chrono::minutes(10);
  options.settle_at_most = milliseconds(50);
  FileWatch watch(
      Paths(directory), [&] { counter.Add(); }, options);
  const auto give_up_at = std::chrono::steady_clock::now() + kPatience;
  while (counter.count() == 0 && std::chrono::steady_clock::now() < give_up_at)
    directory.Put("tls.crt", "x");
  EXPECT_GE(counter.count(), 1);
}

TEST(FileWatchTest, PollsWhatItCannotWatch) {
  Counter counter;
  FileWatch::Options options = Quiet();
  options.poll = milliseconds(5);
  FileWatch watch(
      {"/nowhere/at/all"}, [&] { counter.Add(); }, options);
  EXPECT_TRUE(counter.Reaches(3));
}

TEST(FileWatchTest, EndsWhileItWaits) {
  TestDirectory directory;
  FileWatch watch(
      Paths(directory), [] {}, Quiet());
}

}  // namespace
}  // namespace tsc_handoff::tls
