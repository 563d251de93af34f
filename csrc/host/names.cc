/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "names.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

namespace cfs
{

namespace
{

/* By the character; -1: no lower-case digit. */
constexpr std::array<int8_t, 256> NIBBLES = [] {
	std::array<int8_t, 256> table{};

	table.fill(-1);
	for (int i = 0; i < 16; i++)
		table[static_cast<uint8_t>("0123456789abcdef"[i])] = static_cast<int8_t>(i);
	return table;
}();

int nibble(char c)
{
	return NIBBLES[static_cast<uint8_t>(c)];
}

struct CloseDirectory {
	void operator()(DIR *stream) const
	{
		closedir(stream);
	}
};

} // namespace

size_t digest_of(std::string_view digits, std::array<uint8_t, 64> &out)
{
	if (digits.size() != 64 && digits.size() != 128)
		return 0;
	for (size_t i = 0; i < digits.size(); i += 2) {
		int high = nibble(digits[i]), low = nibble(digits[i + 1]);

		if ((high | low) < 0)
			return 0;
		out[i / 2] = static_cast<uint8_t>(high << 4 | low);
	}
	return digits.size() / 2;
}

bool is_fan_out(std::string_view name)
{
	return name.size() == 2 && (nibble(name[0]) | nibble(name[1])) >= 0;
}

int each_name(int directory, const TakeName &take)
{
	int own = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	std::unique_ptr<DIR, CloseDirectory> stream(own < 0 ? nullptr : fdopendir(own));
	const struct dirent *entry;

	if (!stream) {
		int error = errno;

		if (own >= 0)
			close(own);
		return error;
	}
	while (errno = 0, (entry = readdir(stream.get())) != nullptr) {
		std::string_view name = entry->d_name;

		if (name == "." || name == "..")
			continue;
		if (int error = take(own, entry->d_name))
			return error;
	}
	return errno;
}

} // namespace cfs
