// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What the parts of inject share: what is asked for, and one run with one fault. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum mode { ERROR_MODE, KILL_MODE, DENY_MODE, MEMORY_MODE };

struct options { /* see inject.c */
	enum mode mode;
	bool all;
	bool block_devices;
	bool first_process;
	unsigned long step;
	unsigned long every;
	unsigned long only;
	const char *from;
	const char *until;
	const char *absent;
	const char *target;
	const char *gone;
	const char *record;
	char **command;
};

struct counter { /* shared with allocation.c */
	uint64_t count;
	uint64_t fail_at;
};

struct run {
	unsigned long at;    /* which call or allocation */
	size_t which;        /* of its errors */
	unsigned long calls; /* found, from here on */
	const struct call *call;
	long number;
	int error;
	bool fired;
	bool forked;   /* in a child of the program */
	bool last;     /* there is no further error for it */
	bool executed; /* the program became another one */
	char detail[512];
	int status;
	bool hung; /* killed for it */
};

extern struct options options;
extern int output; /* what the program writes to both of its streams */

_Noreturn void die(const char *what);

/* start.c; its first stop, where it is traced, is that of exec */
pid_t start(bool traced);

/* describe.c: its path, or what else tells one call of that name from another */
void describe(pid_t child, long number, const uint64_t *args, char *room, size_t size);

/* registers.c: what is entered is not made, and answers that when it is left */
void skip_call(pid_t child, long number);
void answer_call(pid_t child, long value);

/* trace.c: the program once, with the fault that `run` asks for, or untouched */
void execute_traced(struct run *run);
void execute_plain(struct run *run);

/* account.c */
void account_begin(void);
int account_unmount(void); /* how many mounts lay on each other on the target */
void account_report(const struct run *run);
