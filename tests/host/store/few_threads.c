/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* LD_PRELOAD: of all threads that a program starts, the first THREADS come; for those after them
 * the system has no room, as where pids.max or RLIMIT_NPROC is reached. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef int create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
		   void *argument)
{
	static atomic_int started;
	const char *most = getenv("THREADS");
	create *real;

	if (most && atomic_fetch_add(&started, 1) >= atoi(most))
		return EAGAIN;
	*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	return real(thread, attributes, start, argument);
}
