/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "helpers.h"

#include <algorithm>

namespace cfs
{

Helpers::Working::Working(Helpers &helpers) : helpers_(helpers)
{
	std::lock_guard<std::mutex> lock(helpers_.mutex_);

	helpers_.working_++;
}

Helpers::Working::~Working()
{
	std::lock_guard<std::mutex> lock(helpers_.mutex_);

	helpers_.working_--;
	helpers_.left_.notify_all();
}

bool Helpers::leave(Task &task)
{
	std::lock_guard<std::mutex> lock(mutex_);

	if (helping_ == 0)
		return false;
	tasks_.push_back(&task);
	task.state_ = Task::State::left;
	left_.notify_one();
	return true;
}

bool Helpers::take_back(Task &task)
{
	std::lock_guard<std::mutex> lock(mutex_);

	if (task.state_ != Task::State::left)
		return false;
	tasks_.erase(std::find(tasks_.begin(), tasks_.end(), &task));
	task.state_ = Task::State::mine;
	return true;
}

bool Helpers::is_back(const Task &task)
{
	std::lock_guard<std::mutex> lock(mutex_);

	return task.state_ == Task::State::mine;
}

void Helpers::wait(const Task &task)
{
	std::unique_lock<std::mutex> lock(mutex_);

	done_.wait(lock, [&task] { return task.state_ == Task::State::mine; });
}

void Helpers::rethrow(const Task &task)
{
	if (task.failure_)
		std::rethrow_exception(task.failure_);
}

/* Says that the last one is done, and takes the next one. False: nobody works any more. */
bool Helpers::next(Task *&task)
{
	std::unique_lock<std::mutex> lock(mutex_);

	if (task) {
		task->state_ = Task::State::mine;
		done_.notify_all();
	} else {
		helping_++;
	}
	left_.wait(lock, [this] { return !tasks_.empty() || working_ == 0; });
	if (tasks_.empty()) {
		helping_--;
		return false;
	}
	task = tasks_.front();
	tasks_.pop_front();
	task->state_ = Task::State::taken;
	return true;
}

void Helpers::help(Verity &verity)
{
	for (Task *task = nullptr; next(task);) {
		try {
			task->run(verity);
		} catch (...) {
			task->failure_ = std::current_exception();
		}
	}
}

} // namespace cfs
