#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Called by OSS-Fuzz and ClusterFuzzLite with CC, CFLAGS, LIB_FUZZING_ENGINE and OUT set: each
# harness as an executable in $OUT, with its seeds and its dictionary beside it.
set -eu

pip3 install .

core=()
for source in csrc/parse/*.c csrc/system/*.c; do
	object=$WORK/$(basename "$source").o
	# shellcheck disable=SC2086 # a list of flags
	$CC $CFLAGS -std=gnu17 -Icsrc -c "$source" -o "$object"
	core+=("$object")
done

for source in fuzz/c/{authenticode,canary,digest,eventlog,image,merkle,pe,proof,sha}.c; do
	name=$(basename "$source" .c)
	mutator=()
	[ ! -e "fuzz/c/${name}_mutator.c" ] || mutator=("fuzz/c/${name}_mutator.c")
	objects=()
	for part in "$source" "${mutator[@]}"; do
		object=$WORK/fuzz-$(basename "$part").o
		# shellcheck disable=SC2086
		$CC $CFLAGS -std=gnu17 -Icsrc -c "$part" -o "$object"
		objects+=("$object")
	done
	# shellcheck disable=SC2086
	$CXX $CXXFLAGS "${objects[@]}" "${core[@]}" $LIB_FUZZING_ENGINE -o "$OUT/fuzz_$name"
done

for source in fuzz/c/*.cc; do
	name=$(basename "$source" .cc)
	more=()
	[ "$name" != inflate ] || more=(csrc/host/{blob,inflate}.cc -lcrypto -lisal -lz -lzstd
		"-Wl,-rpath,\$ORIGIN/lib")
	# shellcheck disable=SC2086
	$CXX $CXXFLAGS -std=c++20 -Icsrc "$source" \
		csrc/host/{adjust,archive,dump,erofs,layers,report,tar,tree,writer}.cc \
		"${more[@]}" $LIB_FUZZING_ENGINE -o "$OUT/fuzz_$name"
done
# Where it runs there are none.
mkdir -p "$OUT/lib"
ldd "$OUT/fuzz_inflate" | sed -n 's/.* => \(.*lib\(crypto\|isal\|z\|zstd\)[.]so[^ ]*\) .*/\1/p' |
	xargs cp -Lt "$OUT/lib"

for harness in fuzz/harness/[a-z]*.py; do
	name=$(basename "$harness" .py)
	# Bundled as a program of its own: the one that takes the parser's name is of no use there.
	cat >"fuzz_$name.py" <<-END
		import sys
		import atheris
		with atheris.instrument_imports(include=["pyinit.initrd", "pyinit.host.mountd"]):
		    from fuzz.harness.$name import check
		atheris.Setup(sys.argv, check)
		atheris.Fuzz()
	END
	compile_python_fuzzer "fuzz_$name.py" --hidden-import _cfs
done

for seeds in fuzz/seeds/*; do
	name=$(basename "$seeds")
	inputs=("$seeds")
	[ ! -d "fuzz/crashes/$name" ] || inputs+=("fuzz/crashes/$name")
	python3 -m zipfile -c "$OUT/fuzz_${name}_seed_corpus.zip" "${inputs[@]}"
	cp "fuzz/dictionaries/$name.dict" "$OUT/fuzz_$name.dict"
done
