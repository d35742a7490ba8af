#include "server/tls/testing/test_directory.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

namespace tsc_handoff::tls {

namespace fs = std::filesystem;

TestDirectory::TestDirectory() {
  char path[] = "/tmp/tsc-tls.XXXXXX";
  if (mkdtemp(path) == nullptr) std::abort();
  path_ = path;
}

TestDirectory::~TestDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

TlsFiles TestDirectory::files() const {
  return {path_ + "/ca.crt", path_ + "/tls.crt", path_ + "/tls.key"};
}

void TestDirectory::Put(const std::string& name, const std::string& text) const {
  const std::string target = path_ + "/" + name;
  const std::string made = path_ + "/.new";
  std::ofstream(made, std::ios::trunc) << text;
  chmod(made.c_str(), 0600);
  fs::rename(made, target);
}

void TestDirectory::Put(const PemTexts& texts) const {
  Put("ca.crt", texts.ca);
  Put("tls.crt", texts.cert);
  Put("tls.key", texts.key);
}

void TestDirectory::PutAsSecret(const PemTexts& texts) {
  const std::string version = "..version" + std::to_string(++secrets_);
  fs::create_directory(path_ + "/" + version);
  Put(version + "/ca.crt", texts.ca);
  Put(version + "/tls.crt", texts.cert);
  Put(version + "/tls.key", texts.key);
  fs::create_symlink(version, path_ + "/..data_tmp");
  fs::rename(path_ + "/..data_tmp", path_ + "/..data");
  for (const char* name : {"ca.crt", "tls.crt", "tls.key"}) {
    const fs::path link = path_ + "/" + name;
    if (!fs::is_symlink(link)) fs::create_symlink(std::string("..data/") + name, link);
  }
}

}  // namespace tsc_handoff::tls
