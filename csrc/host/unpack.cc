/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "unpack.h"

#include "inflate.h"
#include "measure.h"
#include "verity.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace cfs
{

namespace
{

class Unpacker {
    public:
	Unpacker(const std::vector<Blob> &blobs, unsigned threads, int algorithm,
		 const Progress &progress, const Target *target, Budget &budget)
		: blobs_(blobs), threads_(threads), algorithm_(algorithm), progress_(progress),
		  target_(target), budget_(budget), layers_(blobs.size())
	{
	}

	std::vector<Layer> run()
	{
		size_t threads = std::min<size_t>(std::max(threads_, 1U), blobs_.size());

		pool_.run(
			static_cast<unsigned>(threads),
			[this](uint64_t files, uint64_t bytes) {
				copies_.hand_over(false);
				return progress_(files, bytes);
			},
			[this] { work(); });
		if (pool_.stop) /* progress wanted that */
			throw BadLayer(0, {}, ECANCELED, "");
		copies_.hand_over(true);
		return std::move(layers_);
	}

    private:
	/* What one thread needs for a file. */
	struct Worker {
		size_t number;
		Layer &layer;
		Inflate &bytes;
		TarReader &reader;
		Verity verity;
		std::vector<uint8_t> buffer = std::vector<uint8_t>(PIECE);
	};

	void work()
	{
		for (size_t number; (number = next_++) < blobs_.size() && !pool_.stop;) {
			Inflate bytes(blobs_[number], pool_.stop);
			std::vector<char> piece(PIECE);
			TarReader reader([&] {
				return std::string_view(piece.data(),
							bytes.read(piece.data(), piece.size()));
			});
			Worker worker = { number, layers_[number], bytes, reader,
					  Verity(algorithm_) };

			read(worker);
		}
	}

	void read(Worker &worker)
	{
		const char *rule = nullptr;
		std::string path, other;

		try {
			try {
				entries(worker, path);
			} catch (const BrokenTar &broken) {
				rule = broken.what();
			}
			/* What it should not be breaks rules too. */
			other = worker.bytes.other_digest();
		} catch (const std::system_error &failed) {
			throw BadLayer(worker.number, {}, failed.code().value(), "");
		}
		if (!other.empty())
			throw OtherDigest(worker.number, other);
		if (rule)
			throw BadLayer(worker.number, path, 0, rule, worker.reader.header());
	}

	/* `path`: that of what is read. */
	void entries(Worker &worker, std::string &path)
	{
		TarEntry entry;

		while (!pool_.stop && worker.reader.next(entry)) {
			path = entry.path;
			Item &item = add_item(worker.layer, entry, budget_);

			if (item.kind == Item::Kind::file && item.node.is(S_IFREG) &&
			    item.node.size)
				content(worker, item);
			path.clear();
			pool_.files++;
		}
	}

	void content(Worker &worker, Item &item)
	{
		Node &node = item.node;
		NewFile copy;
		uint64_t left = node.size;
		bool small = node.size <= SMALL, copied = target_ && !small;

		if (copied)
			copied = begin(worker, item, copy);
		while (left && !pool_.stop) {
			size_t used = 0, wanted = std::min<uint64_t>(left, worker.buffer.size());

			while (used < wanted) {
				std::string_view got = worker.reader.content(wanted - used);

				memcpy(worker.buffer.data() + used, got.data(), got.size());
				used += got.size();
			}
			if (copied)
				check(worker, item,
				      copy.put(worker.buffer.data(), used, node.size - left));
			if (small)
				node.content = worker.layer.arena.join(
					{ { reinterpret_cast<char *>(worker.buffer.data()),
					    used } });
			else
				worker.verity.add(worker.buffer.data(), used);
			left -= used;
			pool_.bytes += used;
		}
		if (small || left)
			return;
		std::string digest = worker.verity.finish();

		set_digest(digest, worker.layer.arena, node);
		if (copied)
			end({ std::string(item.path), std::move(copy), std::move(digest),
			      node.size });
	}

	void check(const Worker &worker, const Item &item, int error) const
	{
		if (error)
			throw BadLayer(worker.number, std::string(item.path), error, COPY);
	}

	/* A copy, when there are not too many that nobody has taken. False: all shall stop. */
	bool begin(const Worker &worker, const Item &item, NewFile &copy)
	{
		bool on = pool_.wait([this] {
			if (!copies_.have_room(busy_ + 1))
				return false;
			busy_++;
			return true;
		});

		if (on)
			check(worker, item, target_->files.make(copy));
		return on;
	}

	void end(Stored &&copy)
	{
		pool_.wake([&] {
			copies_.put(std::move(copy));
			busy_--;
		});
	}

	const std::vector<Blob> &blobs_;
	unsigned threads_;
	int algorithm_;
	const Progress &progress_;
	const Target *target_;
	Budget &budget_;
	std::atomic<size_t> next_ = 0;
	Pool pool_;
	std::vector<Layer> layers_;
	/* The pool's lock is on these. */
	Copies copies_{ pool_, target_ };
	size_t busy_ = 0;
};

} // namespace

Tree unpack_layers(const std::vector<Blob> &blobs, unsigned threads, const Adjustment &how,
		   const Progress &progress, const Target *target, uint64_t memory)
{
	Budget budget(memory);
	std::vector<Layer> layers =
		Unpacker(blobs, threads, how.algorithm, progress, target, budget).run();

	return merge_layers(layers, how, budget);
}

} // namespace cfs
