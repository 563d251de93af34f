/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * A UKI, read where a fault of the parser does no harm: by a child that can read that one file,
 * write to one pipe and end, and is killed for any other system call.
 *
 * The file lies on the ESP, which anybody with another system on the machine can write. Its
 * reader would be PID 1 with all privileges. The answer of the child is checked like the file.
 */
#define _GNU_SOURCE
#include "cfs.h"
#include "scope.h"
#include "sys.h"
#include "sys_process.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the low half of a system call's argument is elsewhere"
#elif defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__powerpc64__)
#define ARCHITECTURE AUDIT_ARCH_PPC64LE
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCHITECTURE AUDIT_ARCH_RISCV64
#else
#error "which AUDIT_ARCH_* is this?"
#endif

enum {
	ERRNO_MAX = 4095,
	CPU_SECONDS = 2,      /* 96 headers take microseconds */
	CPU_SLOW = 256 << 10, /* bytes that any processor hashes twice in a second, emulated too */
};

struct answer {
	int32_t result; /* bytes of data, or -errno */
	char why[CFS_WHY_MAX];
	uint8_t data[CFS_CONFINED_MAX];
};

static const size_t ANSWER_HEAD = offsetof(struct answer, data);

/* What the child does with the file: fills data and gives how much, or -errno and why. */
struct job {
	int (*run)(const struct job *job, int fd, uint64_t file_size, struct answer *answer);
	const char *name;
	int profile;
	size_t capacity;
	uint16_t bank;
	const uint8_t *log;
	size_t log_size;
	unsigned long seconds;
};

static int allow_only(int in, int out)
{
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), yes, no)
#define END(action) BPF_STMT(BPF_RET | BPF_K, action)
	struct sock_filter filter[] = {
		LOAD(arch),                     /* 0 */
		IF(ARCHITECTURE, 0, 9),         /* 1: else 11 */
		LOAD(nr),                       /* 2: that of another ABI (x32) is another number */
		IF(SYS_exit_group, 6, 0),       /* 3: to 10 */
		IF(SYS_pread64, 1, 0),          /* 4: to 6 */
		IF(SYS_write, 2, 5),            /* 5: to 8, else 11 */
		LOAD(args[0]),                  /* 6 */
		IF(in, 2, 3),                   /* 7: to 10, else 11 */
		LOAD(args[0]),                  /* 8 */
		IF(out, 0, 1),                  /* 9: to 10, else 11 */
		END(SECCOMP_RET_ALLOW),         /* 10 */
		END(SECCOMP_RET_KILL_PROCESS),  /* 11 */
	};
	const struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	return sys_seccomp_filter(&program);
}

static int confine(int in, int out, unsigned long seconds)
{
	const struct {
		int resource;
		unsigned long limit;
	} limits[] = {
		{ RLIMIT_CPU, seconds }, { RLIMIT_CORE, 0 },  { RLIMIT_FSIZE, 0 },
		{ RLIMIT_NOFILE, 0 },    { RLIMIT_NPROC, 0 },
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		int r = sys_limit((int)limits[i].resource, limits[i].limit);

		if (r < 0)
			return r;
	}
	int r = sys_no_new_privileges();
	return r < 0 ? r : allow_only(in, out);
}

static int read_fd(void *context, uint64_t offset, void *to, size_t length)
{
	const int *fd = context;

	return sys_pread_exact(*fd, to, length, offset);
}

static void explain(struct answer *answer, const char *what, const char *why)
{
	(void)snprintf(answer->why, sizeof(answer->why), "%s%s", what, why);
}

static int read_section(const struct job *job, int fd, uint64_t file_size, struct answer *answer)
{
	const char *why = NULL;
	struct cfs_pe pe;
	int r = cfs_pe_parse(read_fd, &fd, file_size, &pe, &why);

	if (r >= 0)
		r = cfs_pe_find(&pe, job->name, job->profile, &why);
	if (r >= 0)
		r = cfs_pe_section_read_fd(fd, &pe, (uint32_t)r, answer->data, job->capacity);
	if (why != NULL)
		explain(answer, "", why);
	return r;
}

/* The values, for who decides by them; whether they prove anything is not said here. */
static int prove(const struct job *job, int fd, uint64_t file_size, struct answer *answer)
{
	struct cfs_uki_proof proof = { 0 };
	const char *why = NULL;
	struct cfs_log_events log;
	struct cfs_uki uki;
	char name[9];
	int r = cfs_log_parse(job->log, job->log_size, job->bank, &log, &why);

	if (why != NULL)
		(void)snprintf(answer->why, sizeof(answer->why), "event log at byte %llu: %s",
			       (unsigned long long)log.at, why);
	if (r < 0)
		return r;
	r = cfs_uki_parse(read_fd, &fd, file_size, job->bank, job->profile, &uki, &why);
	if (why != NULL)
		explain(answer, "", why);
	if (r < 0)
		return r;
	memcpy(proof.pcr_4, log.pcr_4, sizeof(log.pcr_4));
	memcpy(proof.pcr_11, log.pcr_11, sizeof(log.pcr_11));
	memcpy(proof.image, log.image, sizeof(log.image));
	memcpy(proof.hash, uki.hash, sizeof(uki.hash));
	proof.has_image = log.has_image;
	proof.payload_size = uki.payload_size;
	memcpy(proof.payload, uki.payload, sizeof(uki.payload));
	if (cfs_proof_sections(&uki, &log, job->bank, job->profile, name, &why) < 0)
		(void)snprintf(proof.sections, sizeof(proof.sections), "%s%s%s", name,
			       name[0] ? ": " : "", why);
	memcpy(answer->data, &proof, sizeof(proof));
	return (int)sizeof(proof);
}

