/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "contents.h"

#include "buffer.h"
#include "scan.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

namespace cfs
{

namespace
{

/* Parcels of a layer that are on their way: more than those that help, so that nobody waits. */
constexpr size_t ON_MOST = 8;

/* Of a file, what is in one parcel. */
struct Part {
	bool whole() const
	{
		return size == item->node.size;
	}
	bool last() const
	{
		return offset + size == item->node.size;
	}

	Item *item;
	std::shared_ptr<NewFile> copy; /* of all its parts; or none */
	uint64_t offset;	       /* in the file */
	size_t at;		       /* in the parcel */
	size_t size;

	int error = 0;		       /* of the copy */
	std::string digest{};	       /* of a whole one */
	std::vector<uint8_t> hashes{}; /* else */
};

} // namespace

/* Some files, or a part of a large one. */
class LayerContents::Parcel final : public Task {
    public:
	explicit Parcel(const Target *target) : target_(target)
	{
	}

	bool has_room(size_t size, size_t most) const
	{
		return parts.size() < most && size <= Buffer::size() - used_;
	}
	uint8_t *room() const
	{
		return buffer_.data() + used_;
	}
	/* What was put into its room. */
	void add(Item &item, std::shared_ptr<NewFile> copy, uint64_t offset, size_t size)
	{
		parts.push_back({ &item, std::move(copy), offset, used_, size });
		used_ = std::min((used_ + size + PAGE - 1) / PAGE * PAGE, Buffer::size());
	}
	void clear()
	{
		parts.clear();
		used_ = 0;
	}

	/* Up to an error. */
	void run(Verity &verity) override
	{
		for (Part &part : parts) {
			part.error = part.copy ? write(part) : 0;
			if (part.error)
				return;
			if (part.whole()) {
				verity.add(buffer_.data() + part.at, part.size);
				part.digest = verity.finish();
			} else {
				verity.hash_blocks(buffer_.data() + part.at, part.size,
						   part.hashes);
			}
		}
	}

	std::vector<Part> parts;

    private:
	/* What has several parts has been made before: several threads may write to it. */
	int write(const Part &part) const
	{
		if (part.whole()) {
			if (int error = target_->files.make(*part.copy))
				return error;
		}
		return part.copy->put(buffer_.data() + part.at, part.size, part.offset);
	}

	const Target *target_;
	Buffer buffer_;
	size_t used_ = 0;
};

Contents::Contents(Pool &pool, unsigned threads, int algorithm, const Target *target)
	: pool_(pool), algorithm_(algorithm), target_(target), most_(Buffer::size() / PAGE)
{
	/* All threads together have half of the copies at most. */
	if (target)
		most_ = std::clamp<size_t>(target->limit / (2 * (ON_MOST + 1) * threads), 1,
					   most_);
}

/* A copy, when there are not too many that nobody has taken. False: not now, or all shall stop. */
bool Contents::reserve(bool wait)
{
	bool reserved = false;
	bool on = pool_.wait([&] {
		reserved = copies_.have_room(busy_ + 1);
		if (reserved)
			busy_++;
		return reserved || !wait;
	});

	return on && reserved;
}

void Contents::put(Stored &&copy)
{
	pool_.wake([&] {
		copies_.put(std::move(copy));
		busy_--;
	});
}

LayerContents::LayerContents(Contents &all, size_t number, Layer &layer)
	: all_(all), number_(number), layer_(layer), parts_(all.algorithm_), whole_(all.algorithm_)
{
}

/* What others have is the parcels' own. */
LayerContents::~LayerContents()
{
	for (const std::unique_ptr<Parcel> &parcel : on_) {
		if (!all_.helpers.take_back(*parcel))
			all_.helpers.wait(*parcel);
	}
}

void LayerContents::check(const Item &item, int error) const
{
	if (error)
		throw BadLayer(number_, std::string(item.path), error, COPY);
}

void LayerContents::add(Item &item, TarReader &reader)
{
	const uint64_t size = item.node.size;
	std::shared_ptr<NewFile> copy;

	if (size > SMALL && all_.target_ && !begin(item, copy))
		return;
	for (uint64_t done = 0; done < size && !all_.pool_.stop;) {
		size_t more = std::min<uint64_t>(size - done, PIECE);
		Parcel &parcel = with_room(more);
		uint8_t *room = parcel.room();

		for (size_t used = 0; used < more;) {
			std::string_view got = reader.content(more - used);

			memcpy(room + used, got.data(), got.size());
			used += got.size();
		}
		if (size <= SMALL)
			item.node.content =
				layer_.arena.join({ { reinterpret_cast<char *>(room), more } });
		else
			parcel.add(item, copy, done, more);
		done += more;
		all_.pool_.bytes += more;
	}
}

/* False: all shall stop. */
bool LayerContents::begin(const Item &item, std::shared_ptr<NewFile> &copy)
{
	if (!all_.reserve(false)) {
		/* Nobody can take what waits here. */
		finish();
		if (!all_.reserve(true))
			return false;
	}
	copy = std::make_shared<NewFile>();
	if (item.node.size <= PIECE)
		return true;
	if (int error = all_.target_->files.make(*copy)) {
		finish(); /* what is wrong with one before it comes first */
		check(item, error);
	}
	return true;
}

LayerContents::Parcel &LayerContents::with_room(size_t size)
{
	if (open_ && !open_->has_room(size, all_.most_))
		hand_on();
	if (!open_) {
		while (on_.size() >= ON_MOST)
			take_one();
		if (empty_.empty())
			empty_.push_back(std::make_unique<Parcel>(all_.target_));
		open_ = std::move(empty_.back());
		empty_.pop_back();
	}
	return *open_;
}

/* What nobody else would do is done at once, as long as it is in the cache. */
void LayerContents::hand_on()
{
	on_.push_back(std::move(open_));
	if (!all_.helpers.leave(*on_.back()))
		on_.back()->run(parts_);
	while (!on_.empty() && all_.helpers.is_back(*on_.front()))
		take_one();
}

/* One that nobody has begun with. False: there is none. */
bool LayerContents::do_one()
{
	for (const std::unique_ptr<Parcel> &parcel : on_) {
		if (all_.helpers.take_back(*parcel)) {
			parcel->run(parts_);
			return true;
		}
	}
	return false;
}

/* The first one. While another thread has that, this one does what comes after it. */
void LayerContents::take_one()
{
	std::unique_ptr<Parcel> parcel;

	while (!all_.helpers.is_back(*on_.front())) {
		if (!do_one())
			all_.helpers.wait(*on_.front());
	}
	parcel = std::move(on_.front());
	on_.pop_front();
	Helpers::rethrow(*parcel);
	for (Part &part : parcel->parts) {
		check(*part.item, part.error);
		if (!part.whole())
			whole_.add_hashes(part.hashes, part.size);
		if (!part.last())
			continue;
		std::string digest = part.whole() ? std::move(part.digest) : whole_.finish();
		Node &node = part.item->node;

		set_digest(digest, layer_.arena, node);
		if (part.copy)
			all_.put({ std::string(part.item->path), std::move(*part.copy),
				   std::move(digest), node.size });
	}
	parcel->clear();
	empty_.push_back(std::move(parcel));
}

void LayerContents::finish()
{
	if (open_)
		hand_on();
	while (!on_.empty())
		take_one();
}

} // namespace cfs
