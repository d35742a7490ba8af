// Where the stub can stand in a process: executable memory that nothing uses. What follows the code
// up to the end of its last page is such a place, filled with zeros; that of the vDSO, which every
// process has, is taken first. Only the process's private copy of the page is written, as for a
// debugger's breakpoint, and the zeros are put back.
//
// Pure functions.
#ifndef TSC_HANDOFF_SERVER_ATTACH_STUB_PLACE_H_
#define TSC_HANDOFF_SERVER_ATTACH_STUB_PLACE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "server/attach/proc_text.h"

namespace tsc_handoff::attach {

// Reads `bytes` bytes at an address; false when it cannot.
using MemoryReader = std::function<bool(uint64_t address, unsigned char* to, size_t bytes)>;

// An address for `bytes` bytes, a multiple of 16; nullopt when there is no place.
std::optional<uint64_t> FindStubPlace(const std::vector<Mapping>& mappings, size_t bytes,
                                      const MemoryReader& read);

}  // namespace tsc_handoff::attach

#endif  // TSC_HANDOFF_SERVER_ATTACH_STUB_PLACE_H_
