// HandoffBook: the handoffs of one agent that are worth showing, put together from what it lists as
// pending and from what it says of each change. What has ended stays for a while, since most
// handoffs are over before a person could read them.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_HANDOFF_BOOK_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_HANDOFF_BOOK_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "client/tscctl/watch/steady.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::tscctl {

class HandoffBook {
 public:
  // A change, heard now.
  void Note(const tschandoff::v1::Handoff& handoff, SteadyTime now);
  // All that are pending, asked for at `asked`.
  void NotePending(const std::vector<tschandoff::v1::Handoff>& pending, SteadyTime asked,
                   SteadyTime now);
  // Those pending, and those that ended lately: the last begun first.
  std::vector<tschandoff::v1::Handoff> Show(SteadyTime now);

 private:
  using Key = std::pair<std::string, tschandoff::v1::Handoff::Side>;
  struct Entry {
    tschandoff::v1::Handoff handoff;
    // When the last change of it was heard of.
    SteadyTime heard;
  };

  std::map<Key, Entry> entries_;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_HANDOFF_BOOK_H_
