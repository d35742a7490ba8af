#include "server/auth/http2_preface.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <string>

#include "server/base/unique_fd.h"

namespace tsc_handoff::auth {
namespace {

TEST(Judge, EveryPrefixMayBecomeHttp2AndEveryWrongByteIsSomethingElse) {
  const std::string preface(kHttp2Preface);
  EXPECT_EQ(Judge(preface), Beginning::kHttp2);
  EXPECT_EQ(Judge(preface + "and frames"), Beginning::kHttp2);
  for (size_t size = 0; size < preface.size(); ++size) {
    EXPECT_EQ(Judge(preface.substr(0, size)), Beginning::kNotYet) << size;
    std::string wrong = preface;
    wrong[size] = static_cast<char>(wrong[size] ^ 1);
    EXPECT_EQ(Judge(wrong), Beginning::kNotHttp2) << size;
  }
}

TEST(Peek, TakesNothingAndSeesTheEnd) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd client(ends[0]);
  const UniqueFd server(ends[1]);
  EXPECT_EQ(Peek(server.get()), Beginning::kNotYet);
  const std::string preface(kHttp2Preface);
  ASSERT_EQ(send(client.get(), preface.data(), 3, 0), 3);
  EXPECT_EQ(Peek(server.get()), Beginning::kNotYet);
  ASSERT_EQ(send(client.get(), preface.data() + 3, preface.size() - 3, 0),
            static_cast<ssize_t>(preface.size() - 3));
  EXPECT_EQ(Peek(server.get()), Beginning::kHttp2);
  char bytes[64];
  EXPECT_EQ(recv(server.get(), bytes, sizeof(bytes), 0), static_cast<ssize_t>(preface.size()));
  client = UniqueFd();
  EXPECT_EQ(Peek(server.get()), Beginning::kEnded);
}

}  // namespace
}  // namespace tsc_handoff::auth
