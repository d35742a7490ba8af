/*
 * The handoff's protocol, for spin: two agents A and B, the VMMs on their hosts, orchestrators, and a network that loses,
 * repeats, delays and reorders. test_protocol.py says which checks are made of it, and plants the mistakes.
 *
 * Scope. SCOPE_ONE: one handoff, A to B, and two orchestrators that both work on it. SCOPE_BACK: after it a second handoff of
 * the same VM from B to A; SCOPE_AGAIN: a second one from A to B, at once or after the first was aborted. In both each handoff
 * has an orchestrator of its own.
 * SCOPE_RECLAIM: one handoff, after which the VM comes back without one, and an operator has B disown it and A reclaim it.
 *
 * What is kept.
 * - An agent's journal: the two sides' states, the VM's standing and highest epoch, what the destination would undo, and to
 *   which VMM it applied. A write of the journal is one step: it is on the disk, all of it, or it never happened.
 * - An agent's memory: the operation that it is in. Capture is two steps (the VMM is read and gives up its permit; the journal
 *   is written), apply is three (intent, write, result). A crash between any two of them loses the memory and nothing else;
 *   all other calls have a single effect, the write of the journal, so a crash there is a lost request or a lost answer.
 * - A VMM: its instance, whether it awaits a handoff, whether it holds a permit, and whose TSCs the VM has. The destination's
 *   VMM may die and be replaced while its VM has not arrived, at most MAX_LOST times.
 * - The permit is told at any time, so also at once, late, or by an agent that was just started.
 * - The network: a request that was ever sent may come at any later time, any number of times, or never. That is a set that
 *   only grows, and covers loss, repetition, delay and reordering without bounds. An answer reaches the call that waits for
 *   it, or is lost. Moreover anybody may say "commit" or "abort" to the destination with a wrong proof at any time: an
 *   orchestrator with a bug.
 * - An orchestrator: what it has heard of both sides, which may be old when it acts. It starts with GetHandoff, as every
 *   orchestrator that resumes does, and at each turn while the source is CAPTURED it may go on, release early, or abort. It
 *   may crash at any time: it then knows nothing, and goes on as its own replacement.
 *
 * What is left out. Time, and TSC values: a VM has "the TSCs of handoff h" or what it had before. Proofs are not numbers: the
 * only way to have one is to have heard the source's answer. Requests with other content under the same id. The source's VMM
 * dying: then there is no VM to hand off.
 */

#if defined(SCOPE_BACK) || defined(SCOPE_AGAIN)
#define HANDOFFS 2
#else
#define HANDOFFS 1
#endif
#ifndef MAX_LOST
#define MAX_LOST 2
#endif

#define A 0
#define B 1
#ifdef SCOPE_BACK
#define SRC(h) (h)
#else
#define SRC(h) 0
#endif
#define DST(h) (1 - SRC(h))

/* States of a side. NONE is no record. */
#define NONE 0
#define CAPTURED 1
#define RELEASED 2
#define ABORTED 3
#define EMPTY 4
#define APPLYING 5
#define APPLIED 6
#define ACTIVE 7

/* Standings of a VM. */
#define UNKNOWN 0
#define OWNED 1
#define AWAY 2
#define AWAITED 3 /* is to arrive, and has not */
#define DISOWNED 4

/* What an agent is doing: memory only. */
#define IDLE 0
#define CAPTURING 1 /* read, permit taken, nothing in the journal */
#define INTENT 2    /* APPLYING is in the journal, nothing written */
#define WRITTEN 3   /* the VM has the new TSCs, APPLIED is not in the journal */

/* The journals. */
byte src[HANDOFFS];
byte dst[HANDOFFS];
byte epoch[HANDOFFS];    /* of the source's record, and in the ticket */
byte applied_to[HANDOFFS];  /* the VMM's instance */
byte undo[HANDOFFS];     /* whose TSCs the VM had before */
bool restored[HANDOFFS]; /* destination, ABORTED: nothing is left to undo */
byte highest[2];
byte standing[2];
byte owner[2]; /* OWNED: to which instance the state was applied */

/* The agents' memory. */
byte doing[2];
byte doing_h[2];

/* The VMMs. */
byte vmm[2];    /* instance */
bool awaits[2]; /* it said that it awaits a handoff */
bool permit[2];
byte tscs[2]; /* 0: its own; h + 1: those of handoff h */
byte lost;

