# bash completion of wulf. Load it with: source <(wulf completion bash)
_wulf() {
	local IFS=$'\n' cur=${COMP_WORDS[COMP_CWORD]}
	# COMP_WORDBREAKS splits at = and :, which are inside words of wulf; the line as it was typed does not.
	local -a typed
	local line=${COMP_LINE:0:COMP_POINT}
	IFS=$' \t\n' read -r -a typed <<<"$line"
	[[ $line == *[[:space:]] ]] && typed+=("")
	COMPREPLY=($(wulf __complete -- "${typed[@]:1}" 2>/dev/null))
	# What bash has in front of the last break is not repeated.
	local word=${typed[${#typed[@]} - 1]}
	local head=${word%"$cur"}
	COMPREPLY=("${COMPREPLY[@]#"$head"}")
	compopt -o nospace 2>/dev/null
	[[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *[=/:] ]] && COMPREPLY[0]+=" "
}
complete -o default -F _wulf wulf
