/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Threads that have no work of their own (any more), and do some of the others'. */
#ifndef CFS_HOST_HELPERS_H
#define CFS_HOST_HELPERS_H

#include "verity.h"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>

namespace cfs
{

/* What one thread may do for another one, whose it is. It waits for nobody. */
class Task {
    public:
	/* With what the thread has that does it. */
	virtual void run(Verity &verity) = 0;

    protected:
	Task() = default;
	Task(const Task &) = delete;
	Task &operator=(const Task &) = delete;
	~Task() = default;

    private:
	friend class Helpers;

	enum class State : uint8_t { mine, left, taken };

	State state_ = State::mine;
	std::exception_ptr failure_; /* of who helped */
};

class Helpers {
    public:
	/* As long as one of them is there, its thread may leave tasks. */
	class Working {
	    public:
		explicit Working(Helpers &helpers);
		~Working();
		Working(const Working &) = delete;
		Working &operator=(const Working &) = delete;

	    private:
		Helpers &helpers_;
	};

	/* Of a thread that does not work any more: does what others leave, until none works. */
	void help(Verity &verity);

	/* False: nobody would do it, and it is still the caller's. */
	bool leave(Task &task);
	/* What nobody has taken is the caller's again, who does it. */
	bool take_back(Task &task);
	/* Has another one done it, or never had it? */
	bool is_back(const Task &task);
	/* Until it is. */
	void wait(const Task &task);
	/* What who did it threw is thrown here. */
	static void rethrow(const Task &task);

    private:
	bool next(Task *&task);

	std::mutex mutex_;
	std::condition_variable left_;
	std::condition_variable done_;
	std::deque<Task *> tasks_;
	size_t working_ = 0;
	size_t helping_ = 0;
};

} // namespace cfs

#endif