static void child(int in, int out, uint64_t file_size, const struct job *job)
{
	struct answer answer = { 0 };
	int r = confine(in, out, job->seconds);

	if (r >= 0)
		r = job->run(job, in, file_size, &answer);
	answer.result = r;
	sys_exit(sys_write_exact(out, &answer, ANSWER_HEAD + (r > 0 ? (size_t)r : 0)) < 0);
}

/* To the end of the pipe, or of the answer's room. */
static int receive(int fd, struct answer *answer)
{
	uint8_t *to = (uint8_t *)answer;
	size_t got = 0;
	int n = 1;

	while (n > 0 && got < sizeof(*answer)) {
		n = sys_read(fd, to + got, sizeof(*answer) - got);
		if (n < 0)
			return n;
		got += (size_t)n;
	}
	return (int)got;
}

static int accept_answer(const struct answer *answer, int got, size_t capacity, void *buffer,
			 char why[CFS_WHY_MAX])
{
	if (got < (int)ANSWER_HEAD || answer->result < -ERRNO_MAX ||
	    (answer->result > 0 ? answer->result : 0) != got - (int)ANSWER_HEAD ||
	    (answer->result > 0 && (size_t)answer->result > capacity))
		return -EPROTO;
	if (answer->result < 0)
		(void)snprintf(why, CFS_WHY_MAX, "%.*s", CFS_WHY_MAX - 1, answer->why);
	else
		memcpy(buffer, answer->data, (size_t)answer->result);
	return answer->result;
}

static int confined(int fd, struct job *job, void *buffer, char why[CFS_WHY_MAX])
{
	int ends[2];
	struct answer answer = { 0 };
	struct stat status;
	int got, exited, r;
	pid_t pid;

	why[0] = '\0';
	r = sys_fstat(fd, &status);
	if (r < 0)
		return r;
	if (!S_ISREG(status.st_mode))
		return -EINVAL;
	job->seconds = CPU_SECONDS;
	if (job->log != NULL)
		job->seconds += ((uint64_t)status.st_size + job->log_size) / CPU_SLOW;
	r = sys_pipe(ends);
	if (r < 0)
		return r;
	int from scope_fd = ends[0];
	int to scope_fd = ends[1];

	pid = sys_fork();
	if (pid < 0)
		return pid;
	if (pid == 0)
		child(fd, to, (uint64_t)status.st_size, job);
	scope_close(&to);
	to = -1;
	got = receive(from, &answer);
	r = sys_wait(pid, &exited);
	if (got < 0)
		return got;
	if (r < 0)
		return r;
	r = exited == 0 ? accept_answer(&answer, got, job->capacity, buffer, why) : -EPROTO;
	if (r == -EPROTO)
		(void)snprintf(why, CFS_WHY_MAX, "the confined reader failed (wait status %#x)",
			       (unsigned int)exited);
	return r;
}

int cfs_pe_section_read_confined(int fd, const char *name, int profile, void *buffer,
				 size_t capacity, char why[CFS_WHY_MAX])
{
	struct job job = { .run = read_section, .name = name, .profile = profile };

	job.capacity = capacity < CFS_CONFINED_MAX ? capacity : CFS_CONFINED_MAX;
	return confined(fd, &job, buffer, why);
}

int cfs_uki_prove_confined(int fd, int profile, uint16_t bank, const uint8_t *log, size_t log_size,
			   struct cfs_uki_proof *out, char why[CFS_WHY_MAX])
{
	struct job job = { .run = prove, .profile = profile, .bank = bank, .log = log };
	int r;

	job.log_size = log_size;
	job.capacity = sizeof(*out);
	memset(out, 0, sizeof(*out));
	r = confined(fd, &job, out, why);
	if (r < 0)
		return r;
	out->sections[sizeof(out->sections) - 1] = '\0';
	if (r == (int)sizeof(*out) && out->payload_size <= CFS_PAYLOAD_MAX &&
	    (out->payload_size > 0 || out->payload_size == -ENOENT))
		return 0;
	(void)snprintf(why, CFS_WHY_MAX, "the confined reader gave an impossible answer");
	return -EPROTO;
}
