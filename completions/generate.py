# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Writes completions/cfs.bash and completions/_cfs from what the commands themselves say.

`make completions` runs it, and a test holds that both files are what it writes. The host's commands
have parsers of argparse, which are asked. Those of the initrd have none, since argparse is not
frozen: their usage texts are read, a row for each option. So is that of the shell script.
"""

import argparse
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from pyinit.host.commands import cfs_init_config, cfs_store, cfs_uki
from pyinit.initrd.programs import mount_options, setup_root

DIRECTORY = Path(__file__).resolve().parent
BASH, ZSH = "cfs.bash", "_cfs"
_SCRIPT = DIRECTORY.parent / "dracut-module/mkosi/cfs-seal-disk"

FILES, DIRECTORIES, UNKNOWN = "FILE", "DIR", "NONE"
"""What is offered for a value: names of files, of directories, or nothing."""

# By the name of the value in a usage. The words of a choice are offered themselves.
_DIRECTORY_NAMES = {"DIR", "TARGET", "TREE", "STORE"}
# PATH is of an image, whose names are mostly those of the machine.
_FILE_NAMES = {"FILE", "OUT", "DISK", "IN.efi", "OUT.efi", "FILE|DIR", "FILE|DIGEST", "PATH"}
_GENERIC = {"-h": "show the usage", "--help": "show the usage", "--version": "show the version"}


@dataclass(frozen=True)
class Option:
    """An option, by all its names. `value`: FILES, DIRECTORIES, UNKNOWN or words; "" for none."""

    names: tuple[str, ...]
    about: str = ""
    value: str = ""
    repeats: bool = False


@dataclass(frozen=True)
class Command:
    """A command, or a verb of one. `operands`: the value of each, and of the last ones if many."""

    name: str
    about: str = ""
    options: tuple[Option, ...] = ()
    operands: tuple[str, ...] = ()
    many: bool = False
    verbs: tuple["Command", ...] = field(default=())


def commands() -> list[Command]:
    """All that have a completion."""
    return [
        _of_usage("cfs-mount", mount_options.USAGE),
        _of_usage("mount.cfs", mount_options.USAGE_HELPER),
        _of_usage("cfs-setup-root", setup_root.USAGE),
        *(_of_parser(module.NAME, module._parser()) for module in (cfs_uki, cfs_store)),  # noqa: SLF001
        _of_parser(cfs_init_config.NAME, cfs_init_config._parser()),  # noqa: SLF001
        _of_usage(_SCRIPT.name, _usage_of_script()),
    ]


def _value(name: str, choices: Iterable[object] | None = None) -> str:
    if choices is not None:
        return " ".join(map(str, choices))
    if name in _DIRECTORY_NAMES:
        return DIRECTORIES
    if name in _FILE_NAMES:
        return FILES
    return name.replace("|", " ") if "|" in name and name.islower() else UNKNOWN


# ---- the commands of the initrd

_NAME = r"(?<![\w-])(--[a-z][a-z-]*|-[A-Za-z])(?![\w-])"
_IN_USAGE = re.compile(_NAME + r"(?: ([A-Z][A-Z|]*|[a-z]+(?:\|[a-z]+)+))?")
_ROW = re.compile(r"^  (-\S.*?)(?:  +(\S.*))?$")


def _of_usage(name: str, text: str) -> Command:
    """From the usage itself, and from the rows behind it, which say more."""
    head, _, rows = text.partition("\n\n")
    found: dict[str, Option] = {}
    for match in _IN_USAGE.finditer(head):
        found[match[1]] = Option((match[1],), "", _value(match[2]) if match[2] else "")
    for row in filter(None, map(_ROW.match, rows.splitlines())):
        matches = list(_IN_USAGE.finditer(row[1]))
        value = _value(matches[-1][2]) if matches[-1][2] else ""
        option = Option(tuple(match[1] for match in matches), row[2] or "", value)
        for match in matches:
            found.pop(match[1], None)
        found[option.names[-1]] = option
    generic = {name for option in found.values() for name in option.names}
    for names in (("-h", "--help"), ("--version",)):
        if not generic & set(names):
            found[names[-1]] = Option(names)
    line = re.sub(_IN_USAGE, "", head.splitlines()[0])
    operands = tuple(_value(word) for word in re.findall(r"(?<![\w=\[])[A-Z]+(?![\w=.])", line))
    return Command(name, options=tuple(map(_told, found.values())), operands=operands)


def _told(option: Option) -> Option:
    """With the same words for what all commands have."""
    about = _GENERIC.get(option.names[-1], option.about)
    return Option(option.names, about, option.value, option.repeats)


def _usage_of_script() -> str:
    """The line that the shell script prints."""
    found = re.search(r'^usage="(usage: .*)"$', _SCRIPT.read_text(), re.MULTILINE)
    assert found, _SCRIPT
    return found[1]


# ---- the commands of the host


def _of_parser(name: str, parser: argparse.ArgumentParser, about: str = "") -> Command:
    found: list[Option] = []
    operands: list[str] = []
    verbs: list[Command] = []
    many = False
    for action in parser._actions:  # noqa: SLF001 # there is no other way to ask argparse
        value = _value(str(action.metavar or action.dest), action.choices)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            lines = {line.dest: line.help or "" for line in action._choices_actions}  # noqa: SLF001
            verbs += [_of_parser(verb, each, lines[verb]) for verb, each in action.choices.items()]
        elif action.option_strings:
            repeats = isinstance(action, argparse._AppendAction)  # noqa: SLF001
            names = tuple(action.option_strings)
            value = "" if action.nargs == 0 else value
            found.append(_told(Option(names, action.help or "", value, repeats)))
        else:
            operands.append(value)
            many = action.nargs in ("*", "+")
    return Command(name, about, tuple(found), tuple(operands), many, tuple(verbs))


# ---- bash

_BASH = Template(r"""# SPDX-License-Identifier: Apache-2.0 OR MIT
# Written by `make completions`: change completions/generate.py.
# bash completion for $names

