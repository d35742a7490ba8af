#include "client/qmp/qmp_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tsc_handoff::qmp {
namespace {

using ::testing::HasSubstr;

TEST(QmpAddress, UnixPathsAndLoopbackAreTaken) {
  const auto unix_address = ParseQmpAddress("unix:/run/vm.qmp");
  ASSERT_TRUE(unix_address.ok()) << unix_address.status();
  EXPECT_EQ(unix_address->unix_path, "/run/vm.qmp");
  struct Row {
    const char* text;
    const char* host;
    bool ipv6;
    uint16_t port;
  };
  for (const Row& row :
       {Row{"127.0.0.1:4444", "127.0.0.1", false, 4444}, Row{"127.9.9.9:1", "127.9.9.9", false, 1},
        Row{"localhost:65535", "127.0.0.1", false, 65535}, Row{"[::1]:4444", "::1", true, 4444}}) {
    const auto address = ParseQmpAddress(row.text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->text, row.text);
    EXPECT_EQ(address->unix_path, "");
    EXPECT_EQ(address->host, row.host);
    EXPECT_EQ(address->ipv6, row.ipv6);
    EXPECT_EQ(address->port, row.port);
  }
}

TEST(QmpAddress, WhatCannotBeRightIsRefusedWithTheReason) {
  struct Row {
    std::string text;
    const char* why;
  };
  for (const Row& row :
       {Row{"", "write unix:"}, Row{"/run/vm.qmp", "write unix:"}, Row{"unix:", "path is empty"},
        Row{"unix:/" + std::string(200, 'x'), "at most 107"}, Row{"127.0.0.1:", "port must be"},
        Row{"127.0.0.1:0", "port must be"}, Row{"127.0.0.1:65536", "port must be"},
        Row{"127.0.0.1:4444x", "port must be"}, Row{"10.0.0.1:4444", "no authentication"},
        Row{"host1:4444", "no authentication"}, Row{":4444", "no authentication"},
        Row{"0.0.0.0:4444", "no authentication"}, Row{"[::]:4444", "no authentication"},
        Row{"::1:4444", "no authentication"}}) {
    const auto address = ParseQmpAddress(row.text);
    ASSERT_FALSE(address.ok()) << row.text;
    EXPECT_TRUE(absl::IsInvalidArgument(address.status()));
    EXPECT_THAT(address.status().message(), HasSubstr(row.why)) << row.text;
  }
}

}  // namespace
}  // namespace tsc_handoff::qmp
