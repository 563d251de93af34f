# SPDX-License-Identifier: Apache-2.0 OR MIT
# Written by `make completions`: change completions/generate.py.
# bash completion for cfs-mount mount.cfs cfs-setup-root cfs-uki cfs-store cfs-init-config cfs-seal-disk

_cfs_options() { # COMMAND VERB: the options there
	case "$1 $2" in
	"cfs-mount ")
		echo "--object-store --digest --name --image --upperdir --workdir --ro --rw --verity " \
			"--dry-run --json -v --verbose -h --help --version"
		;;
	"mount.cfs ") echo "-o -s -f -v -n -t -N -h --help --version" ;;
	"cfs-setup-root ")
		echo "--root --sysroot --config --soft-reboot --give-up -h --help --version"
		;;
	"cfs-uki ") echo "-h --help --version" ;;
	"cfs-uki help") echo "-h --help -q --quiet" ;;
	"cfs-uki seal")
		echo "-h --help -q --quiet --digest --embed --embed-objects --initrd --sysext " \
			"--confext --app --replace --unsigned-command-line -o --output"
		;;
	"cfs-uki payload")
		echo "-h --help -q --quiet --digest --embed --embed-objects --initrd --sysext " \
			"--confext --app"
		;;
	"cfs-uki show") echo "-h --help -q --quiet --json" ;;
	"cfs-uki digests") echo "-h --help -q --quiet" ;;
	"cfs-uki predict")
		echo "-h --help -q --quiet --pcr --bank --phase --profile --digest --source " \
			"--soft-reboot --loader --secure-boot --os-separator --json --format"
		;;
	"cfs-store ") echo "-h --help --version" ;;
	"cfs-store help") echo "-h --help -q --quiet" ;;
	"cfs-store add")
		echo "-h --help -q --quiet --object-store --create --erofs-version --hash --verity " \
			"--image --name --allow-missing"
		;;
	"cfs-store seal") echo "-h --help -q --quiet" ;;
	"cfs-store objects") echo "-h --help -q --quiet" ;;
	"cfs-store missing") echo "-h --help -q --quiet --object-store" ;;
	"cfs-store ls") echo "-h --help -q --quiet" ;;
	"cfs-store check") echo "-h --help -q --quiet --sealed --json" ;;
	"cfs-store measure") echo "-h --help -q --quiet --hash" ;;
	"cfs-store images") echo "-h --help -q --quiet --uki --no-uki --except --json" ;;
	"cfs-store rm") echo "-h --help -q --quiet --uki --no-uki --except --object-store" ;;
	"cfs-store gc")
		echo "-h --help -q --quiet --uki --no-uki --except --keep --dry-run --grace --now"
		;;
	"cfs-store image")
		echo "-h --help -q --quiet --object-store --create --erofs-version --hash --verity " \
			"--name -o --output --print-digest --digest-only --exclude --bootable --selinux " \
			"--platform --owner --clamp-mtime --check-with --min-version --max-version"
		;;
	"cfs-store dump") echo "-h --help -q --quiet" ;;
	"cfs-init-config ") echo "-h --help --version" ;;
	"cfs-init-config help") echo "-h --help -q --quiet" ;;
	"cfs-init-config compile") echo "-h --help -q --quiet -o --output" ;;
	"cfs-init-config check") echo "-h --help -q --quiet" ;;
	"cfs-seal-disk ") echo "--vm -h --help --version" ;;
	esac
}

_cfs_verbs() { # COMMAND
	case "$1" in
	cfs-uki) echo "help seal payload show digests predict" ;;
	cfs-store) echo "help add seal objects missing ls check measure images rm gc image dump" ;;
	cfs-init-config) echo "help compile check" ;;
	esac
}

