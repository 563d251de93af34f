/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "inflate.h"

#include "tar.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include <new>

namespace cfs
{

namespace
{

constexpr size_t PIECE = size_t{ 1 } << 18;
constexpr std::string_view GZIP = "\x1f\x8b";
constexpr std::string_view ZSTD = "\x28\xb5\x2f\xfd";
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

/* ISA-L leaves something in the upper halves of the vector registers. As long as it is there, some
 * processors take several times as long for each instruction of SSE, and those of SHA are such. */
#ifdef __x86_64__
__attribute__((target("avx"))) void zero_upper_halves()
{
	_mm256_zeroupper();
}

void clean_registers()
{
	if (__builtin_cpu_supports("avx"))
		zero_upper_halves();
}
#else
void clean_registers()
{
}
#endif

/* ISA-L takes a block in whose set of codes some are missing, which zlib refuses. The sum and the
 * size at the end hold of that too. */
class Gzip : public Decoder {
    public:
	Gzip()
	{
		isal_inflate_init(&stream_);
		stream_.crc_flag = ISAL_GZIP_NO_HDR_VER;
		isal_gzip_header_init(&header_);
	}

	size_t decode(std::string_view &in, char *out, size_t room) override
	{
		/* There may be several, one behind the other. */
		if (at_end()) {
			isal_inflate_reset(&stream_);
			isal_gzip_header_init(&header_);
			in_body_ = false;
		}
		/* ISA-L does not write there. */
		stream_.next_in = reinterpret_cast<uint8_t *>(const_cast<char *>(in.data()));
		stream_.avail_in = static_cast<uint32_t>(in.size());
		stream_.next_out = reinterpret_cast<uint8_t *>(out);
		stream_.avail_out = static_cast<uint32_t>(room);
		if (!in_body_)
			in_body_ = read_header();
		if (in_body_) {
			int result = isal_inflate(&stream_);

			clean_registers();
			if (result < 0)
				throw BrokenTar(BROKEN);
		}
		in.remove_prefix(in.size() - stream_.avail_in);
		return room - stream_.avail_out;
	}
	bool at_end() const override
	{
		return stream_.block_state == ISAL_BLOCK_FINISH;
	}

    private:
	/* False: the header goes on in the next piece. isal_inflate() by itself would forget the part
	 * that it has read. */
	bool read_header()
	{
		int result = isal_read_gzip_header(&stream_, &header_);

		if (result == ISAL_END_INPUT)
			return false;
		if (result != ISAL_DECOMP_OK || header_.flags & RESERVED)
			throw BrokenTar(BROKEN);
		return true;
	}

	/* RFC 1952: these flags must be zero, and a reader refuses others. ISA-L does not. */
	static constexpr uint32_t RESERVED = 0xe0;

	struct inflate_state stream_ = {};
	struct isal_gzip_header header_ = {};
	bool in_body_ = false;
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
