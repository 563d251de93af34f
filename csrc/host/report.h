/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What is said of an image: its files, in the words of composefs' own tools, and its objects. */
#ifndef CFS_HOST_REPORT_H
#define CFS_HOST_REPORT_H

#include "erofs.h"

#include <functional>
#include <string_view>
#include <vector>

namespace cfs
{

/* Takes text, a piece after the other. */
using Sink = std::function<void(std::string_view)>;

/* composefs-dump(5): a line for each name. Of several names of an inode one stands for it, and the
 * writer puts the inode where that name is: so it is the one that has it there, and the same image
 * is made of the text. composefs-info takes the first one, which is the same unless somebody wrote
 * a text by hand. */
void dump(const Image &image, const Sink &sink);

/* A line for each name at and below `path` ("" is the root, which itself has none), with where a
 * link leads and where the content of a file lies. False: nothing of that name. */
bool list(const Image &image, std::string_view path, const Sink &sink);

/* A regular file: its name, the content that the image itself has, and where else it lies. */
using FileSink = std::function<void(std::string_view, std::string_view, std::string_view)>;

/* Those of a directory, in order. What lies elsewhere in the image is not looked at. */
void files(const Image &image, std::string_view directory, const FileSink &sink);

/* Where content lies in the store: of each file, in the order of the names. */
void each_object(const Image &image, const Sink &sink);
/* Each once and in order. */
std::vector<std::string_view> objects(const Image &image);

} // namespace cfs

#endif
