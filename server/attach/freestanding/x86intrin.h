/*
 * The two intrinsics that tsc_kvm.c uses, for the payload only: the compiler's own header needs the
 * vector registers, which the payload must not touch. Found before the compiler's, by -I.
 */
#ifndef TSC_HANDOFF_SERVER_ATTACH_FREESTANDING_X86INTRIN_H_
#define TSC_HANDOFF_SERVER_ATTACH_FREESTANDING_X86INTRIN_H_

static inline unsigned long long __rdtscp(unsigned int* cpu) {
  unsigned int low, high;
  __asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(*cpu) : : "memory");
  return (unsigned long long)high << 32 | low;
}

static inline void _mm_lfence(void) { __asm__ volatile("lfence" : : : "memory"); }

#endif /* TSC_HANDOFF_SERVER_ATTACH_FREESTANDING_X86INTRIN_H_ */