/* Requests that were ever sent. */
bool sent_capture[HANDOFFS];
bool sent_apply[HANDOFFS];
bool sent_commit_src[HANDOFFS];
bool sent_abort_src[HANDOFFS];
bool sent_commit_dst[HANDOFFS]; /* with the proof */
bool sent_abort_dst[HANDOFFS];  /* with the proof */
/* Proofs that left the source. */
bool release_told[HANDOFFS];
bool abort_told[HANDOFFS];

bool reclaimed;

/* From here on nothing is lost and nobody crashes. */
bool calm;

#define IN(a, h)                           \
  ((SRC(h) == (a) && src[h] == CAPTURED) || \
   (DST(h) == (a) && (dst[h] == APPLYING || dst[h] == APPLIED)))
#define LEAVES(a, h) (SRC(h) == (a) && src[h] == CAPTURED)
#if HANDOFFS == 2
#define LEAVING(a) (LEAVES(a, 0) || LEAVES(a, 1))
#define OCCUPIED(a) (IN(a, 0) || IN(a, 1))
#define OCCUPIED_BY_OTHER(a, h) (IN(a, 1 - (h)))
#ifdef MISTAKE_APPLIES_OVER_WHAT_IS_NOT_RESTORED
#define TO_BE_RESTORED_FIRST(h) false
#else
#define TO_BE_RESTORED_FIRST(h) (DST(1 - (h)) == DST(h) && dst[1 - (h)] == ABORTED && !restored[1 - (h)])
#endif
#else
#define LEAVING(a) LEAVES(a, 0)
#define OCCUPIED(a) IN(a, 0)
#define OCCUPIED_BY_OTHER(a, h) false
#define TO_BE_RESTORED_FIRST(h) false
#endif

/* permit_rule.h */
#define MAY_RUN(a)                                          \
  (!OCCUPIED(a) && ((standing[a] == UNKNOWN && !awaits[a]) || \
                    (standing[a] == OWNED && (!awaits[a] || vmm[a] == owner[a]))))

#ifdef MISTAKE_ACCEPTS_LOWER_EPOCH
#define EPOCH_OK(h) true
#else
#define EPOCH_OK(h) \
  (epoch[h] > highest[DST(h)] || (dst[h] == EMPTY && epoch[h] == highest[DST(h)]))
#endif
#ifdef MISTAKE_COMMITS_ANOTHER_VMM
#define SAME_VMM(h) true
#else
#define SAME_VMM(h) (vmm[DST(h)] == applied_to[h])
#endif

/* ---- what the agents do with a request ---- */

inline begin_capture(h) {
  if
  :: src[h] == NONE && doing[SRC(h)] == IDLE && MAY_RUN(SRC(h)) ->
#ifndef MISTAKE_KEEPS_PERMIT_AT_CAPTURE
    permit[SRC(h)] = false;
#endif
    doing[SRC(h)] = CAPTURING;
    doing_h[SRC(h)] = h
  :: else
  fi
}

inline begin_apply(h) {
  if
  :: (dst[h] == NONE || dst[h] == EMPTY) && doing[DST(h)] == IDLE && EPOCH_OK(h) &&
         !OCCUPIED_BY_OTHER(DST(h), h) && !TO_BE_RESTORED_FIRST(h) && standing[DST(h)] != OWNED ->
    dst[h] = APPLYING;
    standing[DST(h)] = AWAITED;
    applied_to[h] = vmm[DST(h)];
    undo[h] = tscs[DST(h)];
    restored[h] = false;
    if
    :: epoch[h] > highest[DST(h)] -> highest[DST(h)] = epoch[h]
    :: else
    fi;
    doing[DST(h)] = INTENT;
    doing_h[DST(h)] = h
  :: else
  fi
}

inline commit_src(h) {
  if
  :: src[h] == CAPTURED && doing[SRC(h)] == IDLE ->
#ifndef MISTAKE_RELEASES_IN_MEMORY_ONLY
    src[h] = RELEASED;
    standing[SRC(h)] = AWAY;
#endif
    release_told[h] = true
#ifdef MISTAKE_DECIDES_TWICE
  :: src[h] == ABORTED ->
    src[h] = RELEASED;
    standing[SRC(h)] = AWAY;
    release_told[h] = true
#endif
  :: else
  fi
}

inline abort_src(h) {
  if
  :: src[h] == CAPTURED && doing[SRC(h)] == IDLE ->
    src[h] = ABORTED;
    abort_told[h] = true
  :: else
  fi
}

