// Two ways to wait that find out whether a register has changed meanwhile; registers.S says which.
// For tests.
#ifndef TSC_HANDOFF_SERVER_ATTACH_TESTING_REGISTERS_H_
#define TSC_HANDOFF_SERVER_ATTACH_TESTING_REGISTERS_H_

// Waits until *stop is not 0; whether all registers are what they were.
extern "C" bool spin_and_check_registers(const volatile int* stop);

// Makes the system call `call`, a number and six arguments, and stores what it answers. Returns how
// many registers it has changed, of those that a system call leaves alone.
extern "C" long syscall_and_check_registers(const long call[7], long* result);

#endif  // TSC_HANDOFF_SERVER_ATTACH_TESTING_REGISTERS_H_
