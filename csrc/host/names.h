/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* How objects are named, and what is in a directory of them. */
#ifndef CFS_HOST_NAMES_H
#define CFS_HOST_NAMES_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

namespace cfs
{

/* The bytes that lower-case digits stand for, and how many; 0: not the name of an object. */
size_t digest_of(std::string_view digits, std::array<uint8_t, 64> &out);

/* Two lower-case digits, as the directories of objects have them. */
bool is_fan_out(std::string_view name);

/* Each name in a directory but "." and "..", and a descriptor of the directory, until it gives an
 * errno. The caller's descriptor keeps its own place. 0 or an errno. */
using TakeName = std::function<int(int directory, const char *name)>;
int each_name(int directory, const TakeName &take);

} // namespace cfs

#endif
