// Patterns of a policy: '*' stands for any characters, '?' for one, [...] for one of some.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_SERVER_AUTH_PATTERN_H_
#define TSC_HANDOFF_SERVER_AUTH_PATTERN_H_

#include <string>

namespace tsc_handoff::auth {

// What is wrong with a pattern of VM ids, or of names in certificates ("spiffe://DOMAIN/PATH",
// another URI, or "dns:NAME"): a sentence; empty when nothing is.
std::string FaultOfVmPattern(const std::string& pattern);
std::string FaultOfCertificatePattern(const std::string& pattern);

// A name that holds a NUL matches nothing.
bool MatchesVm(const std::string& pattern, const std::string& vm_id);
// A '*' stands for one step of the path at most. A "dns:" pattern matches no URI.
bool MatchesUri(const std::string& pattern, const std::string& uri);
// A '*' stands for one label at most, and case does not count. Only "dns:" patterns match.
bool MatchesDns(const std::string& pattern, const std::string& dns);

}  // namespace tsc_handoff::auth

#endif  // TSC_HANDOFF_SERVER_AUTH_PATTERN_H_
