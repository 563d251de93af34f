/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the files of layers hold, on its way from who reads it to digests and copies. */
#ifndef CFS_HOST_CONTENTS_H
#define CFS_HOST_CONTENTS_H

#include "copies.h"
#include "helpers.h"
#include "layers.h"
#include "pool.h"
#include "verity.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace cfs
{

/* Of all layers. */
class Contents {
    public:
	/* A thread is one of `threads`. `target` may be null. */
	Contents(Pool &pool, unsigned threads, int algorithm, const Target *target);

	/* By the thread that called. As Copies has it. */
	void hand_over(bool all)
	{
		copies_.hand_over(all);
	}

	Helpers helpers;

    private:
	friend class LayerContents;

	bool reserve(bool wait);
	void put(Stored &&copy);

	Pool &pool_;
	int algorithm_;
	const Target *target_;
	size_t most_; /* of files in a parcel */
	/* The pool's lock is on these. */
	Copies copies_{ pool_, target_ };
	size_t busy_ = 0;
};

/* Of one layer, by the thread that reads it. It puts them into parcels. Each is hashed and written
 * by a helper, if there is any, and else by that thread. That one gives the files their digests, in
 * the order in which it has read them. */
class LayerContents {
    public:
	/* `number`: the layer's. */
	LayerContents(Contents &all, size_t number, Layer &layer);
	~LayerContents();
	LayerContents(const LayerContents &) = delete;
	LayerContents &operator=(const LayerContents &) = delete;

	/* What stands next in the tar file is the content of this one. BrokenTar. BadLayer: of this
	 * one, or one before it. */
	void add(Item &item, TarReader &reader);
	/* All that were added have their digests then. BadLayer. */
	void finish();

    private:
	class Parcel;

	bool begin(const Item &item, std::shared_ptr<NewFile> &copy);
	Parcel &with_room(size_t size);
	void hand_on();
	void take_one();
	bool do_one();
	void check(const Item &item, int error) const;

	Contents &all_;
	size_t number_;
	Layer &layer_;
	Verity parts_; /* of the parcels that this thread does itself */
	Verity whole_; /* of the file whose parts come back */
	std::unique_ptr<Parcel> open_;
	std::deque<std::unique_ptr<Parcel>> on_; /* what was handed on, in its order */
	std::vector<std::unique_ptr<Parcel>> empty_;
};

} // namespace cfs

#endif
