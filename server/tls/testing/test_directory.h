// TestDirectory: a directory for the three files of TLS, removed at the end.
//
// Threading: not thread-safe.
#ifndef TSC_HANDOFF_SERVER_TLS_TESTING_TEST_DIRECTORY_H_
#define TSC_HANDOFF_SERVER_TLS_TESTING_TEST_DIRECTORY_H_

#include <string>

#include "server/tls/tls_files.h"

namespace tsc_handoff::tls {

class TestDirectory {
 public:
  TestDirectory();
  ~TestDirectory();
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;

  const std::string& path() const { return path_; }
  // ca.crt, tls.crt and tls.key in it.
  TlsFiles files() const;

  // Puts a file in place by a rename, so that nobody finds half of it; mode 0600.
  void Put(const std::string& name, const std::string& text) const;
  // All three, one after the other.
  void Put(const PemTexts& texts) const;
  // As Kubernetes mounts a secret: the names are links through ..data, which is swapped as a whole.
  void PutAsSecret(const PemTexts& texts);

 private:
  std::string path_;
  int secrets_ = 0;
};

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_TESTING_TEST_DIRECTORY_H_
