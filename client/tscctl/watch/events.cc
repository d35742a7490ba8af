#include "client/tscctl/watch/events.h"

#include <algorithm>
#include <utility>

namespace tsc_handoff::tscctl {

namespace v1 = ::tschandoff::v1;

bool IsPending(v1::Handoff::State state) {
  switch (state) {
    case v1::Handoff::STATE_CAPTURED:
    case v1::Handoff::STATE_EMPTY:
    case v1::Handoff::STATE_APPLYING:
    case v1::Handoff::STATE_APPLIED:
      return true;
    default:
      return false;
  }
}

Event EventTracker::Make(Event::Kind kind, absl::Time now) const {
  Event event;
  event.kind = kind;
  event.at = now;
  event.agent = agent_;
  event.host = host_;
  return event;
}

std::vector<Event> EventTracker::OnPoll(const absl::StatusOr<AgentPoll>& poll, absl::Time now) {
  std::vector<Event> events;
  const bool first = !std::exchange(asked_, true);
  if (!poll.ok()) {
    if (first || answers_) {
      Event lost = Make(Event::Kind::kAgentLost, now);
      lost.error = poll.status();
      lost.initial = first;
      events.push_back(std::move(lost));
    }
    answers_ = false;
    return events;
  }
  host_ = poll->host.host_name();
  if (!std::exchange(answers_, true)) {
    Event found = Make(Event::Kind::kAgentFound, now);
    found.info = poll->host;
    found.initial = first;
    events.push_back(std::move(found));
  }
  AddClock(poll->host, first, now, &events);
  AddListed(*poll, now, &events);
  return events;
}

void EventTracker::AddListed(const AgentPoll& poll, absl::Time now, std::vector<Event>* events) {
  const bool first = !std::exchange(listed_, true);
  const int64_t since_ns = latest_change_ns_;
  std::vector<const v1::Handoff*> in_order;
  for (const v1::Handoff& handoff : poll.handoffs) in_order.push_back(&handoff);
  std::stable_sort(in_order.begin(), in_order.end(),
                   [](const v1::Handoff* a, const v1::Handoff* b) {
                     return a->changed_at_ns() < b->changed_at_ns();
                   });
  for (const v1::Handoff* handoff : in_order) {
    const Key key(handoff->handoff_id(), handoff->side());
    if (IsPending(handoff->state())) {
      AddPending(*handoff, first, now, events);
    } else if (first) {
      // It ended before anybody watched.
      latest_change_ns_ = std::max(latest_change_ns_, handoff->changed_at_ns());
      if (handoff->changed_at_ns() == latest_change_ns_) ended_last_.insert(key);
    } else if (handoff->changed_at_ns() >= since_ns || pending_.contains(key)) {
      AddHandoff(*handoff, /*initial=*/false, now, events);
    }
  }
}

void EventTracker::AddPending(const v1::Handoff& handoff, bool initial, absl::Time now,
                              std::vector<Event>* events) {
  const Key key(handoff.handoff_id(), handoff.side());
  // One that is known came by the stream, which is ahead of the questions.
  if (!pending_.contains(key)) AddHandoff(handoff, initial, now, events);
  const bool told_before = std::exchange(pending_[key].undecided_told, handoff.undecided());
  if (!handoff.undecided() || told_before) return;
  Event undecided = Make(Event::Kind::kUndecided, now);
  undecided.handoff = handoff;
  undecided.initial = initial;
  events->push_back(std::move(undecided));
}

void EventTracker::AddClock(const v1::HostInfo& host, bool initial, absl::Time now,
                            std::vector<Event>* events) {
  const bool same = clock_told_ && clock_.status() == host.clock().status() &&
                    clock_.trusted() == host.clock().trusted();
  clock_ = host.clock();
  clock_told_ = true;
  if (same) return;
  Event event = Make(Event::Kind::kClock, now);
  event.info = host;
  event.initial = initial;
  events->push_back(std::move(event));
}

std::vector<Event> EventTracker::OnHandoff(const v1::WatchHandoffsResponse& change,
                                           absl::Time now) {
  std::vector<Event> events;
  AddHandoff(change.handoff(), change.initial(), now, &events);
  return events;
}

void EventTracker::AddHandoff(const v1::Handoff& handoff, bool initial, absl::Time now,
                              std::vector<Event>* events) {
  const Key key(handoff.handoff_id(), handoff.side());
  const auto known = pending_.find(key);
  const bool is_known = known != pending_.end();
  const v1::Handoff before = is_known ? known->second.handoff : v1::Handoff();
  const bool same = is_known
                        ? before.state() == handoff.state() && before.vm_lost() == handoff.vm_lost()
                        : ended_last_.contains(key);
  if (handoff.changed_at_ns() > latest_change_ns_) {
    latest_change_ns_ = handoff.changed_at_ns();
    ended_last_.clear();
  }
  if (IsPending(handoff.state())) {
    pending_[key].handoff = handoff;
  } else {
    pending_.erase(key);
    if (handoff.changed_at_ns() == latest_change_ns_) ended_last_.insert(key);
  }
  if (same) return;
  Event event = Make(Event::Kind::kHandoff, now);
  event.handoff = handoff;
  event.before = before.state();
  event.initial = initial;
  events->push_back(std::move(event));
}

}  // namespace tsc_handoff::tscctl
