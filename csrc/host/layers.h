/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Layers of a container's root, one over the other, as the image specification of OCI has them
 * (layer.md): the tree is that of the directory to which they are unpacked.
 *
 * No path leads through a link, or out of the root. Nothing recurses, and memory is bounded: a layer
 * of a MB may have millions of entries, and a path of 4 KB a thousand directories.
 */
#ifndef CFS_HOST_LAYERS_H
#define CFS_HOST_LAYERS_H

#include "adjust.h"
#include "budget.h"
#include "tar.h"
#include "tree.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cfs
{

/* A layer, by its number, that cannot be read, or of which no image can be made. */
class BadLayer : public std::exception {
    public:
	BadLayer(size_t layer, std::string path, int error, const char *rule,
		 uint64_t at = 0) noexcept
		: path_(std::move(path)), rule_(rule), layer_(layer), at_(at), error_(error)
	{
	}
	/* The broken rule. With an error: what that is said of, empty where it is the layer. */
	const char *what() const noexcept override
	{
		return rule_;
	}
	size_t layer() const noexcept
	{
		return layer_;
	}
	const std::string &path() const noexcept /* of a file in it; empty: of none */
	{
		return path_;
	}
	int error() const noexcept
	{
		return error_;
	}
	uint64_t at() const noexcept /* the byte where its header begins, without a path */
	{
		return at_;
	}

    private:
	std::string path_;
	const char *rule_;
	size_t layer_;
	uint64_t at_;
	int error_;
};

/* A layer whose digest was known, and that has this one, raw. */
class OtherDigest : public std::exception {
    public:
	OtherDigest(size_t layer, std::string digest) noexcept
		: digest_(std::move(digest)), layer_(layer)
	{
	}
	const std::string &digest() const noexcept
	{
		return digest_;
	}
	size_t layer() const noexcept
	{
		return layer_;
	}

    private:
	std::string digest_;
	size_t layer_;
};

struct Item {
	enum class Kind : uint8_t { file, link, whiteout, opaque };

	std::string_view path;	 /* /a/b; "" is the root. Of a whiteout: what it takes away */
	std::string_view target; /* of a hard link, such a path */
	Node node;		 /* of a file, or whatever it is, a directory too */
	Kind kind = Kind::file;

	/* Of merge_layers(): */
	uint32_t links = 0;   /* names beside the first */
	Node *made = nullptr; /* where the first one went */
};

struct Layer {
	Layer() = default;
	Layer(Layer &&) = default;
	Layer &operator=(Layer &&) = default;

	std::deque<Item> items;
	Arena arena;
};

/* Of all layers together: what the files of an image of 1 GiB need. */
constexpr uint64_t LAYERS_MEMORY = uint64_t{ 4 } << 30;

/* What an entry says, without content, behind those that are there. BrokenTar: the budget is at its
 * end, too. */
Item &add_item(Layer &layer, TarEntry &entry, Budget &budget);

/* The first one is the lowest. They are empty then. BadLayer: as add_item() has it. Unfit: as
 * adjust() has it. */
Tree merge_layers(std::vector<Layer> &layers, const Adjustment &how, Budget &budget);

} // namespace cfs

#endif
