/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "unpack.h"

#include "buffer.h"
#include "contents.h"
#include "inflate.h"
#include "verity.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
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
		: blobs_(blobs), threads_(std::max(threads, 1U)), algorithm_(algorithm),
		  progress_(progress), budget_(budget), layers_(blobs.size()),
		  contents_(pool_, threads_, algorithm, target)
	{
	}

	std::vector<Layer> run()
	{
		pool_.run(
			useful(),
			[this](uint64_t files, uint64_t bytes) {
				contents_.hand_over(false);
				return progress_(files, bytes);
			},
			[this] { work(); });
		if (pool_.stop) /* progress wanted that */
			throw BadLayer(0, {}, ECANCELED, "");
		contents_.hand_over(true);
		return std::move(layers_);
	}

    private:
	/* How many threads: little is read before others have started. */
	unsigned useful() const
	{
		uint64_t most = blobs_.size();

		for (const Blob &blob : blobs_) {
			if (blob.offset < 0)
				return threads_; /* nobody knows how much will come */
			most += blob.size / PIECE;
		}
		return static_cast<unsigned>(std::clamp<uint64_t>(most, 1, threads_));
	}

	/* A layer after the other; then it helps those that have one. */
	void work()
	{
		std::optional<Helpers::Working> working(std::in_place, contents_.helpers);
		Verity verity(algorithm_);

		for (size_t number; (number = next_++) < blobs_.size() && !pool_.stop;)
			read(number);
		working.reset();
		contents_.helpers.help(verity);
	}

	void read(size_t number)
	{
		Inflate bytes(blobs_[number], pool_.stop);
		std::vector<char> piece(PIECE);
		TarReader reader([&] {
			return std::string_view(piece.data(),
						bytes.read(piece.data(), piece.size()));
		});
		LayerContents contents(contents_, number, layers_[number]);
		const char *rule = nullptr;
		std::string path, other;
		int error = 0;

		try {
			entries(number, reader, contents, path);
		} catch (const BrokenTar &broken) {
			rule = broken.what();
		} catch (const std::system_error &failed) {
			error = failed.code().value();
		}
		/* What is wrong with a file comes before what is wrong with those behind it. */
		contents.finish();
		try {
			/* What it should not be breaks rules too. */
			if (!error)
				other = bytes.other_digest();
		} catch (const std::system_error &failed) {
			error = failed.code().value();
		}
		if (error)
			throw BadLayer(number, {}, error, "");
		if (!other.empty())
			throw OtherDigest(number, other);
		if (rule)
			throw BadLayer(number, path, 0, rule, reader.header());
	}

	/* `path`: that of what is read. */
	void entries(size_t number, TarReader &reader, LayerContents &contents, std::string &path)
	{
		TarEntry entry;

		while (!pool_.stop && reader.next(entry)) {
			path = entry.path;
			Item &item = add_item(layers_[number], entry, budget_);

			if (item.kind == Item::Kind::file && item.node.is(S_IFREG) &&
			    item.node.size)
				contents.add(item, reader);
			path.clear();
			pool_.files++;
		}
	}

	const std::vector<Blob> &blobs_;
	unsigned threads_;
	int algorithm_;
	const Progress &progress_;
	Budget &budget_;
	std::atomic<size_t> next_ = 0;
	Pool pool_;
	std::vector<Layer> layers_;
	Contents contents_;
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
