// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * For test builds only: allocation.c in cfs-init, from the moment on when the process's own state
 * is there. Before it nothing of Python's memory may be touched: the snapshot comes over it.
 */
void cfs_test_fail_allocations(void);
const char *__real_snapshot_resume(char **environment);
const char *__wrap_snapshot_resume(char **environment);

const char *__wrap_snapshot_resume(char **environment)
{
	const char *failed = __real_snapshot_resume(environment);

	if (!failed)
		cfs_test_fail_allocations();
	return failed;
}
