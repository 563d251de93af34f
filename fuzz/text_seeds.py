# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds for the formats that are text.

Words of the formats are written out here, so that the files change only on purpose.
"""

from itertools import product

_SHA256 = b"a1" * 32
_SHA512 = b"0f" * 64
_PREFIXES = (
    b"", b"sha256:", b"sha512:", b"fsverity-sha256-12:", b"fsverity-sha512-12:", b"md5:",
    b"fsverity-sha256-16:", b":", b"SHA256:", b"sha256", b"sha256::",
)  # fmt: skip


def digest() -> list[bytes]:
    """Every prefix with digits of every length around the right ones, and wrong characters."""
    found = [
        prefix + b"0123456789abcdef" * (size // 16) + b"f" * (size % 16)
        for prefix, size in product(_PREFIXES, (0, 1, 63, 64, 65, 127, 128, 129))
    ]
    for character in b"/:`gGFA@ \n\0\x7f\xff\xe1?.":
        for at in (0, 31, 63):
            digits = bytearray(_SHA256)
            digits[at] = character
            found.append(bytes(digits))
    # As a struct: algorithm, size, bytes.
    for algorithm, size in product(range(4), (0, 1, 31, 32, 33, 64, 65, 0xFFFF)):
        found.append(bytes([algorithm, 0]) + size.to_bytes(2, "little") + b"\xab" * 64)
    return found


def payload() -> list[bytes]:
    """Right ones with 1 to 32 digests and padding; each part wrong alone."""
    line = b"rootfs=fsverity-sha256-12:%s\n"
    long_line = b"rootfs=fsverity-sha512-12:%s\n" % _SHA512
    first = b"cfsdig1\n"
    good = first + line % _SHA256
    many = [line % (b"%02x" % number * 32) for number in range(40)]
    found = [first + b"".join(many[:count]) for count in range(40)]
    found += [first + long_line, first + long_line + many[0], first + long_line * 2]
    found += [good + b"\0" * size for size in (1, 100, 16384 - len(good), 16385 - len(good))]
    found += [good + tail for tail in (b"\0x", b"\n", b" ", b"#", b"x", b"x=y\n", b"insecure=1\n")]
    keys = (b"rootfs", b"Rootfs", b"root", b"", b" rootfs", b"rootfs ", b"insecure", b"\xc3\xa9")
    found += [first + key + b"=fsverity-sha256-12:" + _SHA256 + b"\n" for key in keys]
    found += [first + b"rootfs=" + prefix + _SHA256 + b"\n" for prefix in _PREFIXES]
    found += [first + b"rootfs=" + prefix + _SHA512 + b"\n" for prefix in _PREFIXES]
    named = b"%s=fsverity-sha256-12:" + _SHA256 + b"\n"
    for key in (b"a", b"9.x_y-z", b"", b".a", b"A", b"a" * 64, b"a" * 65, b"a/b", b"app"):
        found += [good + named % (kind + b"." + key) for kind in (b"sysext", b"confext", b"app")]
    ordered = [good, *(named % key for key in (b"confext.b", b"initrd", b"sysext.a", b"sysext.b"))]
    found += [b"".join(ordered), b"".join(ordered[::-1]), b"".join(ordered + ordered[1:])]
    found += [first + named % b"sysext.a" + line % _SHA256, first + named % b"sysext.a"]
    found += [good + b"".join(named % (b"sysext.%02d" % i) for i in range(n)) for n in (64, 65)]
    starts = (b"", b"cfsdig2\n", b"cfsdig1", b"cfsdig1\r\n", b"\n" + first, b"\xef\xbb\xbf" + first)
    found += [start + line % _SHA256 for start in starts]
    for byte in (0, 9, 13, 0x1B, 0x7F, 0x80, 0xFF, 0x41, 0x2F, 0x3A):
        at = len(good) - 2
        found.append(good[:at] + bytes([byte]) + good[at + 1 :])
    found += [b"", b"\0", b"\0" * 16384, b"\0" * 16385, b"\n", b"=\n", first, first * 2]
    return [*found, *(good[:size] for size in range(0, len(good), 9))]


_KEYS = (
    "store digest-source uki failure sysroot-readonly failure-delay root-wait var-size profile"
    " measure-nvpcr state-etc initrd-device"
).split()
_VALUES = [
    *"yes no YES 0 1 00 10 3600 3601 9999 99999 -1 +1 1_0 / /a /a/b-c a // /a/ /./a /a/..".split(),
    *"carried cmdline compare require off reboot poweroff shell any 50% bootc".split(),
    *("", " /a", "x" * 300),
]


def config() -> list[bytes]:
    """Each key with each value that it has, and with others."""
    first = b"cfsconf1\n"
    found = [first, b"", b"cfsconf2\n", b"cfsconf1", first + b"store=/c\nuki=off\nvar=no\n"]
    for key in _KEYS:
        lines = [f"{key}={value}\n" for value in _VALUES]
        lines += [f"{key}\n", f"{key}=yes\n{key}=yes\n", f"{key}=/a\n{key}=/a\n"]
        lines += [f"{key.upper()}=yes\n", f"{key.replace('-', '_')}=no\n"]
        found += [first + line.encode() for line in lines]
    found += [first + b"store=" + byte + b"\n" for byte in (b"\t", b"\x7f", b"\xe9")]
    return found


def cmdline() -> list[bytes]:
    """Short words of the characters that matter, lines as they are, digests in all spellings."""
    found = [
        b"", b"quiet", b"root=/dev/vda1 ro", b"a=b=c", b"=a", b"=", b'a="b c" d', b'"a=b c" d',
        b'"a b"=c', b'a=b" "c', b'a="b"c', b'a=""', b'a="', b'"', b'""', b'"" a', b"a -- b c=d",
        b"--", b"-- --", b'a "--" b', b"a --b", b"a --=x", b"-- a -- b", b'-- "b c" d="e f"',
        b"a\xa0b", b"a=\xc3\xa9", b"a=\xc3\xa0b", b"\xff\xfe", b"a\0b", b"a\tb\nc\vd\fe\rf",
        b"a-b_c=1 a_b-c=2", b"a" * 4000, b"a " * 1000, b'"' * 99, b"x=" + b'"y ' * 50,
        b"BOOT_IMAGE=/vmlinuz root=UUID=1234 rw quiet splash console=ttyS0,115200n8 -- single",
        b'dyndbg="file drivers/usb/* +p" rd.luks.name=a=b init=/sbin/init',
    ]  # fmt: skip
    for word in product(b'a"= ', repeat=3):
        found.append(bytes(word))
    sha256 = _SHA256
    for key in (b"composefs", b"composefs.digest", b"composefs-digest", b"Composefs"):
        for value in (
            b"", b"=", b"=?", b"=?" + sha256, b"=" + sha256, b"=" + _SHA512, b"=" + sha256[1:],
            b"=v1-sha256-12:" + sha256, b"=v2-sha512-12:" + _SHA512, b"=v3-sha256-12:" + sha256,
            b"=v1-sha256-16:" + sha256, b"=sha256:" + sha256, b"=v1-", b'="' + sha256 + b'"',
        ):  # fmt: skip
            found.append(key + value)
    one, other = b"composefs=" + sha256, b"composefs=" + b"b2" * 32
    pairs: tuple[tuple[bytes, ...], ...] = (
        (one, one),
        (one, other),
        (one, b"composefs.digest=v1-sha256-12:" + sha256),
    )
    long_one = b"composefs.digest=v1-sha512-12:" + _SHA512
    pairs += (
        (other, long_one, one),
        (one, other, one),
        (b"composefs", one),
        (long_one, b"composefs"),
    )
    found += [b"ro " + b" ".join(pair) + b" quiet" for pair in pairs]
    return [*found, b"a -- " + one, b'"' + one + b" ro"]


_DEP = b"kernel/a-x.ko.xz: kernel/b.ko.xz k/c.ko.xz\nkernel/b.ko.xz: k/c.ko.xz\nk/c.ko.xz:\n"
_ALIAS = b"alias pci:v00001AF4d*sv*sd*bc01sc[0-8]*i* virtio-pci\nalias fs-erofs erofs\n"
_SOFTDEP = b"softdep b pre: sha256 c post: d\n"
_DEVICE = b"pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00\nfs-erofs"


def modules() -> list[bytes]:
    """Tables as depmod writes them and not; every shape of pattern."""
    deps = [
        _DEP, b"", b"a.ko:", b"a.ko", b":", b"a.ko: a.ko", b"a.ko: b.ko\nb.ko: a.ko\n", b"# x\n",
        b"a.ko: b.ko b.ko\nb.ko:\na.ko: c.ko\n", b"/abs/a-b.ko: ../c.ko", b"a.ko: missing.ko",
        b"a: b c d\nb: c d\nc: d\nd:", b"\xff.ko: \xfe.ko", b"a.ko:\0b", b"a/: /b/ //",
        b"".join(b"m%d.ko: m%d.ko\n" % (n, n + 1) for n in range(60)),
        b"a.ko: " + b"b.ko " * 300,
    ]  # fmt: skip
    aliases = [
        _ALIAS, b"alias", b"alias a", b"alias a b c", b"alias * m", b"aliass a b", b"alias - -",
        b"# alias a b", b"alias a-b[c-d]-e m-n\n" * 3, b"alias \xff m",
    ]  # fmt: skip
    softdeps = [
        _SOFTDEP, b"softdep", b"softdep a", b"softdep a pre:", b"softdep a b", b"softdep a post: b",
        b"softdep a-b pre: c-d e pre: f post: g pre: h\nsoftdep a-b pre: i", b"pre: softdep a b",
    ]  # fmt: skip
    patterns = [
        *rb"* ** ? [ [] []] []a] [a [!a] [^a] [!] [!]] [a-] [-a] [a-c] [c-a] [a-b-c] [--z]".split(),
        *rb"a*b*c *a a* *[a-z]* - _ [_-] \* [\]] a?b[0-9]*c [[] [*] ] [a]-[b] fs-erofs".split(),
        *(b"*" * 90 + b"b", b"a*" * 60 + b"b", b"pci:v*d*sv*sd*bc01sc08i02*"),
    ]
    texts = b"a\nb\nabc\naXbXc\n-\n_\n]\n[\n!\na-b\na0b9xc\n" + b"a" * 100
    found = [_tables(dep=dep) for dep in deps] + [_tables(alias=alias) for alias in aliases]
    found += [_tables(softdep=softdep) for softdep in softdeps]
    found += [_tables(alias=b"alias " + pattern + b" m", devices=texts) for pattern in patterns]
    inside = b"x\nxy\nxay\nxy]y"
    found += [_tables(alias=b"alias x%by m" % pattern, devices=inside) for pattern in patterns]
    return [*found, b"\n--\n", b"\n--\n" * 5, _DEP, b"\xff" * 20]


def _tables(
    dep: bytes = b"", alias: bytes = b"", softdep: bytes = b"", devices: bytes = _DEVICE
) -> bytes:
    return b"\n--\n".join((dep, alias, softdep, devices))


def modprobe() -> list[bytes]:
    """Each word with too little, enough and too much behind it; words with a dot in every place."""
    rests = (
        b"", b" ", b" a", b" a-b c-d=e", b" a b=1 c", b'  a\tb="c  d" ', b" a b\\\nc", b" a b\0",
        b" a pre: b-c post: d pre:", b" a pre: post:", b" a /bin/false",
    )  # fmt: skip
    verbs = (b"options", b"blacklist", b"install", b"softdep", b"alias", b"#options", b"")
    found = [verb + rest + b"\n" for verb in verbs for rest in rests]
    sizes = (4094, 4095, 4096, 5000)
    found += [b"options a " + b"x" * size + b"\noptions a y\n" for size in sizes]
    words = (
        b"a.b", b"a.b=c", b"a-b.c-d=e", b"a.b=c.d", b"a.b.c=d", b".a=b", b"a.=b", b"a.", b".",
        b"a=b.c",
        b'a.b="c d"', b'"a.b=c d"', b'"a.b"', b'a.b=c" "d', b'a."b=c"', b'a."b c"=d', b'"a"."b"=c',
        b'"a b.c=d"', b'""a.b=c', b'"a.b="c""', b'a.b="c d', b"=a.b=c", b"a.--", b"a.--=b",
        b"a.b -- a.c",
        b"\xff.\xfe=\xfd", b"a\xa0.b", b"a.\xa0b=c", b"modprobe.blacklist=a,b-c",
        b"modprobe.blacklist modprobe.blacklist=,,a",
        b"a.b=1 a.b=2 a-.c",
        b"a.b=" + b"x" * 4096,
    )  # fmt: skip
    found += [b"\n--\n" + word for word in words]
    return [*found, b"options a b\n--\na.c", b"\n--\n" * 3]


def nvpcr_message() -> list[bytes]:
    """Answers of systemd 262; cut; with white space; what no one should say."""
    names = (b"io.systemd.PCRExtend.NoSuchNvPCR", b"io.systemd.PCRExtend.NvPCRSpaceExhausted")
    system = b'{"error":"io.systemd.System","parameters":{"errno":95,"errnoName":"EOPNOTSUPP"}}'
    done = b'{"parameters":{}}'
    return [
        *(done[:size] for size in range(len(done) + 1)),
        *(b'{"error":"%s","parameters":{}}' % name for name in names),
        *(
            b"{}",
            b"",
            b' { "parameters" : {\n} }\t',
            b'{"parameters":{"a":1}}',
            done + b"\0",
            system,
        ),
        *(system[:size] for size in range(len(system))),
        *(b'{"error":"%s"}' % name for name in (b"", b"\xff", b"a" * 81, b"a.b", b"a b")),
        b'{"error":"a","parameters":{"errnoName":"E\x1b"}}',
    ]


def mountinfo() -> list[bytes]:
    """Lines of many file systems; fields that lack, escapes right and wrong."""
    kinds = (
        b"overlay cfs rw,lowerdir+=/a,datadir+=/b,redirect_dir=on,metacopy=on,verity=require",
        b"erofs /dev/loop0 ro,user_xattr,acl,cache_strategy=readaround",
        b"ext4 /dev/vda2 rw",
        b"tmpfs tmpfs rw,size=100k,mode=755,inode64",
        b"fuse.a-b x rw,user_id=0",
        b"nfs4 h:/a rw,addr=::1",
        b"proc proc rw",
    )
    targets = (
        *(b"/", b"/run/a b", b"/\xc3\xa9", b"/\xff", b"/a#b", b"/x\\y", b"/t\tn\n", b"/a - b"),
        b"",
    )
    found = [
        b"%d 1 0:%d / %s ro,nosuid,relatime shared:1 master:2 - %s\n"
        % (20 + at, at, _escaped(target), kind)
        for kind in kinds
        for at, target in enumerate(targets)
    ]
    line = b"36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
    words = line.split(b" ")
    found += [b" ".join(words[:at] + words[at + 1 :]) for at in range(len(words))]
    found += [b" ".join([*words[:at], b"", *words[at:]]) for at in range(len(words) + 1)]
    escapes = rb"\040 \ \0 \04 \400 \777 \8 \-1 \+12 \1_0 \134040".split()
    for escape in (*escapes, b"\\ 12"):
        found += [line.replace(b"/mnt", b"/m" + escape), line.replace(b"ext3", b"e" + escape)]
    for number in (b"", b"-1", b"+1", b"1_0", b" 1", b"x", b"9" * 30, b"9" * 5000, b"\xd9\xa3"):
        found.append(line.replace(b"36", number, 1))
    return [*found, b"", b"\n", b"\n\n", line, line + b"\n" + line, line + b"\r\n", b"\0", b" - "]


def _escaped(name: bytes) -> bytes:
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)


_MOUNT_OPTIONS = [
    *b"nosuid nodev noexec noatime nodiratime defaults auto noauto nofail _netdev nouser".split(),
    *b"nogroup suid dev exec atime relatime norelatime diratime async loud silent owner".split(),
    *b"noowner group user users comment _rnetdev ro rw ro,rw digest digest= image=/i".split(),
    *b"image= image verity=off verity=require verity=no verity upperdir=/u workdir=/w".split(),
    *b"unknown x-a=b X-mount.mkdir , upperdir=/u,workdir=/w rw,upperdir=/u,workdir=/w".split(),
    *b"image=/a,image=/b ro,upperdir=/u,workdir=/w = \xff comment=a=b ro=1".split(),
    b"noexec,nosuid,nodev,rw",
    b"",
    *b"remount,ro,nosuid remount,bind,ro remount,rw,noatime,suid context=x rbind user=me".split(),
    *b"sync,upperdir=/u,workdir=/w dirsync sync,ro bind nosymfollow,symfollow strictatime".split(),
    *rb"""image="a,b" image="a image=a\,b image="a\"b" image=a\ """.split(),
    b'upperdir="/u,v",workdir=/w',
]
_ARGUMENTS = (
    *"-s -f -n -v -sfnv -x - -- -N -N\0ns -t -t\0cfs -o third -o\0unknown\0-s".split(" "),
)
_NAMES = (
    "--object-store --image --upperdir --workdir --dry-run --json --verbose -v --ro --rw --verity "
    "--digest --help --x -x"
).split()


def image_list() -> list[bytes]:
    """Right ones with both digests and stores; each part wrong alone."""
    first = b"cfsimg1\n"
    digest_line = b"digest=fsverity-sha256-12:" + _SHA256 + b"\n"
    good = first + digest_line
    found = [first + b"digest=" + prefix + _SHA256 + b"\n" for prefix in _PREFIXES]
    found += [first + b"digest=" + prefix + _SHA512 + b"\n" for prefix in _PREFIXES]
    stores = (b"/", b"/a", b"/a/b", b"//", b"/..", b"a", b"", b" /a", b"/a b", b"/" + b"s" * 300)
    found += [good + b"store=" + store + b"\n" for store in stores]
    found += [first + b"store=" + store + b"\n" + digest_line for store in stores]
    found += [
        good + tail for tail in (digest_line, b"\n", b" ", b"#", b"x", b"x=y\n", b"\0", b"=\n")
    ]
    found += [good + b"store=/a\n" * 2, good + b"Store=/a\n", first, b"", first[:-1], good[:-1]]
    starts = (b"", b"cfsimg2\n", b"cfsimg1", b"cfsimg1\r\n", b"\n" + first, b"cfsdig1\n")
    found += [start + digest_line for start in starts]
    for byte in (0, 9, 13, 0x1B, 0x7F, 0x80, 0xFF, 0x41, 0x2F, 0x3A):
        for at in (0, 7, 8, 15, len(good) - 2):
            found.append(good[:at] + bytes([byte]) + good[at + 1 :])
    users = (b"yes", b"no", b"", b"Yes", b"1", b"yes ", b"yes\nusers=no", b"yes\nstore=/a")
    found += [good + b"users=" + word + b"\n" for word in users]
    return found + _image_names()


def _image_names() -> list[bytes]:
    """Lists of names: right ones, in order or not, and names that are none."""
    first, value = b"cfsapp1\n", b"=" + _PREFIXES[3] + _SHA256 + b"\n"
    names = (b"a", b"0", b"a.b", b"a-b_c", b"a" * 64, b"a" * 65, b"A", b".a", b"-a", b"a.raw")
    found = [first + name + value for name in (*names, b"a.v", b"a/b", b"", b" a", b"a\0")]
    orders = (b"ab", b"ba", b"aa", b"abc", b"acb", b"0a")
    found += [first + b"".join(bytes([each]) + value for each in order) for order in orders]
    found += [first + b"a=" + prefix + _SHA512 + b"\n" for prefix in _PREFIXES]
    return [*found, first, first[:-1], b"cfsapp2\n", first + b"a" + value[:-1], first + b"a\n"]


def mount_options() -> list[bytes]:
    """Each mount option alone and with what it belongs to; the programs' own arguments."""
    start, digest_option = (b"/s", b"/t", b"-o"), b"digest=" + _SHA256
    good = (*start, digest_option)
    found: list[tuple[bytes, ...]] = []
    found += [(*start, b",".join((digest_option,) * count)) for count in (2, 3)]
    found += [(*start, digest_option + b"," + value) for value in _MOUNT_OPTIONS]
    found += [(*start, b"digest=" + prefix + _SHA256) for prefix in _PREFIXES]
    found += [(*good, more.encode()) for more in _ARGUMENTS]
    found += [good[:count] for count in range(5)]
    found += [(*start, b"remount,nodev"), (*start, b"remount,upperdir=/u")]
    command = (b"--object-store", b"/s", b"--digest", _SHA256)
    values = ("", "=", "=v", "\0v", "\0off", "=require")
    for name, value in product(_NAMES, values):
        found.append((*command, (name + value).encode(), b"/t"))
    both = (b"--upperdir", b"/u", b"--workdir=/w")
    found += [(*command, *both, flag, b"/t") for flag in (b"--ro", b"--rw", b"-v")]
    found += [(*command, b"--ro", b"--rw", b"/t"), (*command, b"--", b"-t"), command]
    found += [(*command, b"a", b"b"), (b"", b""), (b"-",)]
    for named in (b"--name=a", b"--name\0a-b.c", b"--name=A", b"--name=", b"--name"):
        found += [(named, b"/t"), (*command, named, b"/t"), (named, b"--verity=off", b"/t")]
    found.append((b"--name=a", *both, b"--object-store=/s", b"/t"))
    for word in b"name=a name=a,suid name=a,remount name=a,image=/i name name=/".split():
        found += [(*start, word), (*start, digest_option + b"," + word)]
    return [b"\0".join(arguments) for arguments in found]


