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

constexpr cfs::Versions FIRST = { 0, cfs::VERSION_LIMIT },
			NEWEST = { cfs::VERSION_LIMIT, cfs::VERSION_LIMIT },
			RUST = { cfs::RUST_VERSION, cfs::RUST_VERSION };

/* Of memory of its own, so that a byte too far is seen. */
std::vector<char> made(cfs::Tree tree, cfs::Versions versions)
{
	cfs::Writer writer(tree, versions);
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

/* It has no place for some links. What else it takes is read, and of a copy it is the same. */
void try_rust(std::string_view text)
{
	std::vector<char> image;
	cfs::Tree tree = cfs::read_dump(text), same = tree.copy();

	try {
		image = made(std::move(same), RUST);
	} catch (const cfs::Unfit &broken) {
		PROMISE(broken.line() == 0);
		return;
	}
	PROMISE(made(std::move(tree), RUST) == image);
	(void)dumped(image);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	std::vector<char> exact(data, data + size);
	std::string_view text(exact.data(), exact.size());
	auto lines = static_cast<uint64_t>(std::count(exact.begin(), exact.end(), '\n')) + 1;

	try {
		std::vector<char> first = made(cfs::read_dump(text), FIRST);
		std::vector<char> newest = made(cfs::read_dump(text), NEWEST);
		std::string said, again;

		try {
			said = dumped(first);
			(void)dumped(newest);
			/* What is said of it makes one of which the same is said, but for marks that
			 * the writer itself gives and the reader hides. */
			again = dumped(made(cfs::read_dump(said), FIRST));
			PROMISE(std::count(again.begin(), again.end(), '\n') ==
				std::count(said.begin(), said.end(), '\n'));
			try_rust(text);
		} catch (const std::exception &broken) {
			fprintf(stderr, "%s\n", broken.what());
			abort(); /* what was written is not read */
		}
	} catch (const cfs::Unfit &broken) {
		PROMISE(broken.what()[0] != '\0' && broken.line() <= lines);
	}
	return 0;
}
