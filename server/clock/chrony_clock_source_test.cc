#include "server/clock/chrony_clock_source.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/unique_fd.h"
#include "server/clock/chrony_reply.h"
#include "server/clock/fake_chronyd.h"

namespace tsc_handoff::clock {
namespace {

using Word = SourceReport::Word;
using Answers = std::vector<std::string>;

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1000 * kMs;
constexpr int64_t kUpdateNs = 1'700'000'000'250'000'000;  // of a ChronyReply
constexpr int64_t kLongNs = 30 * kSecond;                 // nothing waits that long but a failure

int NoLeapSecond(timex* values) {
  EXPECT_EQ(values->modes, 0u);
  values->tai = 37;
  return TIME_OK;
}

ChronyOptions To(const std::string& address, int64_t timeout_ns = kLongNs) {
  ChronyOptions options;
  options.address = address;
  options.timeout_ns = timeout_ns;
  options.adjtimex = NoLeapSecond;
  options.realtime_ns = [] { return kUpdateNs + 3 * kSecond; };
  return options;
}

FakeChronyd::Script Always(const ChronyReply& reply) {
  return [reply](const std::string& request) { return Answers{reply.Bytes(SequenceOf(request))}; };
}

void ExpectGood(const SourceReport& report) {
  EXPECT_EQ(report.word, Word::kSynchronised) << report.problem;
  EXPECT_EQ(report.problem, "");
  EXPECT_NEAR(static_cast<double>(report.error_bound_ns), 1'500'000, 1);
  EXPECT_EQ(report.since_update_ns, 3 * kSecond);
  EXPECT_TRUE(report.update_id.has_value());
  EXPECT_EQ(report.tai_offset_s, 37);
  EXPECT_FALSE(report.leap_second);
  EXPECT_EQ(report.source, "chrony");
}

void ExpectNoAnswer(const SourceReport& report, const std::string& problem) {
  EXPECT_EQ(report.word, Word::kNoAnswer);
  EXPECT_NE(report.problem.find(problem), std::string::npos) << report.problem;
  EXPECT_EQ(report.error_bound_ns, 0);
  EXPECT_FALSE(report.update_id.has_value());
  EXPECT_EQ(report.source, "chrony");
  EXPECT_EQ(report.tai_offset_s, 37) << "the kernel knows it nevertheless";
}

// A directory in /tmp, because a socket's path must be short.
class Directory {
 public:
  Directory() {
    std::string path = "/tmp/chrony-test-XXXXXX";
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  std::string socket() const { return path_ + "/chronyd.sock"; }
  size_t files() const {
    size_t count = 0;
    for ([[maybe_unused]] const auto& file : std::filesystem::directory_iterator(path_)) ++count;
    return count;
  }

 private:
  std::string path_;
};

enum class Way { kUdp, kUnix };

class BothWaysTest : public testing::TestWithParam<Way> {
 protected:
  std::string NewAddress() const {
    return GetParam() == Way::kUdp ? "127.0.0.1:0" : directory_.socket();
  }
  Directory directory_;
};

INSTANTIATE_TEST_SUITE_P(Ways, BothWaysTest, testing::Values(Way::kUdp, Way::kUnix),
                         [](const auto& row) {
                           return std::string(row.param == Way::kUdp ? "Udp" : "Unix");
                         });

TEST_P(BothWaysTest, AGoodAnswerIsBelieved) {
  const FakeChronyd chronyd(Always({}), NewAddress());
  ChronyClockSource source(To(chronyd.address()));
  ExpectGood(source.Ask(0));
  ExpectGood(source.Ask(kSecond));
}

TEST_P(BothWaysTest, EveryRequestIsWhatChronydExpectsAndHasAnotherNumber) {
  std::mutex mutex;
  std::vector<std::string> requests;
  const FakeChronyd chronyd(
      [&](const std::string& request) {
        std::lock_guard<std::mutex> lock(mutex);
        requests.push_back(request);
        return Always({})(request);
      },
      NewAddress());
  ChronyClockSource source(To(chronyd.address()));
  source.Ask(0);
  source.Ask(kSecond);
  std::lock_guard<std::mutex> lock(mutex);
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_NE(requests[0], requests[1]);
  for (const std::string& request : requests) {
    const ChronyRequest expected = EncodeTrackingRequest(SequenceOf(request));
    EXPECT_EQ(request, std::string(expected.data(), expected.size()));
  }
}

TEST_P(BothWaysTest, SilenceIsNoAnswer) {
  const FakeChronyd chronyd([](const std::string&) { return Answers(); }, NewAddress());
  ChronyClockSource source(To(chronyd.address(), 20 * kMs));
  ExpectNoAnswer(source.Ask(0), absl::StrCat("chronyd is silent at ", chronyd.address()));
}

TEST_P(BothWaysTest, LateAnswersAreSkipped) {
  const FakeChronyd chronyd(
      [](const std::string& request) {
        const uint32_t sequence = SequenceOf(request);
        const ChronyReply wrong = {.root_dispersion_s = 1e-9};
        return Answers{wrong.Bytes(sequence - 1), wrong.Bytes(sequence ^ 0x8000'0000),
                       ChronyReply().Bytes(sequence)};
      },
      NewAddress());
  ChronyClockSource source(To(chronyd.address()));
  ExpectGood(source.Ask(0));
}

TEST_P(BothWaysTest, LateAnswersAloneAreSilence) {
  const FakeChronyd chronyd(
      [](const std::string& request) {
        return Answers(20, ChronyReply().Bytes(SequenceOf(request) + 1));
      },
      NewAddress());
  ChronyClockSource source(To(chronyd.address(), 20 * kMs));
  ExpectNoAnswer(source.Ask(0), "silent");
}

FakeChronyd::Script AnswerOf(size_t bytes) {
  return [bytes](const std::string& request) {
    std::string answer = ChronyReply().Bytes(SequenceOf(request));
    answer.resize(bytes);
    return Answers{answer};
  };
}

TEST_P(BothWaysTest, AnAnswerOfAnyOtherLengthIsNone) {
  FakeChronyd chronyd(Always({}), NewAddress());
  ChronyClockSource source(To(chronyd.address()));
  for (size_t bytes = 0; bytes < 2 * kChronyPacketBytes; ++bytes) {
    if (bytes == kChronyPacketBytes) continue;
    chronyd.SetScript(AnswerOf(bytes));
    ExpectNoAnswer(source.Ask(0), absl::StrCat("has ", bytes, " bytes"));
  }
  chronyd.SetScript(AnswerOf(2000));
  ExpectNoAnswer(source.Ask(0), "bytes");
}

TEST_P(BothWaysTest, RecoversWhenChronydIsStartedAnew) {
  auto chronyd = std::make_unique<FakeChronyd>(Always({}), NewAddress());
  const std::string address = chronyd->address();
  ChronyClockSource source(To(address));
  ExpectGood(source.Ask(0));
  chronyd.reset();
  for (int i = 0; i < 2; ++i)
    ExpectNoAnswer(source.Ask(0), absl::StrCat("chronyd does not answer at ", address));
  chronyd = std::make_unique<FakeChronyd>(Always({}), address);
  ExpectGood(source.Ask(0));
}

// systemd removes chronyd's directory when it stops, and the agent's socket with it.
TEST_P(BothWaysTest, RecoversWhenChronydHasBeenStartedAnewUnnoticed) {
  auto chronyd = std::make_unique<FakeChronyd>(Always({}), NewAddress());
  const std::string address = chronyd->address();
  ChronyClockSource source(To(address));
  ExpectGood(source.Ask(0));
  const std::string path = chronyd->clients()[0].path;
  chronyd.reset();
  if (!path.empty()) {
    EXPECT_EQ(unlink(path.c_str()), 0);
  }
  chronyd = std::make_unique<FakeChronyd>(Always({}), address);
  source.Ask(0);  // over a Unix socket: finds out that nobody is there any more
  ExpectGood(source.Ask(0));
}

TEST_P(BothWaysTest, ARefusalIsNamed) {
  const FakeChronyd chronyd(Always({.status = 2}), NewAddress());
  ChronyClockSource source(To(chronyd.address()));
  ExpectNoAnswer(source.Ask(0), absl::StrCat("chronyd at ", chronyd.address(), ": it refuses"));
}

TEST_P(BothWaysTest, AnotherVersionIsNamed) {
  const FakeChronyd chronyd(Always({.version = 5, .status = 18}), NewAddress());
  ChronyClockSource source(To(chronyd.address()));
  ExpectNoAnswer(source.Ask(0), "version 5");
}

TEST_P(BothWaysTest, RandomBytesAreNoAnswer) {
  std::mt19937 random(1);
  const FakeChronyd chronyd(
      [&random](const std::string& request) {
        std::string answer(random() % 150, '\0');
        for (char& byte : answer) byte = static_cast<char>(random());
        // Else it would only be taken for a late answer.
        for (size_t i = 0; i < 4 && 16 + i < answer.size(); ++i) answer[16 + i] = request[8 + i];
        return Answers{answer};
      },
      NewAddress());
  ChronyClockSource source(To(chronyd.address()));
  for (int i = 0; i < 500; ++i) ExpectNoAnswer(source.Ask(0), "chronyd at ");
}

TEST(ChronyClockSourceTest, AnUnsynchronisedChronydIsNoSilence) {
  const FakeChronyd chronyd(Always({.leap_status = 3}));
  const SourceReport report = ChronyClockSource(To(chronyd.address())).Ask(0);
  EXPECT_EQ(report.word, Word::kUnsynchronised);
  EXPECT_FALSE(report.update_id.has_value());
}

TEST(ChronyClockSourceTest, UpdatesHaveAnIdentityThatSlewingDoesNotChange) {
  ChronyReply reply;
  FakeChronyd chronyd(Always(reply));
  ChronyClockSource source(To(chronyd.address()));
  const auto first = source.Ask(0).update_id;
  reply.reference_nanoseconds += 17;
  chronyd.SetScript(Always(reply));
  EXPECT_EQ(source.Ask(0).update_id, first);
  reply.reference_s += 1;
  chronyd.SetScript(Always(reply));
  EXPECT_NE(source.Ask(0).update_id, first);
}

TEST(ChronyClockSourceTest, ALeapSecondIsKnownFromEither) {
  for (const bool kernel_knows : {false, true}) {
    for (const uint16_t leap_status : {0, 1, 2}) {
      const FakeChronyd chronyd(Always({.leap_status = leap_status}));
      ChronyOptions options = To(chronyd.address());
      options.adjtimex = [kernel_knows](timex*) { return kernel_knows ? TIME_INS : TIME_OK; };
      EXPECT_EQ(ChronyClockSource(options).Ask(0).leap_second, kernel_knows || leap_status != 0);
    }
  }
}

TEST(ChronyClockSourceTest, DoesWithoutTheKernel) {
  const FakeChronyd chronyd(Always({}));
  ChronyOptions options = To(chronyd.address());
  options.adjtimex = [](timex*) { return -EPERM; };
  const SourceReport report = ChronyClockSource(options).Ask(0);
  EXPECT_EQ(report.word, Word::kSynchronised) << report.problem;
  EXPECT_EQ(report.tai_offset_s, 0);
}

TEST(ChronyClockSourceTest, MeasuresAgeByTheHostsOwnClock) {
  const FakeChronyd chronyd(Always({}));
  ChronyOptions options = To(chronyd.address());
  options.realtime_ns = nullptr;
  const SourceReport report = ChronyClockSource(options).Ask(0);
  const int64_t now_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                             std::chrono::system_clock::now().time_since_epoch())
                             .count();
  EXPECT_LE(report.since_update_ns, now_ns - kUpdateNs);
  EXPECT_GE(report.since_update_ns, now_ns - kUpdateNs - 60 * kSecond);
}

TEST(ChronyClockSourceUnixTest, ItsOwnSocketIsOpenToChronydAndGoesWithIt) {
  const Directory directory;
  FakeChronyd chronyd(Always({}), directory.socket());
  const mode_t umask_before = umask(077);
  {
    ChronyClockSource source(To(chronyd.address()));
    ExpectGood(source.Ask(0));
    ChronyClockSource other(To(chronyd.address()));
    ExpectGood(other.Ask(0));
    EXPECT_EQ(directory.files(), 3u) << "chronyd's socket and these two";
  }
  umask(umask_before);
  EXPECT_EQ(directory.files(), 1u);
  const auto clients = chronyd.clients();
  ASSERT_EQ(clients.size(), 2u);
  EXPECT_EQ(clients[0].mode, mode_t{0666});
  EXPECT_NE(clients[0].path, clients[1].path);
}

TEST(ChronyClockSourceUnixTest, LeavesNothingBehindWhereNoChronydIs) {
  const Directory directory;
  ChronyClockSource source(To(directory.socket()));
  for (int i = 0; i < 3; ++i) ExpectNoAnswer(source.Ask(0), "does not answer at /tmp/");
  EXPECT_EQ(directory.files(), 0u);
}

TEST(ChronyClockSourceUnixTest, AFullQueueIsSilence) {
  const Directory directory;
  // Nobody reads from it.
  const UniqueFd stopped(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  directory.socket().copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(stopped.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ChronyClockSource source(To(directory.socket(), kMs));
  // The kernel's default for a queue is 10, systemd's 512.
  for (int i = 0; i < 600; ++i) ExpectNoAnswer(source.Ask(0), "is silent at /tmp/");
}

struct AddressRow {
  const char* name;
  std::string address;
  bool good;
};

class AddressTest : public testing::TestWithParam<AddressRow> {};

TEST_P(AddressTest, IsChecked) {
  const AddressRow& row = GetParam();
  EXPECT_EQ(ChronyClockSource::CheckAddress(row.address).ok(), row.good);
  if (row.good) return;
  // Whoever did not check gets no answer, and the sentence.
  ExpectNoAnswer(ChronyClockSource(To(row.address)).Ask(0), "loopback");
}

INSTANTIATE_TEST_SUITE_P(
    Table, AddressTest,
    testing::Values(AddressRow{"Default", ChronyOptions().address, true},
                    AddressRow{"OtherLoopback", "127.1.2.3:1", true},
                    AddressRow{"LargestPort", "127.0.0.1:65535", true},
                    AddressRow{"Path", "/run/chrony/chronyd.sock", true},
                    AddressRow{"LongestPath", "/" + std::string(106, 'a'), true},
                    AddressRow{"PathTooLong", "/" + std::string(107, 'a'), false},
                    AddressRow{"RelativePath", "run/chronyd.sock", false},
                    AddressRow{"Empty", "", false}, AddressRow{"NoPort", "127.0.0.1", false},
                    AddressRow{"EmptyPort", "127.0.0.1:", false},
                    AddressRow{"PortZero", "127.0.0.1:0", false},
                    AddressRow{"PortTooLarge", "127.0.0.1:65536", false},
                    AddressRow{"NegativePort", "127.0.0.1:-1", false},
                    AddressRow{"Name", "localhost:323", false},
                    AddressRow{"Six", "[::1]:323", false},
                    AddressRow{"AnotherHost", "192.0.2.1:323", false},
                    AddressRow{"AnyHost", "0.0.0.0:323", false}),
    [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace tsc_handoff::clock
