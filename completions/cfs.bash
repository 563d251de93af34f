# SPDX-License-Identifier: Apache-2.0 OR MIT
# bash completion for cfs-mount, mount.cfs, cfs-setup-root, cfs-uki, cfs-store, cfs-init-config

_cfs_options() { # COMMAND VERB: the options there
	case "$1 $2" in
	cfs-mount*)
		echo "--object-store --digest --image --upperdir --workdir --ro --rw --verity --dry-run" \
			"--json -v --verbose -h --help --version"
		;;
	mount.cfs*) echo "-s -f -n -v -N -o -t" ;;
	cfs-setup-root*) echo "--sysroot --config --soft-reboot -h --help --version" ;;
	"cfs-uki seal") echo "--digest --replace --unsigned-command-line -o --output -h --help" ;;
	"cfs-uki payload") echo "--digest -h --help" ;;
	"cfs-uki show") echo "--json -h --help" ;;
	"cfs-store add") echo "--object-store --create --hash --verity --image -h --help" ;;
	"cfs-init-config compile") echo "-o --output -h --help" ;;
	*) echo "-h --help" ;;
	esac
}

_cfs_verbs() { # COMMAND
	case "$1" in
	cfs-uki) echo "seal payload show digests" ;;
	cfs-store) echo "add seal" ;;
	cfs-init-config) echo "compile check" ;;
	esac
}

_cfs_values() { # COMMAND OPTION: the words that may follow it, "FILE", or nothing known
	case "$2" in
	--verity) [[ $1 == cfs-store ]] && echo "auto require off" || echo "require off" ;;
	--hash) echo "sha256 sha512" ;;
	--object-store | --image | --upperdir | --workdir | --sysroot | --config | -o | --output)
		[[ $1 == mount.cfs ]] && echo "digest= image= upperdir= workdir= verity=" || echo FILE
		;;
	--digest | --soft-reboot | -N | -t) echo NONE ;;
	esac
}

_cfs() {
	local command=${1##*/} word=$2 previous=$3 verb='' words
	[[ -n $(_cfs_verbs "$command") && $COMP_CWORD -gt 1 ]] && verb=${COMP_WORDS[1]}
	COMPREPLY=()
	words=$(_cfs_values "$command" "$previous")
	case "$words" in
	FILE | "") ;;
	NONE) return ;;
	*)
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
		[[ $command != mount.cfs ]] || compopt -o nospace 2>/dev/null
		return
		;;
	esac
	if [[ -z $words && $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_cfs_options "$command" "$verb")" -- "$word")
	elif [[ -z $words && -z $verb && -n $(_cfs_verbs "$command") ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_cfs_verbs "$command")" -- "$word")
	else
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
	fi
}

complete -F _cfs cfs-mount mount.cfs cfs-setup-root cfs-uki cfs-store cfs-init-config
