// MutateMessage: damages a protobuf message as a message. Bytes that are changed at random are
// mostly no message any more; a message in which a field is changed reaches what lies behind the
// parser.
//
// A target that links this lets libFuzzer, and the test of its seeds, change its inputs so: their
// first byte says what kind they are, and the target says which message that kind is.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_FUZZ_MESSAGE_MUTATOR_H_
#define TSC_HANDOFF_TESTS_FUZZ_MESSAGE_MUTATOR_H_

#include <google/protobuf/message.h>

#include <cstdint>
#include <memory>
#include <random>

namespace tsc_handoff::fuzz {

// Defined by the target. An empty one of the message that inputs with this first byte hold after
// it; nullptr where they hold none.
std::unique_ptr<google::protobuf::Message> MessageOf(uint8_t kind);

// Changes a field somewhere in the message: sets, clears, or edits it.
void MutateMessage(google::protobuf::Message& message, std::mt19937_64& random);

}  // namespace tsc_handoff::fuzz

#endif  // TSC_HANDOFF_TESTS_FUZZ_MESSAGE_MUTATOR_H_