_cfs_options() { # COMMAND VERB: the options there
	case "$$1 $$2" in
$options
	esac
}

_cfs_verbs() { # COMMAND
	case "$$1" in
$verbs
	esac
}

# COMMAND VERB OPTION: what may follow the option: words, FILE, DIR, NONE; nothing where it takes
# no value. For OPTION "", what the operands are.
_cfs_values() {
	case "$$1 $$2 $$3" in
$values
	esac
}

_cfs_reply() { # PREFIX WORD VALUES: fills COMPREPLY with PREFIX and each of VALUES
	case "$$3" in
	NONE | "") ;;
	FILE | DIR)
		compopt -o filenames 2>/dev/null
		local kind=-f
		[[ $$3 != DIR ]] || kind=-d
		mapfile -t COMPREPLY < <(compgen -P "$$1" "$$kind" -- "$$2")
		;;
	*) mapfile -t COMPREPLY < <(compgen -P "$$1" -W "$$3" -- "$$2") ;;
	esac
}

_cfs() {
	local command=$${1##*/} verb='' line whole option values breaks before
	COMPREPLY=()
	[[ -n $$(_cfs_verbs "$$command") && $$COMP_CWORD -gt 1 ]] && verb=$${COMP_WORDS[1]}
	# The word as typed. readline breaks it at "=", so that $$2 is only what follows.
	line=$${COMP_LINE:0:COMP_POINT}
	whole=$${line##*[[:space:]]}
	read -ra before <<<"$${line%"$$whole"}"
	option=$${before[-1]-}
	values=$$(_cfs_values "$$command" "$$verb" "$${option:--}")
	if [[ $$command == mount.cfs && $$option == -o ]]; then
		_cfs_mount_option "$$whole"
	elif [[ -n $$values ]]; then
		_cfs_reply '' "$$whole" "$$values"
	elif [[ $$whole == --*=* ]]; then
		values=$$(_cfs_values "$$command" "$$verb" "$${whole%%=*}")
		_cfs_reply "$${whole%%=*}=" "$${whole#*=}" "$$values"
	elif [[ $$whole == -* ]]; then
		_cfs_reply '' "$$whole" "$$(_cfs_options "$$command" "$$verb")"
	elif [[ -z $$verb && -n $$(_cfs_verbs "$$command") ]]; then
		_cfs_reply '' "$$whole" "$$(_cfs_verbs "$$command")"
	else
		_cfs_reply '' "$$whole" "$$(_cfs_values "$$command" "$$verb" '')"
	fi
	# What is replaced is behind the last of readline's breaks.
	breaks=$${COMP_WORDBREAKS//[^=:]/}
	if [[ -n $$breaks && $$whole == *[$$breaks]* ]]; then
		COMPREPLY=("$${COMPREPLY[@]#"$${whole%"$${whole##*["$$breaks"]}"}"}")
	fi
}

_cfs_mount_option() { # WORD: the last of the options behind -o
	local last=$${1##*,} prefix
	prefix=$${1%"$$last"}
	case "$$last" in
	verity=*) _cfs_reply "$${prefix}verity=" "$${last#*=}" "require off" ;;
	image=*) _cfs_reply "$${prefix}image=" "$${last#*=}" FILE ;;
	upperdir=* | workdir=*) _cfs_reply "$${prefix}$${last%%=*}=" "$${last#*=}" DIR ;;
	*)
		_cfs_reply "$$prefix" "$$last" "digest= image= upperdir= workdir= verity= ro rw"
		compopt -o nospace 2>/dev/null
		;;
	esac
}

