/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "inflate.h"

#include "tar.h"

#include <zlib.h>
#include <zstd.h>

#include <new>

namespace cfs
{

namespace
{

constexpr size_t PIECE = size_t{ 1 } << 18;
constexpr std::string_view GZIP = "\x1f\x8b";
constexpr std::string_view ZSTD = "\x28\xb5\x2f\xfd";
constexpr int BOTH = 15 + 16;	   /* zlib: the largest window, of gzip alone */
constexpr int WINDOW_LOG_MAX = 27; /* what zstd takes by itself */
constexpr char BROKEN[] = "what is compressed in it is broken";

} // namespace

/* A format of what is compressed. */
class Decoder {
    public:
	virtual ~Decoder() = default;
	/* How much of `in`, from which that is taken away, is now in `out`. */
	virtual size_t decode(std::string_view &in, char *out, size_t room) = 0;
	/* Not in the middle of something. */
	virtual bool at_end() const = 0;
};

namespace
{

class Gzip : public Decoder {
    public:
	Gzip()
	{
		if (inflateInit2(&stream_, BOTH) != Z_OK)
			throw std::bad_alloc();
	}
	~Gzip() override
	{
		inflateEnd(&stream_);
	}
	Gzip(const Gzip &) = delete;
	Gzip &operator=(const Gzip &) = delete;

	size_t decode(std::string_view &in, char *out, size_t room) override
	{
		int state;

		/* There may be several, one behind the other. */
		if (end_ && inflateReset(&stream_) != Z_OK)
			throw BrokenTar(BROKEN);
		/* zlib does not write there. */
		stream_.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(in.data()));
		stream_.avail_in = static_cast<uInt>(in.size());
		stream_.next_out = reinterpret_cast<Bytef *>(out);
		stream_.avail_out = static_cast<uInt>(room);
		state = inflate(&stream_, Z_NO_FLUSH);
		if (state == Z_MEM_ERROR)
			throw std::bad_alloc();
		if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR)
			throw BrokenTar(BROKEN);
		end_ = state == Z_STREAM_END;
		in.remove_prefix(in.size() - stream_.avail_in);
		return room - stream_.avail_out;
	}
	bool at_end() const override
	{
		return end_;
	}

    private:
	z_stream stream_ = {};
	bool end_ = false;
};

class Zstd : public Decoder {
    public:
	Zstd() : context_(ZSTD_createDCtx())
	{
		if (!context_ || ZSTD_isError(ZSTD_DCtx_setParameter(
					 context_.get(), ZSTD_d_windowLogMax, WINDOW_LOG_MAX)))
			throw std::bad_alloc();
	}

	size_t decode(std::string_view &in, char *out, size_t room) override
	{
		ZSTD_inBuffer input = { in.data(), in.size(), 0 };
		ZSTD_outBuffer output = { out, room, 0 };
		size_t left = ZSTD_decompressStream(context_.get(), &output, &input);

		if (ZSTD_isError(left))
			throw BrokenTar(BROKEN);
		end_ = left == 0;
		in.remove_prefix(input.pos);
		return output.pos;
	}
	bool at_end() const override
	{
		return end_;
	}

    private:
	struct Free {
		void operator()(ZSTD_DCtx *context) const
		{
			ZSTD_freeDCtx(context);
		}
	};

	std::unique_ptr<ZSTD_DCtx, Free> context_;
	bool end_ = false;
};

} // namespace

Inflate::Inflate(const Blob &blob, const std::atomic<bool> &stop) : blob_(blob, stop), in_(PIECE)
{
}

Inflate::~Inflate() = default;

/* As much as there is at a time. */
void Inflate::fill()
{
	size_t used = 0;

	while (used < in_.size()) {
		size_t got = blob_.read(in_.data() + used, in_.size() - used);

		if (got == 0)
			break;
		used += got;
	}
	rest_ = { in_.data(), used };
}

size_t Inflate::read(char *out, size_t room)
{
	if (!known_) {
		fill();
		known_ = true;
		if (rest_.starts_with(GZIP))
			decoder_ = std::make_unique<Gzip>();
		else if (rest_.starts_with(ZSTD))
			decoder_ = std::make_unique<Zstd>();
	}
	if (!decoder_) {
		size_t size = rest_.copy(out, room);

		rest_.remove_prefix(size);
		return size ? size : blob_.read(out, room);
	}
	for (;;) {
		if (rest_.empty())
			fill();
		bool is_all = rest_.empty();

		/* Of the last bytes that went in, more may come out. */
		if (is_all && decoder_->at_end())
			return 0;
		size_t size = decoder_->decode(rest_, out, room);

		if (size)
			return size;
		if (is_all)
			throw BrokenTar("it ends in the middle of what is compressed");
	}
}

} // namespace cfs
