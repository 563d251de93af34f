/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Layers that are taken make an image, which the reader takes; in whatever pieces they come. And
 * an archive has the same members, whether it is read whole or by their places. */
#include "fuzz.h"
#include "host/archive.h"
#include "host/format.h"
#include "host/layers.h"
#include "host/report.h"
#include "host/writer.h"

#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

namespace
{

/* Of the longest seeds, and not of all that is made of them. */
constexpr uint64_t MEMORY = uint64_t{ 1 } << 24;
constexpr std::string_view NEXT("\0next layer\0", 12);

/* Of memory of its own, so that a byte too far is seen. */
cfs::Layer layer_of(std::string_view text, size_t piece, cfs::Budget &budget)
{
	std::vector<char> some;
	cfs::TarReader reader([&] {
		size_t size = std::min(piece, text.size());

		some.assign(text.begin(), text.begin() + static_cast<ptrdiff_t>(size));
		some.shrink_to_fit();
		text.remove_prefix(size);
		return std::string_view(some.data(), some.size());
	});
	cfs::TarEntry entry;
	cfs::Layer layer;

	while (reader.next(entry)) {
		cfs::Item &item = cfs::add_item(layer, entry, budget);
		std::string content;

		PROMISE(item.path.empty() || item.path[0] == '/');
		PROMISE(item.path.find("/../") == item.path.npos && !item.path.ends_with("/.."));
		for (std::string_view got; !(got = reader.content(7)).empty();)
			content += got;
		PROMISE(content.size() == entry.size);
		if (item.kind != cfs::Item::Kind::file || !item.node.is(S_IFREG) || content.empty())
			continue;
		if (content.size() <= 64)
			item.node.content = layer.arena.join({ content });
		else
			std::fill_n(item.node.add_digest(layer.arena, cfs::DIGEST_SIZE), cfs::DIGEST_SIZE, '\1');
	}
	return layer;
}

std::string image_of(std::string_view text, size_t piece, const cfs::Adjustment &how,
		     cfs::Versions versions)
{
	std::vector<cfs::Layer> layers;
	cfs::Budget budget(MEMORY);

	for (;;) {
		size_t end = std::min(text.size(), text.find(NEXT));

		layers.push_back(layer_of(text.substr(0, end), piece, budget));
		if (end == text.size())
			break;
		text.remove_prefix(end + NEXT.size());
	}
	cfs::Tree tree = cfs::merge_layers(layers, how, budget);
	cfs::Writer writer(tree, versions);
	std::string out(writer.size(), 'x');

	writer.write(out.data());
	return out;
}

/* What is said of it, or the rule that is broken. */
std::string made(std::string_view text, size_t piece, const cfs::Adjustment &how,
		 cfs::Versions versions = { 0, cfs::VERSION_LIMIT })
{
	std::string said;

	try {
		std::string image = image_of(text, piece, how, versions);

		try {
			cfs::dump(cfs::Image(image), [&](std::string_view some) { said += some; });
		} catch (const std::exception &broken) {
			fprintf(stderr, "%s\n", broken.what());
			abort(); /* what was written is not read */
		}
	} catch (const cfs::BrokenTar &broken) {
		said = broken.what();
	} catch (const cfs::BadLayer &broken) {
		PROMISE(broken.error() == 0);
		said = broken.what();
	} catch (const cfs::Unfit &broken) {
		said = broken.what();
	}
	PROMISE(!said.empty());
	return said;
}

/* The members, a line each, or the rule that is broken; read whole, or by their places. */
std::string listed(std::string_view text, bool skips)
{
	size_t place = 0;
	std::string said;
	auto bytes = [&] {
		std::string_view some =
			text.substr(std::min(place, text.size()), skips ? 513 : text.size());

		place += some.size();
		return some;
	};
	auto skip = [&](uint64_t size) { place += size; };

	try {
		for (const cfs::Member &one :
		     cfs::list_members(bytes, skips ? cfs::Skip(skip) : cfs::Skip(), 4)) {
			PROMISE(one.offset + one.size <= text.size());
			said += one.path + ' ' + std::to_string(one.offset) + ' ' +
				std::to_string(one.size) + ' ' + std::to_string(one.is_file) + '\n';
		}
		said += "all\n";
	} catch (const cfs::BrokenTar &) {
		said = "broken"; /* where something is cut, one says this and one that */
	}
	return said;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	std::string_view text(reinterpret_cast<const char *>(data), size);
	cfs::Adjustment plain, other;

	other.bootable = true;
	other.excluded = { "/d/*" };
	PROMISE(made(text, 4096, plain) == made(text, 100, plain));
	(void)made(text, 513, other);
	(void)made(text, 4096, plain, { cfs::RUST_VERSION, cfs::RUST_VERSION });
	PROMISE(listed(text, true) == listed(text, false));
	return 0;
}
