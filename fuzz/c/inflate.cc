/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What gzip has compressed, beside zlib: it is taken or refused by both, and is the same; but ISA-L
 * takes a set of codes in which some are missing, and zlib refuses it. Of zstd: the same in
 * whatever pieces; but a frame whose last block is empty, and that is shorter than it says, is
 * refused by libzstd only where there is room for all that it says.
 *
 * The first byte is how: 1, what follows is the body of a member, which gets a header and a right
 * trailer; 2, it comes behind an empty member that ends the second byte's value before the end of
 * what is read at a time. The third one says how much is asked for at a time.
 */
#include "fuzz.h"
#include "host/inflate.h"
#include "host/tar.h"

#include <isa-l/igzip_lib.h>
#include <zlib.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

namespace
{

constexpr size_t HEAD = 3, PIECE = size_t{ 1 } << 18;
/* Of what comes out. Beyond it nobody looks. */
constexpr size_t LIMIT = size_t{ 1 } << 18;
constexpr unsigned BODY = 1, BEHIND = 2;
constexpr std::string_view HEADER("\x1f\x8b\x08\0\0\0\0\0\0\xff", 10),
	NAMED("\x1f\x8b\x08\x08\0\0\0\0\0\xff", 10), EMPTY("\x03\0\0\0\0\0\0\0\0\0", 10),
	GZIP = "\x1f\x8b", ZSTD = "\x28\xb5\x2f\xfd";

struct Outcome {
	bool taken = false;
	bool is_a_set = false; /* what zlib refused */
	std::string out; /* LIMIT at least: not all */
};

/* `bits`: as zlib has the window's, with the kind of the format. Returns how much it took. */
size_t inflate_one(std::string_view text, int bits, Outcome &found)
{
	z_stream stream = {};
	std::string_view said;
	std::string some(size_t{ 1 } << 16, '\0');
	int result = Z_OK;

	PROMISE(inflateInit2(&stream, bits) == Z_OK);
	stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(text.data()));
	stream.avail_in = static_cast<uInt>(text.size());
	while (result == Z_OK && found.out.size() < LIMIT) {
		stream.next_out = reinterpret_cast<Bytef *>(some.data());
		stream.avail_out = static_cast<uInt>(some.size());
		result = inflate(&stream, Z_NO_FLUSH);
		found.out.append(some, 0, some.size() - stream.avail_out);
	}
	found.taken = result == Z_STREAM_END;
	if (stream.msg)
		said = stream.msg;
	found.is_a_set = said.starts_with("invalid ") && said.ends_with(" set");
	inflateEnd(&stream);
	return text.size() - stream.avail_in;
}

Outcome by_zlib(std::string_view text)
{
	Outcome found;

	do {
		text.remove_prefix(inflate_one(text, 15 + 16, found));
	} while (found.taken && !text.empty());
	return found;
}

Outcome by_us(std::string_view text, size_t room)
{
	std::atomic<bool> stop = false;
	/* The file is empty: all of it has been read. */
	cfs::Blob blob = { fuzz_file(nullptr, 0), std::string(text) };
	cfs::Inflate inflate(blob, stop);
	Outcome found;
	std::string some;

	try {
		while (found.out.size() < LIMIT) {
			size_t size;

			some.assign(room, '\0'); /* its own block, so that a byte too far is seen */
			some.shrink_to_fit();
			size = inflate.read(some.data(), room);
			PROMISE(size <= room);
			found.out.append(some, 0, size);
			if (size == 0) {
				found.taken = true;
				break;
			}
		}
	} catch (const cfs::BrokenTar &broken) {
		PROMISE(broken.what()[0] != '\0');
	}
	return found;
}

/* What ISA-L makes of a body that zlib refuses; nothing where it refuses it too. */
std::optional<std::string> by_isal(std::string_view body)
{
	std::string out(LIMIT, '\0');
	struct inflate_state state;

	isal_inflate_init(&state);
	state.next_in = reinterpret_cast<uint8_t *>(const_cast<char *>(body.data()));
	state.avail_in = static_cast<uint32_t>(body.size());
	state.next_out = reinterpret_cast<uint8_t *>(out.data());
	state.avail_out = static_cast<uint32_t>(out.size());
	if (isal_inflate(&state) != ISAL_DECOMP_OK || state.block_state != ISAL_BLOCK_FINISH)
		return {};
	out.resize(state.total_out);
	return out;
}

std::string little(unsigned long value)
{
	std::string text;

	for (int i = 0; i < 4; i++)
		text += static_cast<char>(value >> 8 * i);
	return text;
}

std::string member(std::string_view body)
{
	Outcome found;
	size_t used = inflate_one(body, -15, found);
	std::string text(HEADER), &out = found.out;

	if (!found.taken) {
		used = body.size();
		out = by_isal(body).value_or("");
	}
	text += body.substr(0, used);
	text += little(crc32(0, reinterpret_cast<const Bytef *>(out.data()),
			     static_cast<uInt>(out.size())));
	return text + little(out.size());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	std::string text;

	if (size < HEAD)
		return 0;
	text.assign(reinterpret_cast<const char *>(data) + HEAD, size - HEAD);
	if (data[0] & BODY)
		text = member(text);
	if (data[0] & BEHIND) {
		size_t name = PIECE - data[1] - NAMED.size() - 1 - EMPTY.size();

		text = std::string(NAMED) + std::string(name, 'n') + '\0' + std::string(EMPTY) + text;
	}

	Outcome whole = by_us(text, LIMIT / 4), ours = by_us(text, size_t{ data[2] } * data[2] + 1);

	if (whole.out.size() < LIMIT && ours.out.size() < LIMIT) {
		PROMISE(whole.taken == ours.taken || text.starts_with(ZSTD));
		PROMISE(!whole.taken || !ours.taken || whole.out == ours.out);
	}
	if (!text.starts_with(GZIP))
		return 0;
	Outcome theirs = by_zlib(text);

	if (whole.out.size() >= LIMIT || theirs.out.size() >= LIMIT)
		return 0;
	if (theirs.is_a_set)
		PROMISE(!whole.taken || whole.out.starts_with(theirs.out));
	else
		PROMISE(whole.taken == theirs.taken && (!whole.taken || whole.out == theirs.out));
	return 0;
}