# COMMAND VERB OPTION: what may follow the option: words, FILE, DIR, NONE; nothing where it takes
# no value. For OPTION "", what the operands are.
_cfs_values() {
	case "$1 $2 $3" in
	"cfs-mount  --object-store") echo "DIR" ;;
	"cfs-mount  --digest") echo "NONE" ;;
	"cfs-mount  --name") echo "NONE" ;;
	"cfs-mount  --image") echo "FILE" ;;
	"cfs-mount  --upperdir") echo "DIR" ;;
	"cfs-mount  --workdir") echo "DIR" ;;
	"cfs-mount  --verity") echo "require off" ;;
	"cfs-mount  ") echo "DIR" ;;
	"mount.cfs  -o") echo "NONE" ;;
	"mount.cfs  -t") echo "NONE" ;;
	"mount.cfs  -N") echo "NONE" ;;
	"mount.cfs  ") echo "DIR" ;;
	"cfs-setup-root  --root") echo "FILE" ;;
	"cfs-setup-root  --sysroot") echo "DIR" ;;
	"cfs-setup-root  --config") echo "FILE" ;;
	"cfs-setup-root  --soft-reboot") echo "NONE" ;;
	"cfs-uki help ") echo "help seal payload show digests predict" ;;
	"cfs-uki seal --digest") echo "NONE" ;;
	"cfs-uki seal --embed") echo "FILE" ;;
	"cfs-uki seal --embed-objects") echo "DIR" ;;
	"cfs-uki seal --initrd") echo "NONE" ;;
	"cfs-uki seal --sysext") echo "NONE" ;;
	"cfs-uki seal --confext") echo "NONE" ;;
	"cfs-uki seal --app") echo "NONE" ;;
	"cfs-uki seal -o" | "cfs-uki seal --output") echo "FILE" ;;
	"cfs-uki seal ") echo "FILE" ;;
	"cfs-uki payload --digest") echo "NONE" ;;
	"cfs-uki payload --embed") echo "FILE" ;;
	"cfs-uki payload --embed-objects") echo "DIR" ;;
	"cfs-uki payload --initrd") echo "NONE" ;;
	"cfs-uki payload --sysext") echo "NONE" ;;
	"cfs-uki payload --confext") echo "NONE" ;;
	"cfs-uki payload --app") echo "NONE" ;;
	"cfs-uki payload ") echo "DIR" ;;
	"cfs-uki show ") echo "FILE" ;;
	"cfs-uki digests ") echo "FILE" ;;
	"cfs-uki predict --pcr") echo "4 8 9 10 11 12 13 14 15" ;;
	"cfs-uki predict --bank") echo "sha1 sha256 sha384 sha512" ;;
	"cfs-uki predict --phase") echo "NONE" ;;
	"cfs-uki predict --profile") echo "NONE" ;;
	"cfs-uki predict --digest") echo "NONE" ;;
	"cfs-uki predict --source") echo "carried cmdline uki" ;;
	"cfs-uki predict --soft-reboot") echo "FILE" ;;
	"cfs-uki predict --loader") echo "FILE" ;;
	"cfs-uki predict --secure-boot") echo "yes no" ;;
	"cfs-uki predict --format") echo "cryptenroll pcrlock tpm2-tools" ;;
	"cfs-uki predict ") echo "FILE" ;;
	"cfs-store help ")
		echo "help add seal objects missing ls check measure images rm gc image dump"
		;;
	"cfs-store add --object-store") echo "DIR" ;;
	"cfs-store add --erofs-version") echo "0 1 2" ;;
	"cfs-store add --hash") echo "sha256 sha512" ;;
	"cfs-store add --verity") echo "auto require off" ;;
	"cfs-store add --image") echo "FILE" ;;
	"cfs-store add --name") echo "NONE" ;;
	"cfs-store add ") echo "FILE" ;;
	"cfs-store seal ") echo "DIR" ;;
	"cfs-store objects ") echo "FILE" ;;
	"cfs-store missing --object-store") echo "DIR" ;;
	"cfs-store missing ") echo "FILE" ;;
	"cfs-store ls ") echo "FILE" ;;
	"cfs-store check ") echo "DIR" ;;
	"cfs-store measure --hash") echo "sha256 sha512" ;;
	"cfs-store measure ") echo "FILE" ;;
	"cfs-store images --uki") echo "FILE" ;;
	"cfs-store images --except") echo "FILE" ;;
	"cfs-store images ") echo "DIR" ;;
	"cfs-store rm --uki") echo "FILE" ;;
	"cfs-store rm --except") echo "FILE" ;;
	"cfs-store rm --object-store") echo "DIR" ;;
	"cfs-store rm ") echo "NONE" ;;
	"cfs-store gc --uki") echo "FILE" ;;
	"cfs-store gc --except") echo "FILE" ;;
	"cfs-store gc --keep") echo "NONE" ;;
	"cfs-store gc --grace") echo "NONE" ;;
	"cfs-store gc ") echo "DIR" ;;
	"cfs-store image --object-store") echo "DIR" ;;
	"cfs-store image --erofs-version") echo "0 1 2" ;;
	"cfs-store image --hash") echo "sha256 sha512" ;;
	"cfs-store image --verity") echo "auto require off" ;;
	"cfs-store image --name") echo "NONE" ;;
	"cfs-store image -o" | "cfs-store image --output") echo "FILE" ;;
	"cfs-store image --exclude") echo "NONE" ;;
	"cfs-store image --selinux") echo "FILE" ;;
	"cfs-store image --platform") echo "NONE" ;;
	"cfs-store image --owner") echo "root" ;;
	"cfs-store image --check-with") echo "NONE" ;;
	"cfs-store image --min-version") echo "0 1" ;;
	"cfs-store image --max-version") echo "0 1" ;;
	"cfs-store image ") echo "FILE" ;;
	"cfs-store dump ") echo "FILE" ;;
	"cfs-init-config help ") echo "help compile check" ;;
	"cfs-init-config compile -o" | "cfs-init-config compile --output") echo "FILE" ;;
	"cfs-init-config compile ") echo "FILE" ;;
	"cfs-init-config check ") echo "FILE" ;;
	"cfs-seal-disk  --vm") echo "DIR" ;;
	"cfs-seal-disk  ") echo "FILE" ;;
	esac
}

