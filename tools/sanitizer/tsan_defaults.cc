// Options and suppressions of ThreadSanitizer, compiled in.
//
// Debian's gRPC, abseil, protobuf and prometheus-cpp are not instrumented: ThreadSanitizer would
// see their libc calls (malloc, memmove) but not the atomics that order them, and report races that
// are none. ignore_noninstrumented_modules leaves out the libc calls made by code that was not
// compiled with -fsanitize=thread. Our own code is checked in full, as long as it locks with
// std::mutex: absl::Mutex lives in such a library and is invisible.

extern "C" {

const char* __tsan_default_options();
const char* __tsan_default_options() {
  return "ignore_noninstrumented_modules=1:halt_on_error=1:second_deadlock_stack=1:history_size=4";
}

const char* __tsan_default_suppressions();
const char* __tsan_default_suppressions() {
  return
      // Inline code of gRPC's callback API is compiled into our binaries and hands memory from one
      // of gRPC's threads to another, ordered by the invisible mutex.
      "race:^grpc::\n"
      // The same with the generated code of a message that one of gRPC's threads has parsed.
      "race:^google::protobuf::\n";
}

}  // extern "C"
