#compdef wulf
# zsh completion of wulf. Load it with: source <(wulf completion zsh), or put it in a directory of fpath as _wulf.
_wulf() {
	local -a candidates
	candidates=("${(@f)$(wulf __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	candidates=("${(@)candidates:#}")
	if (( ${#candidates} )); then
		compadd -a candidates
	else
		_files
	fi
}
if [[ "${funcstack[1]}" == "_wulf" ]]; then
	_wulf "$@"
else
	compdef _wulf wulf
fi