inline commit_dst(h, proven) {
  if
  :: proven && dst[h] == APPLIED && doing[DST(h)] == IDLE && SAME_VMM(h) ->
    dst[h] = ACTIVE;
    standing[DST(h)] = OWNED;
    owner[DST(h)] = vmm[DST(h)]
  :: else
  fi
}

/* An APPLYING that a crash left behind counts as APPLIED: aborting it undoes it. */
inline abort_dst(h, proven) {
  if
  :: proven && doing[DST(h)] == IDLE && (dst[h] == NONE || dst[h] == EMPTY) ->
    dst[h] = ABORTED;
    restored[h] = true
  :: proven && doing[DST(h)] == IDLE && (dst[h] == APPLYING || dst[h] == APPLIED) ->
    dst[h] = ABORTED;
    restored[h] = false
  :: else
  fi
}

#ifdef MISTAKE_COMMITS_WITHOUT_PROOF
#define WRONG_RELEASE_PROOF true
#else
#define WRONG_RELEASE_PROOF false
#endif
#ifdef MISTAKE_ABORTS_WITHOUT_PROOF
#define WRONG_ABORT_PROOF true
#else
#define WRONG_ABORT_PROOF false
#endif

/* ---- an agent, with the VMM of its host ---- */

/* What is left of the destination's side of h after crashes and with VMMs that come and go. */
inline settle(h) {
  if
  :: dst[h] == APPLYING && vmm[a] == applied_to[h] && tscs[a] == h + 1 ->
#ifdef MISTAKE_TAKES_INTENT_FOR_DEED
    dst[h] = APPLIED
#elif defined(MISTAKE_FORGETS_TO_UNDO)
    dst[h] = EMPTY
#else
    tscs[a] = undo[h]
#endif
  :: dst[h] == APPLYING && (vmm[a] != applied_to[h] || tscs[a] != h + 1) ->
#ifdef MISTAKE_TAKES_INTENT_FOR_DEED
    dst[h] = APPLIED
#else
    dst[h] = EMPTY
#endif
  :: dst[h] == APPLIED && vmm[a] != applied_to[h] -> dst[h] = EMPTY
  :: dst[h] == ABORTED && !restored[h] && vmm[a] == applied_to[h] && tscs[a] == h + 1 ->
    tscs[a] = undo[h]
  :: dst[h] == ABORTED && !restored[h] && (vmm[a] != applied_to[h] || tscs[a] != h + 1) ->
    restored[h] = true
  fi
}

#ifdef MISTAKE_LEAVES_APPLYING_AFTER_A_CRASH
#define UNSETTLED(h) (DST(h) == a && dst[h] == APPLIED && vmm[a] != applied_to[h])
#else
#define UNSETTLED(h)                                            \
  (DST(h) == a && (dst[h] == APPLYING || (dst[h] == ABORTED && !restored[h]) || \
                   (dst[h] == APPLIED && vmm[a] != applied_to[h])))
#endif

/* Both ends are final: the record is old enough to be dropped. The highest epoch stays. */
#define OLD(h) (DST(h) == a && (dst[h] == ACTIVE || (dst[h] == ABORTED && restored[h])) && src[h] != CAPTURED)

proctype Agent(byte a) {
  do
  :: d_step { doing[a] == IDLE && permit[a] != MAY_RUN(a) -> permit[a] = MAY_RUN(a) }

  :: d_step { doing[a] == CAPTURING ->
      src[doing_h[a]] = CAPTURED;
      highest[a]++;
      epoch[doing_h[a]] = highest[a];
      doing[a] = IDLE }
  :: d_step { doing[a] == CAPTURING && !calm -> doing[a] = IDLE } /* cancelled, or a crash */

  :: d_step { doing[a] == INTENT && vmm[a] == applied_to[doing_h[a]] ->
      tscs[a] = doing_h[a] + 1;
      permit[a] = false;
      doing[a] = WRITTEN }
  :: d_step { doing[a] == INTENT && vmm[a] != applied_to[doing_h[a]] -> doing[a] = IDLE } /* its VMM is gone */
  :: d_step { doing[a] == INTENT && !calm -> dst[doing_h[a]] = EMPTY; doing[a] = IDLE } /* refused */
  :: d_step { doing[a] == WRITTEN -> dst[doing_h[a]] = APPLIED; doing[a] = IDLE }
  :: d_step { (doing[a] == INTENT || doing[a] == WRITTEN) && !calm -> doing[a] = IDLE } /* a crash */

  :: atomic { doing[a] == IDLE && UNSETTLED(0) -> settle(0) }
#if HANDOFFS == 2
  :: atomic { doing[a] == IDLE && UNSETTLED(1) -> settle(1) }
  :: d_step { doing[a] == IDLE && OLD(0) && src[0] != NONE -> dst[0] = NONE; restored[0] = false }
#endif

  /* The VMM of a VM that is not here dies, and another one awaits the VM. */
  :: d_step { !calm && lost < MAX_LOST && !MAY_RUN(a) && !permit[a] && !LEAVING(a) && doing[a] != CAPTURING ->
      lost++;
      vmm[a]++;
      awaits[a] = true;
      tscs[a] = 0 }
  od
}

