// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * A call that is not made, by what the processor's registers hold.
 *
 * brk fails otherwise than by an errno: it answers the old break, which is what brk(0) asks for.
 * Reads and writes are made, of no bytes: where the program has a seccomp filter, that would kill
 * it for a call that is none. close is made: whatever it answers, the descriptor is gone.
 */
#define _GNU_SOURCE
#include "inject.h"

#include <asm/unistd.h>
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

typedef unsigned long long word;
#if defined(__x86_64__)
#define FIRST(registers) (&(registers)->rdi)
#define THIRD(registers) (&(registers)->rdx)
#define ANSWER(registers) (&(registers)->rax)
#elif defined(__aarch64__)
#define FIRST(registers) (&(registers)->regs[0])
#define THIRD(registers) (&(registers)->regs[2])
#define ANSWER(registers) (&(registers)->regs[0])
#else
#error "inject: where has this processor the arguments of a system call?"
#endif

static void transfer(enum __ptrace_request request, pid_t child, int set, void *room, size_t size)
{
	struct iovec here = { room, size };

	if (ptrace(request, child, (void *)(long)set, &here) < 0)
		die("ptrace: registers");
}

/* The number of a call that there is not: it answers ENOSYS, and does nothing. */
static void change_number(pid_t child, struct user_regs_struct *registers)
{
#if defined(__x86_64__)
	(void)child;
	registers->orig_rax = (word)-1;
#else
	int none = -1;

	(void)registers;
	transfer(PTRACE_SETREGSET, child, NT_ARM_SYSTEM_CALL, &none, sizeof(none));
#endif
}

static struct {
	long number;
	word first, third; /* the caller expects to find them again */
} call;

void skip_call(pid_t child, long number)
{
	struct user_regs_struct registers;

	transfer(PTRACE_GETREGSET, child, NT_PRSTATUS, &registers, sizeof(registers));
	call.number = number;
	call.first = *FIRST(&registers);
	call.third = *THIRD(&registers);
	switch (number) {
	case __NR_close: return;
	case __NR_brk: *FIRST(&registers) = 0; break;
	case __NR_read: case __NR_pread64: case __NR_write: *THIRD(&registers) = 0; break;
	default: change_number(child, &registers);
	}
	transfer(PTRACE_SETREGSET, child, NT_PRSTATUS, &registers, sizeof(registers));
}

void answer_call(pid_t child, long value)
{
	struct user_regs_struct registers;

	transfer(PTRACE_GETREGSET, child, NT_PRSTATUS, &registers, sizeof(registers));
	word answer = call.number == __NR_brk ? *ANSWER(&registers) : (word)value;

	*FIRST(&registers) = call.first; /* on arm64 the answer takes its place */
	*THIRD(&registers) = call.third;
	*ANSWER(&registers) = answer;
	transfer(PTRACE_SETREGSET, child, NT_PRSTATUS, &registers, sizeof(registers));
}
