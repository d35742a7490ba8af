#include "client/tscctl/top/handoff_book.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "client/tscctl/watch/events.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

constexpr auto kKept = std::chrono::seconds(60);
// Of those that ended; an evacuation of a large host would push everything else off the screen.
constexpr size_t kMostKept = 100;

}  // namespace

void HandoffBook::Note(const v1::Handoff& handoff, SteadyTime now) {
  entries_[{handoff.handoff_id(), handoff.side()}] = {handoff, now};
}

void HandoffBook::NotePending(const std::vector<v1::Handoff>& pending, SteadyTime asked,
                              SteadyTime now) {
  std::set<Key> listed;
  for (const v1::Handoff& handoff : pending) {
    const Key key(handoff.handoff_id(), handoff.side());
    listed.insert(key);
    const auto known = entries_.find(key);
    if (known == entries_.end()) {
      entries_[key] = {handoff, now};
    } else if (known->second.heard < asked) {
      known->second.handoff = handoff;
    }
    // Otherwise it changed while the question was under way, and the list may be older.
  }
  std::erase_if(entries_, [&](const auto& entry) {
    return IsPending(entry.second.handoff.state()) && entry.second.heard < asked &&
           !listed.contains(entry.first);
  });
}

std::vector<v1::Handoff> HandoffBook::Show(SteadyTime now) {
  std::erase_if(entries_, [&](const auto& entry) {
    return !IsPending(entry.second.handoff.state()) && now - entry.second.heard > kKept;
  });
  std::vector<const Entry*> shown;
  for (const auto& [key, entry] : entries_) shown.push_back(&entry);
  std::stable_sort(shown.begin(), shown.end(), [](const Entry* a, const Entry* b) {
    return a->handoff.begun_at_ns() > b->handoff.begun_at_ns();
  });
  std::vector<v1::Handoff> handoffs;
  size_t ended = 0;
  for (const Entry* entry : shown) {
    if (!IsPending(entry->handoff.state()) && ++ended > kMostKept) continue;
    handoffs.push_back(entry->handoff);
  }
  return handoffs;
}

}  // namespace tsc_handoff::tscctl