/* ---- the network: what was sent once, late or again ---- */

proctype Network() {
  byte h;
  do
  :: atomic { sent_capture[h] && src[h] == NONE && doing[SRC(h)] == IDLE -> begin_capture(h) }
  :: atomic { sent_apply[h] && (dst[h] == NONE || dst[h] == EMPTY) -> begin_apply(h) }
  :: atomic { sent_commit_src[h] -> commit_src(h) }
  :: atomic { sent_abort_src[h] && src[h] == CAPTURED -> abort_src(h) }
  :: atomic { sent_commit_dst[h] && dst[h] == APPLIED -> commit_dst(h, true) }
  :: atomic { sent_abort_dst[h] && dst[h] != ABORTED -> abort_dst(h, true) }
  :: atomic { WRONG_RELEASE_PROOF && dst[h] == APPLIED -> commit_dst(h, WRONG_RELEASE_PROOF) }
  :: atomic { WRONG_ABORT_PROOF && dst[h] != ABORTED -> abort_dst(h, WRONG_ABORT_PROOF) }
#if HANDOFFS == 2
  :: h = 1 - h
#endif
  od
}

/* ---- an orchestrator ---- */

#define HEARD_NOTHING 8

/* The call reaches its agent and is answered; or one of the two is lost, of which the caller learns nothing. Either way the
   request may come again. */
#define REACHES true
#define OR_IS_LOST (!calm)

proctype Orchestrator(byte h) {
  byte heard_src = HEARD_NOTHING;
  byte heard_dst = HEARD_NOTHING;
  do
  :: atomic { !calm && (heard_src != HEARD_NOTHING || heard_dst != HEARD_NOTHING) ->
      heard_src = HEARD_NOTHING;
      heard_dst = HEARD_NOTHING } /* a crash, and another one in its place */

  :: atomic { heard_src == HEARD_NOTHING -> heard_src = src[h] }
  :: atomic { heard_src != HEARD_NOTHING && heard_src != NONE && heard_dst == HEARD_NOTHING -> heard_dst = dst[h] }

  /* It begins, or finds that there is nothing to resume. */
  :: atomic { heard_src == NONE ->
      sent_capture[h] = true;
      heard_src = HEARD_NOTHING;
      if
      :: REACHES -> begin_capture(h)
      :: OR_IS_LOST
      fi }

  /* The source is CAPTURED, as far as this one knows: the state is at hand, and it may go on, release early, or abort. */
  :: atomic { heard_src == CAPTURED && heard_dst != HEARD_NOTHING && heard_dst != APPLIED ->
      sent_apply[h] = true;
      heard_dst = HEARD_NOTHING;
      if
      :: REACHES -> begin_apply(h)
      :: OR_IS_LOST
      fi }
  :: atomic { heard_src == CAPTURED ->
      sent_commit_src[h] = true;
      heard_src = HEARD_NOTHING;
      if
      :: REACHES -> commit_src(h)
#ifdef MISTAKE_RELEASES_IN_MEMORY_ONLY
        ; heard_src = RELEASED
#endif
      :: OR_IS_LOST
      fi }
  :: atomic { heard_src == CAPTURED ->
      sent_abort_src[h] = true;
      heard_src = HEARD_NOTHING;
      if
      :: REACHES -> abort_src(h)
      :: OR_IS_LOST
      fi }

  /* The source has RELEASED: forward only. Its journal still has the state. */
#ifndef MISTAKE_DROPS_STATE_WHEN_RELEASED
  :: atomic { heard_src == RELEASED && (heard_dst == NONE || heard_dst == EMPTY || heard_dst == APPLYING) ->
      sent_apply[h] = true;
      heard_dst = HEARD_NOTHING;
      if
      :: REACHES -> begin_apply(h)
      :: OR_IS_LOST
      fi }
#endif
  :: atomic { heard_src == RELEASED && heard_dst == APPLIED ->
      sent_commit_dst[h] = true;
      heard_dst = HEARD_NOTHING;
      if
      :: REACHES -> commit_dst(h, true)
      :: OR_IS_LOST
      fi }

  /* The source has ABORTED: back only. */
  :: atomic { heard_src == ABORTED && heard_dst != HEARD_NOTHING && heard_dst != ABORTED ->
      sent_abort_dst[h] = true;
      heard_dst = HEARD_NOTHING;
      if
      :: REACHES -> abort_dst(h, true)
      :: OR_IS_LOST
      fi }
  od
}