def varlink() -> list[bytes]:
    """Right calls; each key of each kind, twice, and one too many; what is nearly JSON."""
    name = b'{"method":"io.cfs.Mount.Mount"'
    good = name + b',"parameters":{"name":"editor"}}'
    values = (
        b"null", b"true", b"false", b"0", b"-1.5e3", b"1e999", b"NaN", b"-Infinity", b'""',
        b'"a.B"', b"[]", b"{}", b'{"name":"a"}', b'{"name":1}', b'"\\u0000"', b'"\\ud800"',
        b'"\xc3\xa9"',
    )  # fmt: skip
    keys = (b"method", b"parameters", b"more", b"oneway", b"upgrade", b"other", b"")
    found = [good, name + b"}", b" " + good + b"\n", good + b"x", good[:-1], good + good]
    found += [name + b',"' + key + b'":' + value + b"}" for key, value in product(keys, values)]
    found += [b'{"method":' + value + b"}" for value in values]
    found += [name + b',"parameters":{"' + key + b'":1,"":{"' + key + b'":2}}}' for key in keys]
    found += [name + b',"parameters":{"x":1,"x":1}}', *values]
    found += [name + b',"parameters":{"x":' + value + b"}}" for value in values]
    for byte in (0, 9, 13, 0x1B, 0x22, 0x5C, 0x7B, 0x7F, 0x80, 0xFF):
        found += [good[:at] + bytes([byte]) + good[at + 1 :] for at in (0, 1, 4, 20)]
    deep = (
        b"[" * 4000,
        b'{"":' * 1000,
        name + b',"parameters":{"x":' + b"[" * 90 + b"]" * 90 + b"}}",
    )
    long = [name + b',"parameters":{"name":"' + b"a" * size + b'"}}' for size in (4040, 4041, 4500)]
    utf16 = [good.decode("ascii").encode(encoding) for encoding in ("utf-16", "utf-8-sig")]
    return [*found, *deep, *long, *utf16, b"", b"9" * 4096]
