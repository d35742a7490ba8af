#include "server/base/log.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "server/base/log_limiter.h"

namespace tsc_handoff {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// The lines that are written while it lives.
class Lines {
 public:
  Lines() : before_(spdlog::default_logger()) {
    auto logger = std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_));
    logger->set_pattern("%l: %v");
    logger->set_level(spdlog::level::info);
    spdlog::set_default_logger(logger);
  }
  ~Lines() { spdlog::set_default_logger(before_); }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> before_;
};

TEST(TextLineTest, HasTheEventAndThenItsFields) {
  EXPECT_EQ(TextLine("applied", {{"vm", "web-1"}, {"vcpus", 16}, {"ppm", 1.5}, {"probed", true}}),
            "applied vm=web-1 vcpus=16 ppm=1.5 probed=true");
}

TEST(TextLineTest, NoValueCanMakeAFieldOrALineOfItsOwn) {
  EXPECT_EQ(TextLine("refused", {{"why", "a b"}, {"none", ""}, {"quote", "x\"y"}, {"eq", "a=b"}}),
            "refused why=\"a b\" none=\"\" quote=\"x\\\"y\" eq=\"a=b\"");
  EXPECT_EQ(TextLine("refused", {{"why", "one\ntwo\x1b[31m"}}),
            "refused why=\"one\\ntwo\\033[31m\"");
}

TEST(JsonMembersTest, AreJsonWhateverTheValuesAre) {
  const std::string json =
      "{" +
      JsonMembers("it's \"odd\"\n",
                  {{"bad", "\xff\xfe"}, {"n", UINT64_MAX}, {"m", -1}, {"b", false}}) +
      "}";
  const auto parsed = nlohmann::json::parse(json);
  EXPECT_EQ(parsed["event"], "it's \"odd\"\n");
  EXPECT_EQ(parsed["n"], UINT64_MAX);
  EXPECT_EQ(parsed["m"], -1);
  EXPECT_EQ(parsed["b"], false);
  EXPECT_EQ(json.find('\n'), std::string::npos);
}

TEST(LogTest, LinesOfAThreadHaveItsContextAndOthersDoNot) {
  const Lines lines;
  {
    const LogContext call({{"peer", "unix:1"}, {"trace", ""}});
    Log(LogLevel::kInfo, "inside", {{"vm", "a"}});
    std::thread([] { Log(LogLevel::kWarn, "elsewhere"); }).join();
  }
  Log(LogLevel::kInfo, "outside");
  Log(LogLevel::kDebug, "off");
  EXPECT_EQ(lines.text(), "info: inside vm=a peer=unix:1\nwarning: elsewhere\ninfo: outside\n");
}

TEST(LogTest, ALevelIsKnownByItsName) {
  EXPECT_FALSE(SetLogLevel("loud"));
  EXPECT_FALSE(SetLogLevel(""));
  EXPECT_TRUE(SetLogLevel("info"));
}

TEST(LogLimiterTest, LetsABurstThroughAndThenAFewASecondAndCountsTheRest) {
  LogLimiter limiter(3, 2);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limiter.Pass("refused", 0), 0u);
  EXPECT_EQ(limiter.Pass("refused", 0), std::nullopt);
  EXPECT_EQ(limiter.Pass("refused", kSecond / 4), std::nullopt);
  EXPECT_EQ(limiter.Pass("other", kSecond / 4), 0u);
  EXPECT_EQ(limiter.Pass("refused", kSecond / 2), 2u);
  EXPECT_EQ(limiter.Pass("refused", kSecond / 2), std::nullopt);
  // However long it was quiet, no more than a burst.
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limiter.Pass("refused", 1000 * kSecond), i == 0 ? 1u : 0u);
  EXPECT_EQ(limiter.Pass("refused", 1000 * kSecond), std::nullopt);
}

}  // namespace
}  // namespace tsc_handoff
