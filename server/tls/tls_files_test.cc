#include "server/tls/tls_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/tls/testing/test_directory.h"

namespace tsc_handoff::tls {
namespace {

using testing::HasSubstr;

TEST(CheckCompleteTest, AllThreeOrNone) {
  EXPECT_TRUE(CheckComplete({}).ok());
  EXPECT_TRUE(CheckComplete({"ca", "cert", "key"}).ok());
  const absl::Status status = CheckComplete({"", "cert", ""});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("missing: --tls-key, --tls-ca"));
}

TEST(ReadTlsFilesTest, GivesWhatIsInThem) {
  const TestDirectory directory;
  directory.Put({"c", "d", "e"});
  const auto texts = ReadTlsFiles(directory.files());
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_EQ(*texts, (PemTexts{"c", "d", "e"}));
}

struct BadFile {
  const char* name;
  void (*damage)(const TestDirectory& directory);
  const char* file;
  const char* text;
};

TEST(ReadTlsFilesTest, NamesTheFileAndWhatIsWrongWithIt) {
  const BadFile cases[] = {
      {"missing", [](const TestDirectory& directory) { unlink(directory.files().cert.c_str()); },
       "/tls.crt: ", "No such file"},
      {"empty", [](const TestDirectory& directory) { directory.Put("ca.crt", ""); },
       "/ca.crt: ", "is empty"},
      {"too large",
       [](const TestDirectory& directory) {
         directory.Put("tls.crt", std::string(1024 * 1024 + 1, 'x'));
       },
       "/tls.crt: ", "larger than 1 MiB"},
      {"a directory",
       [](const TestDirectory& directory) {
         unlink(directory.files().ca.c_str());
         mkdir(directory.files().ca.c_str(), 0700);
       },
       "/ca.crt: ", "is not a file"},
      {"a FIFO, which must not be waited for",
       [](const TestDirectory& directory) {
         unlink(directory.files().ca.c_str());
         mkfifo(directory.files().ca.c_str(), 0600);
       },
       "/ca.crt: ", "is not a file"},
      {"a key for everybody",
       [](const TestDirectory& directory) { chmod(directory.files().key.c_str(), 0644); },
       "/tls.key: ", "every user may read"},
  };
  for (const BadFile& bad : cases) {
    SCOPED_TRACE(bad.name);
    const TestDirectory directory;
    directory.Put({"c", "d", "e"});
    bad.damage(directory);
    const absl::Status status = ReadTlsFiles(directory.files()).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.file));
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.text));
  }
}

}  // namespace
}  // namespace tsc_handoff::tls
