// QmpClient against a server that behaves as badly as a test wants. qemu_test.cc has a real QEMU.
#include "client/qmp/qmp_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "client/qmp/testing/fake_server.h"

namespace tsc_handoff::qmp {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr absl::Duration kPatient = absl::Seconds(10);
constexpr absl::Duration kShort = absl::Milliseconds(50);
constexpr char kGreeting[] =
    R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}})";

class QmpClientTest : public ::testing::Test {
 protected:
  // Greets as QEMU does; the tests say the rest, command by command.
  absl::StatusOr<std::unique_ptr<QmpClient>> Connect(absl::Duration timeout = kPatient) {
    server_.Say(kGreeting);
    server_.Expect("qmp_capabilities", R"({"return": {}, "id": $id})");
    return QmpClient::Connect(*ParseQmpAddress(server_.address()), timeout);
  }

  FakeServer server_;
};

TEST_F(QmpClientTest, RunsACommandAndKeepsTheEventsThatComeMeanwhile) {
  const auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_EQ((*client)->qemu_version(), "7.2.22");
  server_.Expect("query-status",
                 R"({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}})"
                 "\n"
                 R"({"event": "MIGRATION", "data": {"status": "active"}})"
                 "\r\n"
                 R"({"return": {"status": "paused", "ticks": 18446744073709551615}, "id": $id})");
  const auto answer = (*client)->Execute("query-status", Json::object());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ((*answer)["ticks"].get<uint64_t>(), UINT64_MAX);
  auto event = (*client)->NextEvent(kPatient);
  ASSERT_TRUE(event.ok() && event->has_value());
  EXPECT_EQ((*event)->name, "STOP");
  EXPECT_TRUE((*event)->data.empty());
  event = (*client)->NextEvent(kPatient);
  ASSERT_TRUE(event.ok() && event->has_value());
  EXPECT_EQ((*event)->data["status"], "active");
  event = (*client)->NextEvent(kShort);
  ASSERT_TRUE(event.ok());
  EXPECT_FALSE(event->has_value());
}

TEST_F(QmpClientTest, ArgumentsAreSentAsTheyAre) {
  const auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.status();
  server_.Expect("migrate", R"({"return": {}, "id": $id})");
  ASSERT_TRUE((*client)->Execute("migrate", {{"uri", "tcp:\"x\"\n\xff"}}).ok());
  const Json sent = Json::parse(server_.LastRequest(), nullptr, false);
  // What is no UTF-8 cannot be sent in JSON.
  EXPECT_EQ(sent["arguments"]["uri"], "tcp:\"x\"\n\xef\xbf\xbd");
}

TEST_F(QmpClientTest, WhatQemuRefusesSaysWhy) {
  const auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.status();
  struct Row {
    const char* answer;
    absl::StatusCode code;
    const char* words;
  };
  for (const Row& row :
       {Row{R"({"error": {"class": "GenericError", "desc": "no such thing"}, "id": $id})",
            absl::StatusCode::kFailedPrecondition, "cont: no such thing"},
        Row{R"({"error": {"class": "CommandNotFound", "desc": "what?"}, "id": $id})",
            absl::StatusCode::kUnimplemented, "cont: what?"},
        // What could not be parsed is refused without an id.
        Row{R"({"error": {"class": "GenericError", "desc": "JSON parse error"}})",
            absl::StatusCode::kFailedPrecondition, "JSON parse error"},
        Row{R"({"error": 3, "id": $id})", absl::StatusCode::kFailedPrecondition,
            "without words"}}) {
    server_.Expect("cont", row.answer);
    const absl::Status status = (*client)->Execute("cont", Json::object()).status();
    EXPECT_EQ(status.code(), row.code) << status;
    EXPECT_THAT(status.message(), HasSubstr(row.words));
    EXPECT_THAT(status.message(), HasSubstr(server_.address()));
  }
}

TEST_F(QmpClientTest, AnAnswerThatComesTooLateIsNotTakenForAnothers) {
  const auto client = Connect(absl::Milliseconds(300));
  ASSERT_TRUE(client.ok()) << client.status();
  server_.Expect("query-migrate", "");
  const absl::Status late = (*client)->Execute("query-migrate", Json::object()).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(late)) << late;
  EXPECT_THAT(late.message(), HasSubstr("query-migrate: no answer within"));
  server_.Expect("query-status", R"({"return": {"status": "old"}, "id": $previous})"
                                 "\n"
                                 R"({"return": {"status": "new"}, "id": $id})");
  const auto answer = (*client)->Execute("query-status", Json::object());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ((*answer)["status"], "new");
}

TEST_F(QmpClientTest, WhatIsNoQmpEndsTheConnection) {
  for (const std::string& nonsense :
       {std::string("hello"), std::string("[1, 2]"), std::string("{\"event\": 3}"),
        std::string("{\"id\": $id}"), std::string(3 << 20, 'x')}) {
    FakeServer server;
    server.Say(kGreeting);
    server.Expect("qmp_capabilities", R"({"return": {}, "id": $id})");
    const auto client = QmpClient::Connect(*ParseQmpAddress(server.address()), kPatient);
    ASSERT_TRUE(client.ok()) << client.status();
    server.Expect("stop", nonsense);
    const absl::Status status = (*client)->Execute("stop", Json::object()).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_LT(status.message().size(), 400u);
    // And says so from then on.
    EXPECT_EQ((*client)->Execute("stop", Json::object()).status(), status);
    EXPECT_EQ((*client)->NextEvent(kShort).status(), status);
  }
}

TEST_F(QmpClientTest, EventsThatNobodyReadsAreLimited) {
  const auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.status();
  std::string flood;
  for (int i = 0; i < 2000; ++i) flood += "{\"event\": \"RTC_CHANGE\"}\n";
  server_.Expect("stop", flood + R"({"return": {}, "id": $id})");
  const absl::Status status = (*client)->Execute("stop", Json::object()).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("events"));
}

TEST_F(QmpClientTest, AMonitorThatGoesIsUnavailable) {
  const auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.status();
  server_.HangUpAfter("quit");
  const absl::Status status = (*client)->Execute("quit", Json::object()).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(absl::IsUnavailable((*client)->NextEvent(kShort).status()));
}

TEST_F(QmpClientTest, WhoDoesNotGreetIsNamed) {
  // As a monitor with another client: the connection waits in the queue.
  const auto silent = QmpClient::Connect(*ParseQmpAddress(server_.address()), kShort);
  EXPECT_TRUE(absl::IsDeadlineExceeded(silent.status())) << silent.status();
  EXPECT_THAT(silent.status().message(), HasSubstr("one client at a time"));

  FakeServer other;
  other.Say(R"({"hello": "there"})");
  const auto stranger = QmpClient::Connect(*ParseQmpAddress(other.address()), kPatient);
  EXPECT_TRUE(absl::IsDataLoss(stranger.status())) << stranger.status();
}

TEST(QmpClient, ANobodyIsUnavailable) {
  for (const char* nobody : {"unix:/nonexistent/monitor", "127.0.0.1:1"}) {
    const auto client = QmpClient::Connect(*ParseQmpAddress(nobody), kPatient);
    EXPECT_TRUE(absl::IsUnavailable(client.status())) << client.status();
    EXPECT_THAT(client.status().message(), HasSubstr(nobody));
  }
}

}  // namespace
}  // namespace tsc_handoff::qmp