complete -F _cfs $names
""")


def bash(all_commands: list[Command]) -> str:
    """The text of cfs.bash."""
    every = list(_with_verbs(all_commands))
    return _BASH.substitute(
        names=" ".join(command.name for command in all_commands),
        options="\n".join(
            _case(f'"{command} {verb}"', _names(content.options))
            for command, verb, content in every
        ),
        verbs="\n".join(
            _case(command.name, [verb.name for verb in command.verbs])
            for command in all_commands
            if command.verbs
        ),
        values="\n".join(
            _case(pattern, [value])
            for command, verb, content in every
            for pattern, value in _bash_values(command, verb, content)
        ),
    )


def _with_verbs(all_commands: list[Command]) -> Iterator[tuple[str, str, Command]]:
    """(command, verb or "", what belongs to it)"""
    for command in all_commands:
        yield command.name, "", command
        for verb in command.verbs:
            yield command.name, verb.name, verb


def _bash_values(command: str, verb: str, content: Command) -> Iterator[tuple[str, str]]:
    for option in content.options:
        if option.value:
            names = [f'"{command} {verb} {name}"' for name in option.names]
            yield " | ".join(names), option.value
    # One for all: which operand the cursor is at is more than bash is asked.
    for value in sorted(set(content.operands))[:1]:
        yield f'"{command} {verb} "', value


def _case(pattern: str, words: Iterable[str]) -> str:
    lines, line = [], ""
    for word in " ".join(words).split():
        if len(line) + len(word) > 78:
            lines.append(line)
            line = ""
        line += f" {word}"
    text = '" \\\n\t\t\t"'.join(part.strip() + " " * (part != line) for part in [*lines, line])
    one = f'\t{pattern}) echo "{text}" ;;'
    return one if "\n" not in one and len(one) < 96 else f'\t{pattern})\n\t\techo "{text}"\n\t\t;;'


def _names(of: Iterable[Option]) -> list[str]:
    return [name for option in of for name in option.names]


# ---- zsh

_ZSH = Template(r"""#compdef $names
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Written by `make completions`: change completions/generate.py.

_cfs_verb() { # FUNCTION: completes behind the verb, which is the second word
  (( CURRENT-- ))
  shift words
  $$1
}

$functions
case $$service in
$cases
esac
""")
_ZSH_ACTIONS = {FILES: "_files", DIRECTORIES: "_files -/", UNKNOWN: " "}
_MOUNT_OPTIONS = (
    "_values -s , option digest\\:digest\\: image\\:file\\:_files upperdir\\:upper\\:_directories "
    'workdir\\:work\\:_directories "verity\\:mode\\:(require off)" ro rw'
)


def zsh(all_commands: list[Command]) -> str:
    """The text of _cfs."""
    functions = "".join(
        _zsh_function(command, verb, content)
        for command, verb, content in _with_verbs(all_commands)
    )
    cases = "\n".join(f"  {command.name}) {_function(command.name)} ;;" for command in all_commands)
    names = " ".join(command.name for command in all_commands)
    return _ZSH.substitute(names=names, functions=functions, cases=cases)


def _function(command: str, verb: str = "") -> str:
    return "_" + "_".join(filter(None, (re.sub(r"\W", "_", command), verb)))


def _zsh_function(command: str, verb: str, content: Command) -> str:
    start = f"{_function(command, verb)}() {{\n"
    if content.verbs:
        words = "".join(f"\n      {_quoted(v.name + ':' + v.about)}" for v in content.verbs)
        cases = "".join(
            f"    {v.name}) _cfs_verb {_function(command, v.name)} ;;\n" for v in content.verbs
        )
        start += (
            f"  if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then\n    local -a verbs=({words}\n"
            f"    )\n    _describe verb verbs\n    return\n  fi\n"
            f"  case $words[2] in\n{cases}    *)\n{_arguments(content, '      ')}      ;;\n  esac\n"
        )
        return start + "}\n\n"
    return start + _arguments(content, "  ") + "}\n\n"


def _arguments(content: Command, indent: str) -> str:
    specs = [spec for option in content.options for spec in _zsh_option(content.name, option)]
    for number, value in enumerate(content.operands):
        last = number == len(content.operands) - 1
        specs.append(f"{'*' * (last and content.many)}:operand:{_zsh_action(value)}")
    lines = [f"{indent}_arguments -S", *(f"{indent}  {_quoted(spec)}" for spec in specs)]
    return " \\\n".join(lines) + "\n"


def _zsh_option(command: str, option: Option) -> Iterator[str]:
    alone = set(option.names) & set(_GENERIC)
    others = "- *" if alone else " ".join(option.names) if len(option.names) > 1 else ""
    start = "*" if option.repeats else f"({others})" if others else ""
    about = re.sub(r"([\[\]:])", r"\\\1", _first_words(option.about))
    for name in option.names:
        if not option.value:
            yield f"{start}{name}[{about}]"
            continue
        # "=": the value is behind "=" or in the next word.
        equals = "=" if name.startswith("--") else ""
        action = _zsh_action(option.value)
        if (command, name) == ("mount.cfs", "-o"):
            action = _MOUNT_OPTIONS
        yield f"{start}{name}{equals}[{about}]:value:{action}"


def _first_words(about: str) -> str:
    return re.split(r"[;:] | \(", about)[0]


def _zsh_action(value: str) -> str:
    return _ZSH_ACTIONS.get(value, f"({value})")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def main() -> None:
    """Writes both files."""
    found = commands()
    (DIRECTORY / BASH).write_text(bash(found))
    (DIRECTORY / ZSH).write_text(zsh(found))


if __name__ == "__main__":
    main()
