#compdef wulf
# zsh completion of wulf. Load it with: source <(wulf completion zsh), or put it in a directory of fpath as _wulf.
_wulf() {
	local -a typed candidates open
	typed=("${(@Q)words[2,CURRENT-1]}" "$PREFIX")
	candidates=("${(@f)$(wulf __complete -- "${(@)typed}" 2>/dev/null)}")
	candidates=("${(@)candidates:#}")
	open=("${(@M)candidates:#*[=/:.]}") # these go on
	candidates=("${(@)candidates:#*[=/:.]}")
	if (( ${#candidates} + ${#open} )); then
		(( ${#candidates} )) && compadd -a candidates
		(( ${#open} )) && compadd -S '' -a open
	else
		_files
	fi
}
if [[ "${funcstack[1]}" == "_wulf" ]]; then
	_wulf "$@"
else
	compdef _wulf wulf
fi
