/*
 * Private to the library: sends and receives the packets of tsc_wire.h.
 *
 * Threading: pure but for the socket; packets of several threads do not mix.
 */
#ifndef TSC_HANDOFF_CLIENT_VMM_TSC_MESSAGE_H_
#define TSC_HANDOFF_CLIENT_VMM_TSC_MESSAGE_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/vmm/tsc_wire.h"

#pragma GCC visibility push(hidden)

struct tsc_wire_header tsc_message_header(enum tsc_wire_type type, uint64_t request_id);

/* With descriptors. Returns 0, or -1 with errno. */
int tsc_message_send(int socket, const void* message, size_t size, const int* fds,
                     uint32_t fd_count);

/* Returns the message's length, 0 at the end of the connection, -1 on an error. A longer message
 * than fits is one. */
ssize_t tsc_message_receive(int socket, void* buffer, size_t size);

/* Answers a READ or WRITE with a fault. Returns 0, or -1 with errno. */
int tsc_message_send_fault(int socket, const struct tsc_wire_header* request,
                           const struct tsc_kvm_fault* fault);

#pragma GCC visibility pop

#endif /* TSC_HANDOFF_CLIENT_VMM_TSC_MESSAGE_H_ */
