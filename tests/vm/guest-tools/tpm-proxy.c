// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * tpm-proxy FAULT: a second TPM, which passes each command on to the first one and gives its
 * answer; but for TPM2_PCR_Extend, to which it answers as FAULT says:
 *   never  not at all      cut   with the first half      long  with a size that is not its own
 *   error  TPM_RC_FAILURE  other  what is right for TPM2_GetCapability
 * Prints the number of the device and works on in the background, until SIGTERM.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <fcntl.h>
#include <linux/vtpm_proxy.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	HEAD = 10,
	EXTEND = 0x182,
	GET_CAPABILITY = 0x17a,
	SET_LOCALITY = 0x20001000, /* of the driver itself, before and after each command */
};

static uint8_t command[4096], answer[4096], capability[4096];
static size_t capability_size;

_Noreturn static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint32_t number(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

/* Of ten bytes, with that code. */
static size_t short_answer(uint32_t code)
{
	const uint8_t head[HEAD] = { 0x80, 1, 0, 0, 0, HEAD, (uint8_t)(code >> 24),
				     (uint8_t)(code >> 16), (uint8_t)(code >> 8), (uint8_t)code };

	memcpy(answer, head, HEAD);
	return HEAD;
}

static size_t pass_on(int tpm, size_t size)
{
	ssize_t got;

	if (write(tpm, command, size) != (ssize_t)size)
		die("write to the TPM");
	got = read(tpm, answer, sizeof(answer));
	if (got < HEAD)
		die("read from the TPM");
	return (size_t)got;
}

/* Bytes of the answer; 0: none is given. */
static size_t answer_to(int tpm, size_t size, const char *fault)
{
	const uint32_t code = number(command + 6);
	size_t length;

	if (code == SET_LOCALITY)
		return short_answer(0);
	if (code != EXTEND) {
		length = pass_on(tpm, size);
		if (code == GET_CAPABILITY) {
			memcpy(capability, answer, length);
			capability_size = length;
		}
		return length;
	}
	if (!strcmp(fault, "never"))
		return 0;
	if (!strcmp(fault, "error"))
		return short_answer(0x101);
	if (!strcmp(fault, "other")) {
		memcpy(answer, capability, capability_size);
		return capability_size;
	}
	length = pass_on(tpm, size);
	if (!strcmp(fault, "cut"))
		return length / 2;
	answer[5]++; /* the last byte of its size */
	return length;
}

int main(int argc, char **argv)
{
	struct vtpm_proxy_new_dev made = { .flags = VTPM_PROXY_FLAG_TPM2 };
	int control = open("/dev/vtpmx", O_RDWR | O_CLOEXEC);
	int tpm = open("/dev/tpm0", O_RDWR | O_CLOEXEC);

	if (argc != 2)
		return 2;
	if (control < 0 || tpm < 0 || ioctl(control, VTPM_PROXY_IOC_NEW_DEV, &made) < 0)
		die("/dev/vtpmx, /dev/tpm0");
	printf("%u\n", made.tpm_num);
	fflush(stdout);
	if (daemon(0, 0) < 0)
		die("daemon");
	for (;;) {
		ssize_t got = read((int)made.fd, command, sizeof(command));
		size_t length;

		if (got < HEAD)
			return 1;
		length = answer_to(tpm, (size_t)got, argv[1]);
		if (length > 0 && write((int)made.fd, answer, length) < 0)
			return 1;
	}
}
