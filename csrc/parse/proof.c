/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * systemd-stub measures each section that it knows into PCR 11: its name with a NUL, then its
 * VirtualSize bytes. Firmware measures whatever is loaded into PCR 4, whether it runs or not. So the
 * sections say which of the loaded files has run.
 */
#include "cfs.h"

#include <errno.h>
#include <string.h>

enum { NAME = 8 };

/* What the stub measures, as far as a file has it. Others are measured too: of these it takes one of
 * several, or none (.dtbauto, .efifw), or they are newer than this list. */
static const char always[][NAME] = {
	".linux", ".osrel", ".cmdline", ".initrd",  ".ucode",   ".splash",
	".dtb",   ".uname", ".sbat",    ".pcrpkey", ".profile", ".hwids",
};

static bool is_always(const uint8_t *name)
{
	for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		if (memcmp(always[i], name, NAME) == 0)
			return true;
	return false;
}

/* Which profile each section is of. */
static void number(const struct cfs_pe *pe, int profiles[CFS_PE_SECTIONS_MAX])
{
	int current = CFS_PE_BASE;

	for (uint32_t i = 0; i < pe->section_count; i++) {
		current += memcmp(pe->sections[i].name, ".profile", NAME) == 0;
		profiles[i] = current;
	}
}

/* Is it of the profile, or of the base, and the profile has none of that name? */
static bool is_active(const struct cfs_pe *pe, const int *profiles, uint32_t index, int profile)
{
	if (profiles[index] == profile)
		return true;
	if (profiles[index] != CFS_PE_BASE)
		return false;
	for (uint32_t i = 0; i < pe->section_count; i++)
		if (profiles[i] == profile &&
		    memcmp(pe->sections[i].name, pe->sections[index].name, NAME) == 0)
			return false;
	return true;
}

static bool is_measured(const struct cfs_uki *uki, uint32_t index, const uint8_t *event, size_t size)
{
	const struct cfs_pe_section *section = &uki->pe.sections[index];

	return section->virtual_size > 0 && section->virtual_size <= section->raw_size &&
	       memcmp(uki->sections[index], event, size) == 0;
}

static int differs(const char **why, const char *what, char name[9], const uint8_t *section)
{
	*why = what;
	memcpy(name, section, NAME);
	return -EBADMSG;
}

int cfs_proof_sections(const struct cfs_uki *uki, const struct cfs_log_events *log, uint16_t bank,
		       int profile, char name[9], const char **why)
{
	const struct cfs_pe *pe = &uki->pe;
	int profiles[CFS_PE_SECTIONS_MAX];
	bool active[CFS_PE_SECTIONS_MAX] = { false }, seen[CFS_PE_SECTIONS_MAX] = { false };
	uint8_t names[CFS_PE_SECTIONS_MAX][CFS_DIGEST_MAX];
	static const uint8_t none[NAME];
	size_t size = 0;

	*why = NULL;
	memset(name, 0, 9);
	number(pe, profiles);
	for (uint32_t i = 0; i < pe->section_count; i++) {
		uint8_t text[9] = { 0 };
		int length;

		memcpy(text, pe->sections[i].name, NAME);
		length = cfs_sha(bank, text, strlen((const char *)text) + 1, names[i]);
		if (length < 0)
			return length;
		size = (size_t)length;
		active[i] = is_active(pe, profiles, i, profile);
	}
	if (log->count == 0 || log->count % 2 != 0)
		return differs(why, "PCR 11 has no pairs of names and sections", name, none);

	for (uint32_t event = 0; event < log->count; event += 2) {
		uint32_t known = pe->section_count, found = pe->section_count;

		for (uint32_t i = 0; i < pe->section_count; i++) {
			if (!active[i] || memcmp(names[i], log->events[event], size) != 0)
				continue;
			if (seen[i])
				return differs(why, "PCR 11 has it twice", name, pe->sections[i].name);
			known = i;
			if (is_measured(uki, i, log->events[event + 1], size))
				found = i;
		}
		if (known == pe->section_count)
			return differs(why, "PCR 11 has a section that is not there", name, none);
		if (found == pe->section_count)
			return differs(why, "PCR 11 has another content of it", name,
				       pe->sections[known].name);
		/* All of that name. */
		for (uint32_t i = 0; i < pe->section_count; i++)
			seen[i] = seen[i] || memcmp(names[i], names[found], size) == 0;
	}
	for (uint32_t i = 0; i < pe->section_count; i++)
		if (active[i] && !seen[i] && is_always(pe->sections[i].name))
			return differs(why, "PCR 11 does not have it", name, pe->sections[i].name);
	return 0;
}