_cfs_reply() { # PREFIX WORD VALUES: fills COMPREPLY with PREFIX and each of VALUES
	case "$3" in
	NONE | "") ;;
	FILE | DIR)
		compopt -o filenames 2>/dev/null
		local kind=-f
		[[ $3 != DIR ]] || kind=-d
		mapfile -t COMPREPLY < <(compgen -P "$1" "$kind" -- "$2")
		;;
	*) mapfile -t COMPREPLY < <(compgen -P "$1" -W "$3" -- "$2") ;;
	esac
}

_cfs() {
	local command=${1##*/} verb='' line whole option values breaks before
	COMPREPLY=()
	[[ -n $(_cfs_verbs "$command") && $COMP_CWORD -gt 1 ]] && verb=${COMP_WORDS[1]}
	# The word as typed. readline breaks it at "=", so that $2 is only what follows.
	line=${COMP_LINE:0:COMP_POINT}
	whole=${line##*[[:space:]]}
	read -ra before <<<"${line%"$whole"}"
	option=${before[-1]-}
	values=$(_cfs_values "$command" "$verb" "${option:--}")
	if [[ $command == mount.cfs && $option == -o ]]; then
		_cfs_mount_option "$whole"
	elif [[ -n $values ]]; then
		_cfs_reply '' "$whole" "$values"
	elif [[ $whole == --*=* ]]; then
		values=$(_cfs_values "$command" "$verb" "${whole%%=*}")
		_cfs_reply "${whole%%=*}=" "${whole#*=}" "$values"
	elif [[ $whole == -* ]]; then
		_cfs_reply '' "$whole" "$(_cfs_options "$command" "$verb")"
	elif [[ -z $verb && -n $(_cfs_verbs "$command") ]]; then
		_cfs_reply '' "$whole" "$(_cfs_verbs "$command")"
	else
		_cfs_reply '' "$whole" "$(_cfs_values "$command" "$verb" '')"
	fi
	# What is replaced is behind the last of readline's breaks.
	breaks=${COMP_WORDBREAKS//[^=:]/}
	if [[ -n $breaks && $whole == *[$breaks]* ]]; then
		COMPREPLY=("${COMPREPLY[@]#"${whole%"${whole##*["$breaks"]}"}"}")
	fi
}

_cfs_mount_option() { # WORD: the last of the options behind -o
	local last=${1##*,} prefix
	prefix=${1%"$last"}
	case "$last" in
	verity=*) _cfs_reply "${prefix}verity=" "${last#*=}" "require off" ;;
	image=*) _cfs_reply "${prefix}image=" "${last#*=}" FILE ;;
	upperdir=* | workdir=*) _cfs_reply "${prefix}${last%%=*}=" "${last#*=}" DIR ;;
	*)
		_cfs_reply "$prefix" "$last" "digest= image= upperdir= workdir= verity= ro rw"
		compopt -o nospace 2>/dev/null
		;;
	esac
}

complete -F _cfs cfs-mount mount.cfs cfs-setup-root cfs-uki cfs-store cfs-init-config cfs-seal-disk