/* ---- an operator, whose VM has left B and come back to A without a handoff (ownership_rule.h) ---- */

#ifdef SCOPE_RECLAIM
#ifdef MISTAKE_RECLAIMS_WITHOUT_ASKING
#define IS_DISOWNED true
#else
#define IS_DISOWNED (standing[B] == DISOWNED)
#endif

proctype Operator() {
  do
  /* The VM is not at B at that moment; whoever registers it there later is told how it stands. */
  :: d_step { doing[B] == IDLE && standing[B] == OWNED && !OCCUPIED(B) && dst[0] != EMPTY ->
      standing[B] = DISOWNED;
      permit[B] = false;
      vmm[B]++;
      awaits[B] = false;
      tscs[B] = 0 }
  :: d_step { doing[A] == IDLE && standing[A] == AWAY && !OCCUPIED(A) && IS_DISOWNED ->
      src[0] = ABORTED;
      abort_told[0] = true;
      standing[A] = OWNED;
      owner[A] = vmm[A];
      highest[A]++;
      reclaimed = true }
  od
}
#endif

/* ---- what must hold ---- */

#define ENDED(h)                                                   \
  ((src[h] == NONE && dst[h] == NONE && doing[SRC(h)] == IDLE) || \
   (src[h] == RELEASED && dst[h] == ACTIVE && permit[DST(h)]) ||    \
   (src[h] == ABORTED && dst[h] == ABORTED && restored[h] && permit[SRC(h)]))

#ifndef LIVENESS
/* A side that has nothing applied left nothing behind in the VM that it had applied to. */
#define CLEAN(h) (vmm[DST(h)] != applied_to[h] || tscs[DST(h)] != h + 1)
#define ONE_OWNER (!permit[A] || !permit[B])
#define ACTIVE_IS_PROVEN(h) (dst[h] != ACTIVE || src[h] == RELEASED || reclaimed)
#define ABORTED_IS_PROVEN(h) (dst[h] != ABORTED || src[h] == ABORTED)
#define DECIDED_ONCE(h) (!release_told[h] || !abort_told[h] || reclaimed)
#define UNDONE(h) ((dst[h] != EMPTY && (dst[h] != ABORTED || !restored[h])) || CLEAN(h))
/* The VM that arrived runs with TSCs that were brought. */
#define RUNS_WITH_TSCS(h) (dst[h] != ACTIVE || standing[DST(h)] != OWNED || !permit[DST(h)] || tscs[DST(h)] != 0)
#define HOLDS(h) \
  (ONE_OWNER && ACTIVE_IS_PROVEN(h) && ABORTED_IS_PROVEN(h) && DECIDED_ONCE(h) && UNDONE(h) && RUNS_WITH_TSCS(h))

inline check(h) {
  assert(ONE_OWNER);
  assert(ACTIVE_IS_PROVEN(h));
  assert(ABORTED_IS_PROVEN(h));
  assert(DECIDED_ONCE(h));
  assert(UNDONE(h));
  assert(RUNS_WITH_TSCS(h))
}

#ifdef NEVER
/* To show that a state is reached: claims that it is not. */
active proctype Reached() { atomic { NEVER -> assert(false) } }
#endif

/* Can move in a state that is wrong, and in no other: so it costs no states. */
active proctype Monitor() {
  do
  :: atomic { !HOLDS(0) -> check(0) }
#if HANDOFFS == 2
  :: atomic { !HOLDS(1) -> check(1) }
#endif
  od
}
#else
active proctype Weather() { calm = true }
#if HANDOFFS == 2
ltl ends { <>[] (ENDED(0) && ENDED(1)) }
#else
ltl ends { <>[] ENDED(0) }
#endif
#endif

init {
  atomic {
    permit[A] = true;
    awaits[B] = true;
    run Agent(A);
    run Agent(B);
    run Network();
#ifdef SCOPE_RECLAIM
    run Operator();
#endif
    run Orchestrator(0);
#if HANDOFFS == 2
    run Orchestrator(1)
#else
    run Orchestrator(0)
#endif
  }
}
