# fish completion of wulf. Load it with: wulf completion fish | source
function __wulf_complete
	set -l typed (commandline -opc) (string trim --left --chars '\'"' -- (commandline -ct))
	wulf __complete -- $typed[2..-1] 2>/dev/null
end
complete -c wulf -f -a '(__wulf_complete)'
complete -c wulf -F -n 'string match -qr -- "image import|overlay import|docs man" (commandline -opc | string join " ")'
