/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A text that is taken makes an image, which the reader takes: the same from memory to memory. */
#include "fuzz.h"
#include "host/dump.h"
#include "host/report.h"
#include "host/writer.h"

#include <algorithm>
#include <string>
#include <vector>

namespace
{

/* Of memory of its own, so that a byte too far is seen. */
std::vector<char> made(cfs::Tree tree, unsigned least)
{
	cfs::Writer writer(tree, least, cfs::VERSION_LIMIT);
	std::vector<char> out(writer.size(), 'x');

	writer.write(out.data());
	return out;
}

std::string dumped(const std::vector<char> &made)
{
	cfs::Image image({ made.data(), made.size() });
	std::string text;

	PROMISE(made.size() % cfs::BLOCK == 0);
	cfs::dump(image, [&text](std::string_view piece) { text += piece; });
	(void)cfs::objects(image);
	return text;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	std::vector<char> exact(data, data + size);
	std::string_view text(exact.data(), exact.size());
	auto lines = static_cast<uint64_t>(std::count(exact.begin(), exact.end(), '\n')) + 1;

	try {
		std::vector<char> first = made(cfs::read_dump(text), 0);
		std::vector<char> newest = made(cfs::read_dump(text), cfs::VERSION_LIMIT);
		std::string said, again;

		try {
			said = dumped(first);
			(void)dumped(newest);
			/* What is said of it makes one of which the same is said, but for marks that
			 * the writer itself gives and the reader hides. */
			again = dumped(made(cfs::read_dump(said), 0));
			PROMISE(std::count(again.begin(), again.end(), '\n') ==
				std::count(said.begin(), said.end(), '\n'));
		} catch (const std::exception &broken) {
			fprintf(stderr, "%s\n", broken.what());
			abort(); /* what was written is not read */
		}
	} catch (const cfs::Unfit &broken) {
		PROMISE(broken.what()[0] != '\0' && broken.line() <= lines);
	}
	return 0;
}
