// How the agent's TCP addresses are secured.
//
// Threading: plain values.
#ifndef TSC_HANDOFF_SERVER_AGENT_TRANSPORT_OPTIONS_H_
#define TSC_HANDOFF_SERVER_AGENT_TRANSPORT_OPTIONS_H_

#include <string>

#include "server/tls/tls_files.h"

namespace tsc_handoff::agent {

struct TransportOptions {
  // Mutual TLS on every TCP address, and towards other agents. Empty: none.
  tls::TlsFiles tls;
  // Else TLS 1.3 is demanded, of the whole process.
  bool permit_tls_1_2 = false;
  // What other agents' certificates are called; empty: as the host that is called.
  std::string peer_name;
  // Without TLS: serve TCP, on loopback only. Excludes `tls`.
  bool insecure_tcp = false;
};

}  // namespace tsc_handoff::agent

#endif  // TSC_HANDOFF_SERVER_AGENT_TRANSPORT_OPTIONS_H_
