// Packets: an input as the packets that one end of a connection sends, and a thread that plays that
// end.
//
// Threading: one thread, and the one it makes.
#ifndef TSC_HANDOFF_TESTS_FUZZ_PACKETS_H_
#define TSC_HANDOFF_TESTS_FUZZ_PACKETS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/base/unique_fd.h"

namespace tsc_handoff::fuzz {

struct Packet {
  std::string bytes;
  // How many descriptors go with it; each is one of an open file without meaning.
  uint8_t descriptors = 0;
};

// At most `most`, each with its length and its count of descriptors before it.
std::vector<Packet> ReadPackets(const uint8_t* data, size_t size, size_t most);
// What ReadPackets reads.
std::string WritePackets(const std::vector<Packet>& packets);

// Two ends of a connection that keeps packets apart.
struct Pair {
  Pair();
  UniqueFd mine;
  UniqueFd other;
};

// Never waits. False when the other end takes nothing.
bool Send(int socket, const Packet& packet);

// Waits until the other end has closed; reads what comes before.
void AwaitEnd(int socket);

}  // namespace tsc_handoff::fuzz

#endif  // TSC_HANDOFF_TESTS_FUZZ_PACKETS_H_
