#include "server/tls/certificate_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <vector>

#include "server/tls/testing/test_authority.h"
#include "server/tls/testing/test_directory.h"

namespace tsc_handoff::tls {
namespace {

using testing::HasSubstr;

class CertificateStoreTest : public testing::Test {
 protected:
  CertificateStoreTest() {
    directory_.Put(authority_.Texts());
    EXPECT_TRUE(store_.Load().ok());
  }

  const TestAuthority authority_{"authority"};
  TestDirectory directory_;
  int64_t now_s_ = RealNowS();
  std::vector<CertificateStore::Reloaded> said_;
  CertificateStore store_{
      directory_.files(), [this] { return now_s_; },
      [this](const CertificateStore::Reloaded& what) { said_.push_back(what); }};
};

TEST_F(CertificateStoreTest, FilesThatAreTheSameAreNoNews) {
  const auto before = store_.current();
  EXPECT_FALSE(store_.Reload());
  EXPECT_EQ(store_.current(), before);
  EXPECT_TRUE(said_.empty());
}

TEST_F(CertificateStoreTest, GoodOnesComeIntoUseAsAWhole) {
  const TestAuthority next("next");
  const PemTexts texts = next.Texts();
  directory_.Put(texts);
  EXPECT_TRUE(store_.Reload());
  EXPECT_EQ(store_.current()->pem, texts);
  ASSERT_EQ(said_.size(), 1u);
  EXPECT_EQ(said_[0].problem, Problem::kNone);
  EXPECT_EQ(said_[0].current, store_.current());
}

TEST_F(CertificateStoreTest, BadOnesChangeNothingAndAreNamedOnce) {
  const auto before = store_.current();
  directory_.Put("tls.key", authority_.Issue().key);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(store_.Reload());
  EXPECT_EQ(store_.current(), before);
  ASSERT_EQ(said_.size(), 1u);
  EXPECT_EQ(said_[0].problem, Problem::kKeyMismatch);
  EXPECT_THAT(said_[0].why, HasSubstr("/tls.key is not the key"));
  EXPECT_EQ(said_[0].current, before);

  unlink(directory_.files().cert.c_str());
  EXPECT_FALSE(store_.Reload());
  ASSERT_EQ(said_.size(), 2u) << "another fault";
  EXPECT_EQ(said_[1].problem, Problem::kUnreadable);

  directory_.Put(before->pem);
  EXPECT_FALSE(store_.Reload()) << "they are in use already";
  directory_.Put("tls.key", authority_.Issue().key);
  EXPECT_FALSE(store_.Reload());
  EXPECT_EQ(said_.size(), 3u) << "the first fault, but anew";
}

TEST_F(CertificateStoreTest, WhatIsNotValidYetComesIntoUseLater) {
  CertificateWish wish;
  wish.not_before_s = now_s_ + 100;
  directory_.Put(authority_.Texts(wish));
  EXPECT_FALSE(store_.Reload());
  ASSERT_EQ(said_.size(), 1u);
  EXPECT_EQ(said_[0].problem, Problem::kNotYetValid);
  now_s_ += 100;
  EXPECT_TRUE(store_.Reload());
}

TEST_F(CertificateStoreTest, WhatExpiresInUseStaysInUse) {
  const auto before = store_.current();
  now_s_ += 7200;
  EXPECT_FALSE(store_.Reload());
  EXPECT_EQ(store_.current(), before);
  EXPECT_TRUE(said_.empty());
}

TEST_F(CertificateStoreTest, BadOnesAtTheStartAreAnError) {
  directory_.Put("tls.key", authority_.Issue().key);
  CertificateStore store(directory_.files(), RealNowS, [](const CertificateStore::Reloaded&) {});
  const absl::Status status = store.Load();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/tls.key is not the key"));
}

}  // namespace
}  // namespace tsc_handoff::tls
