#include "server/observe/observations.h"

#include <algorithm>
#include <utility>

namespace tsc_handoff::observe {
namespace {

uint64_t CountOf(const WriteCounts& counts, pid_t pid) {
  const auto found = counts.find(pid);
  return found == counts.end() ? 0 : found->second;
}

}  // namespace

std::vector<SpreadChange> Observations::Tell(const Look& look) {
  std::vector<SpreadChange> changes;
  std::map<VmKey, Entry> entries;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [key, view] : look.view) {
    Entry& entry = entries[key];
    if (const auto before = entries_.find(key); before != entries_.end()) entry = before->second;
    // One that is being written is looked at again the next time.
    if (!view.steady && entry.seen.vcpus > 0) continue;
    if (view.steady && entry.steady.has_value() &&
        entry.writes == CountOf(look.writes_after, key.pid)) {
      for (const SpreadChange& change : CompareViews({{key, *entry.steady}}, {{key, view}})) {
        changes.push_back(change);
        ++entry.seen.changed_on_its_own;
      }
    }
    entry.seen.vcpus = view.vcpus.size();
    entry.seen.phase_spread_ticks = PhaseSpreadTicks(view);
    entry.seen.offsets_equal = IsInPhase(view);
    entry.seen.scaled = IsScaled(view);
    entry.seen.observed_at_ns = look.observed_at_ns;
    if (view.steady) {
      entry.steady = view;
      entry.writes = CountOf(look.writes_before, key.pid);
    }
  }
  entries_ = std::move(entries);
  return changes;
}

std::optional<Observation> Observations::Of(pid_t pid, int vm_fd) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (vm_fd >= 0) {
    const auto found = entries_.find({pid, vm_fd});
    if (found != entries_.end()) return found->second.seen;
  }
  const auto first = entries_.lower_bound({pid, 0});
  if (vm_fd >= 0 || first == entries_.end() || first->first.pid != pid) return std::nullopt;
  const auto second = std::next(first);
  if (second != entries_.end() && second->first.pid == pid) return std::nullopt;
  return first->second.seen;
}

Totals Observations::Sum() const {
  Totals totals;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [key, entry] : entries_) {
    ++totals.vms;
    if (!entry.seen.offsets_equal) ++totals.out_of_phase;
    totals.most_spread_ticks = std::max(totals.most_spread_ticks, entry.seen.phase_spread_ticks);
  }
  return totals;
}

}  // namespace tsc_handoff::observe
