/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* An image in each of its forms. What is given is filled up with zeros to whole blocks. */
#include "fuzz.h"
#include "host/report.h"

#include <algorithm>
#include <string>

namespace
{

constexpr size_t BLOCK = 4096;

struct Outcome {
	std::string text;
	bool whole = false;
};

template <typename Say> Outcome outcome(size_t size, const Say &say)
{
	Outcome found;

	try {
		say([&found](std::string_view piece) { found.text += piece; });
		found.whole = true;
	} catch (const cfs::Malformed &broken) {
		PROMISE(broken.what()[0] != '\0' && broken.offset() <= size);
	}
	return found;
}

void check(const cfs::Image &image)
{
	size_t size = image.size();
	Outcome dump, list;
	std::vector<std::string_view> objects;

	dump = outcome(size, [&](const cfs::Sink &sink) { cfs::dump(image, sink); });
	list = outcome(size, [&](const cfs::Sink &sink) { PROMISE(cfs::list(image, "", sink)); });
	(void)outcome(size, [&](const cfs::Sink &sink) { cfs::list(image, "/a", sink); });
	Outcome third = outcome(size, [&](const cfs::Sink &) { objects = cfs::objects(image); });

	for (const char *directory : { "", "/a", "/d" }) {
		Outcome files = outcome(size, [&](const cfs::Sink &) {
			cfs::files(image, directory,
				   [](std::string_view name, std::string_view content,
				      std::string_view payload) {
					   PROMISE(!name.empty() &&
						   (content.empty() || payload.empty()));
				   });
		});

		PROMISE(!dump.whole || files.whole);
	}
	/* A dump looks at all that the others do. */
	PROMISE(!dump.whole || (list.whole && third.whole));
	for (size_t i = 1; i < objects.size(); i++)
		PROMISE(objects[i - 1] < objects[i]);
	if (!dump.whole)
		return;
	PROMISE(dump.text.starts_with("/ ") && dump.text.back() == '\n');
	PROMISE(std::count(dump.text.begin(), dump.text.end(), '\n') ==
		std::count(list.text.begin(), list.text.end(), '\n') + 1);
	for (char c : dump.text)
		PROMISE(c == '\n' || (c >= ' ' && c <= '~'));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	std::string whole(reinterpret_cast<const char *>(data), size);
	/* A block of its own, so that a byte too far is seen. */
	std::vector<char> memory;

	whole.resize(std::max((size + BLOCK - 1) / BLOCK, size_t{ 1 }) * BLOCK);
	memory.assign(whole.begin(), whole.end());
	for (size_t length : { size, memory.size() }) {
		std::vector<char> exact(memory.begin(),
					memory.begin() + static_cast<ptrdiff_t>(length));

		(void)outcome(length, [&](const cfs::Sink &) {
			cfs::Image image({ exact.data(), exact.size() });
			check(image);
		});
	}
	return 0;
}
