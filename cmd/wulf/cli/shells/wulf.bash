# bash completion of wulf. Load it with: source <(wulf completion bash)
_wulf() {
	local cur=${COMP_WORDS[COMP_CWORD]}
	# COMP_WORDBREAKS splits at = : and @, which are inside words of wulf; the line as it was typed does not.
	local -a typed
	local line=${COMP_LINE:0:COMP_POINT}
	IFS=$' \t\n' read -r -a typed <<<"$line"
	[[ $line == *[[:space:]] ]] && typed+=("")
	# What was quoted is meant without its quotation marks, of which the last may not be there yet.
	local i
	for i in "${!typed[@]}"; do
		typed[i]=${typed[i]//[\'\"\\]/}
	done
	local word=${typed[${#typed[@]} - 1]}
	mapfile -t COMPREPLY < <(wulf __complete -- "${typed[@]:1}" 2>/dev/null)
	# bash replaces what stands after the last of its breaks, so what is before that is not repeated. An @ it takes for
	# the beginning of a host name, and replaces as well. Inside quotation marks there are no breaks.
	if [[ $cur != [\'\"]* ]]; then
		local breaks=${COMP_WORDBREAKS//[$' \t\n"\'><;|&(']/}
		local tail=$word
		[[ $breaks ]] && tail=${word##*[$breaks]}
		local head=${word%"$tail"}
		COMPREPLY=("${COMPREPLY[@]#"${head%@}"}")
	fi
	# A node set may go on after a name, with a comma or a bracket; a space is added only where nothing can follow.
	compopt -o nospace 2>/dev/null
	[[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *[=/:.] && $cur != [\'\"]* ]] && COMPREPLY[0]+=" "
}
complete -o default -F _wulf wulf
