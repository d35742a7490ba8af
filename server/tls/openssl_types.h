// Owning pointers to OpenSSL's objects.
//
// Threading: as the objects.
#ifndef TSC_HANDOFF_SERVER_TLS_OPENSSL_TYPES_H_
#define TSC_HANDOFF_SERVER_TLS_OPENSSL_TYPES_H_

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <memory>
#include <vector>

namespace tsc_handoff::tls {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};

using BioPtr = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, Freed<X509_free>>;
using StorePtr = std::unique_ptr<X509_STORE, Freed<X509_STORE_free>>;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, Freed<X509_STORE_CTX_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, Freed<GENERAL_NAMES_free>>;

// Of the stack only: what lies on it is somebody else's. A macro frees it.
struct StackFreed {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }
};
using StackPtr = std::unique_ptr<STACK_OF(X509), StackFreed>;

using Chain = std::vector<CertificatePtr>;

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_OPENSSL_TYPES_H_
