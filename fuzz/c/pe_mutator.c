/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Changes of PE files that bytes changed at random seldom are: a field at its edge, sections
 * swapped, doubled, laid over each other, renamed. Everything else is left to libFuzzer. */
#include <stdint.h>
#include <string.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

enum { ENTRY = 40, NAME = 8 };

struct file {
	uint8_t *data;
	size_t size;
	size_t header;   /* of the PE signature */
	size_t table;    /* of the section table */
	uint32_t count;  /* sections that lie in the file */
	uint32_t random; /* state of the generator; never 0 */
};

static uint32_t next(struct file *file, uint32_t below)
{
	/* xorshift32 */
	file->random ^= file->random << 13;
	file->random ^= file->random >> 17;
	file->random ^= file->random << 5;
	return file->random % below;
}

static uint32_t get(const uint8_t *at, int width)
{
	uint32_t value = 0;

	memcpy(&value, at, (size_t)width); /* little-endian, like the machines that fuzz */
	return value;
}

static void put(uint8_t *at, int width, uint32_t value)
{
	memcpy(at, &value, (size_t)width);
}

/* Finds the tables, as far as they make sense. */
static int find_tables(struct file *file)
{
	if (file->size < 64)
		return 0;
	file->header = get(file->data + 60, 4);
	if (file->header > file->size || file->size - file->header < 24 + 240)
		return 0;
	file->table = file->header + 24 + get(file->data + file->header + 20, 2);
	file->count = get(file->data + file->header + 6, 2);
	if (file->table > file->size)
		return 0;
	if (file->count > (file->size - file->table) / ENTRY)
		file->count = (uint32_t)((file->size - file->table) / ENTRY);
	return file->count > 0;
}

static uint32_t edge(struct file *file, uint32_t now)
{
	const uint32_t values[] = {
		0, 1, 8, 64, 96, 97, 112, 240, 511, 512, 513, 4096, 65536, 131072, 0x10b, 0x20b, 0x8664,
		0x7fffffff, 0x80000000, 0xfffffe00, 0xffffffff, (uint32_t)file->size,
		(uint32_t)file->size - 8, (uint32_t)file->size + 1, now + 1, now - 1, now + 8, now - 8,
		now + 512, now - 512, now * 2, get(file->data + file->header + 84, 4),
		get(file->data + file->table + ENTRY * next(file, file->count) + 16, 4),
		get(file->data + file->table + ENTRY * next(file, file->count) + 20, 4),
	};

	return values[next(file, sizeof(values) / sizeof(values[0]))];
}

static void change(struct file *file, uint8_t *at, int width)
{
	put(at, width, edge(file, get(at, width)));
}

static void change_header(struct file *file)
{
	/* From the signature: offset, width. The last two: data directory 4 of PE32 and PE32+. */
	static const uint8_t fields[][2] = {
		{ 4, 2 },  { 6, 2 },   { 20, 2 },  { 24, 2 },  { 60, 4 },
		{ 84, 4 }, { 92, 2 },  { 116, 4 }, { 132, 4 }, { 152, 4 },
		{ 156, 4 }, { 168, 4 }, { 172, 4 },
	};
	uint32_t which = next(file, sizeof(fields) / sizeof(fields[0]));

	change(file, file->data + file->header + fields[which][0], fields[which][1]);
}

static void change_section(struct file *file, uint8_t *entry, uint8_t *other)
{
	static const char names[][NAME + 1] = {
		".cfsdig", ".profile", ".linux", ".initrd", ".cmdline", "/4", ".cfsdigX", "",
	};
	uint8_t copy[ENTRY];

	switch (next(file, 6)) {
	case 0:
		change(file, entry + 8 + 4 * next(file, 4), 4);
		break;
	case 1:
		memcpy(entry, names[next(file, sizeof(names) / sizeof(names[0]))], NAME);
		break;
	case 2: /* swapped */
		memcpy(copy, entry, ENTRY);
		memmove(entry, other, ENTRY);
		memcpy(other, copy, ENTRY);
		break;
	case 3: /* twice, with the data of neither at the same place or with it */
		memcpy(entry, other, next(file, 2) ? ENTRY : NAME);
		break;
	case 4: /* just behind the other */
		put(entry + 20, 4, get(other + 20, 4) + get(other + 16, 4));
		break;
	default: /* and just in front of it */
		put(entry + 20, 4, get(other + 20, 4) - get(entry + 16, 4));
		break;
	}
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	struct file file = { .data = data, .size = size, .random = seed | 1 };
	size_t changed;

	if (next(&file, 4) == 0 || !find_tables(&file)) {
		size = LLVMFuzzerMutate(data, size, max_size);
		/* A file under 1 KiB is refused before it is read. */
		if (size < 1024 && max_size >= 1024 && next(&file, 16)) {
			memset(data + size, 0, 1024 - size);
			size = 1024;
		}
		return size;
	}
	for (uint32_t times = 1 + next(&file, 3); times > 0 && find_tables(&file); times--) {
		uint8_t *table = data + file.table;

		switch (next(&file, 6)) {
		case 0:
		case 1:
			change_header(&file);
			break;
		case 2: /* longer or shorter, by what alignment asks for */
			changed = next(&file, 2) ? size + 512 : size - 8;
			if (changed <= max_size && changed >= 1024) {
				if (changed > size)
					memset(data + size, 0, changed - size);
				size = file.size = changed;
			}
			break;
		default:
			change_section(&file, table + ENTRY * next(&file, file.count),
				       table + ENTRY * next(&file, file.count));
		}
	}
	return size;
}
