package cli

import (
	"time"

	"github.com/urfave/cli/v2"
)

func (p *program) image() *cli.Command {
	return noun("image", "root file systems that nodes boot",
		verb{
			name: "import", aliases: []string{"pull"}, usage: "publish a new version of an image", args: "IMAGE[:TAG] SOURCE", least: 2, most: 2,
			about: "SOURCE is docker://NAME of a registry, docker-daemon:NAME, oci:DIRECTORY, oci-archive:FILE, docker-archive:FILE, a directory, " +
				"a tar archive (plain, gzip, zstd or xz), or - for an archive on standard input. It is cut and compressed here, and only what the " +
				"controllers lack is sent; an import that was interrupted goes on where it was. The version is there when a majority of the " +
				"controllers holds all of it; if anything fails before, nothing has changed.",
			examples: []string{"wulf image import rocky docker://rockylinux:9", "wulf image import debian ./rootfs", "wulf image import rocky:9.4 rocky.tar.zst -m 'security fixes'"},
			flags: []cli.Flag{
				texts("tag", "let tag `NAME`, besides latest, mean the new version"),
				text("message", "say why, for the history, in a `TEXT`", "m"),
				toggle("update", "lay SOURCE over the latest version instead of replacing it"),
				number("level", "compress as zstd's level `N` does, 1 to 19"),
				text("platform", "of a registry's image that is there for several, take `OS/ARCH`; default linux/amd64"),
				texts("mirror", "ask the registry at `HOST` first"),
				toggle("insecure", "let a registry speak plain HTTP, or show any certificate"),
				text("username", "log in to the registry as `NAME`; without it as podman or docker would"),
				text("password-file", "read the password from `FILE`, or - for standard input"),
				waitFlag(), waitTimeFlag(),
			},
			run: p.imageImport,
		},
		verb{
			name: "shell", usage: "work in an image, and make a version of what has changed", args: "IMAGE[:TAG]", least: 1, most: 1,
			about: "It needs root on this machine, which need not be a controller's. The version is unpacked into a private directory, and a shell runs in " +
				"it, in namespaces of its own. When it ends well, the image's exit hook runs (/etc/warewulf/image_exit.sh, container_exit.sh, or " +
				"/etc/wulf/image_exit), and what has changed becomes a new version. If somebody was faster, both versions are kept, and latest is theirs.",
			examples: []string{"wulf image shell rocky", "wulf image shell rocky --bind /srv/rpms:/mnt:ro -m 'new kernel'", "wulf image shell rocky --node n01"},
			flags:    workFlags(), run: p.imageShell,
		},
		verb{
			name: "exec", usage: "run a command in an image, and make a version of what it changes", args: "IMAGE[:TAG] -- COMMAND…", least: 2, most: unlimited,
			about:    "As wulf image shell does. If the command fails, nothing is committed, and the work directory stays.",
			examples: []string{"wulf image exec rocky -- dnf -y update", "wulf image exec rocky --discard -- rpm -qa"},
			flags:    workFlags(), run: p.imageExec,
		},
		verb{
			name: "build", usage: "make a version of the same files", args: "IMAGE[:TAG]", least: 1, most: 1,
			about: "An import is built already. This makes stage one anew, after the controllers were upgraded, so that nodes start the new agent; " +
				"with --level all segments are compressed anew. If nothing would be different, there is no new version.",
			examples: []string{"wulf image build debian", "wulf image build debian --level 12"},
			flags: []cli.Flag{
				number("level", "compress as zstd's level `N` does, 1 to 19"), text("message", "say why, for the history, in a `TEXT`", "m"), waitFlag(), waitTimeFlag(),
			},
			run: p.imageBuild,
		},
		verb{
			name: "syncuser", usage: "give an image the users and groups of this machine", args: "IMAGE[:TAG]", least: 1, most: 1,
			about: "This machine's lines replace the image's of the same name, names that only the image has stay, and files change owner with the numbers. " +
				"It is refused if a number would come to mean somebody else. A directory service's users come in by files: getent passwd > FILE.",
			examples: []string{"wulf image syncuser rocky --dry-run", "wulf image syncuser rocky --passwd users --group groups"},
			flags: []cli.Flag{
				text("passwd", "take users from `FILE` instead of /etc/passwd"), text("group", "take groups from `FILE` instead of /etc/group"),
				toggle("dry-run", "show what it would do, and do nothing"), text("message", "say why, for the history, in a `TEXT`", "m"), waitFlag(), waitTimeFlag(),
			},
			run: p.imageSyncuser,
		},
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list images",
			examples: []string{"wulf image list"}, flags: listFlags(), run: p.imageList,
		},
		verb{
			name: "show", usage: "show an image's versions, tags and kernels", args: "IMAGE", least: 1, most: 1,
			examples: []string{"wulf image show debian"}, flags: showFlags(), run: p.imageShow,
		},
		verb{
			name: "history", usage: "tell how an image came to be what it is", args: "IMAGE", least: 1, most: 1,
			examples: []string{"wulf image history debian"}, flags: listFlags(), run: p.imageHistory,
		},
		verb{
			name: "diff", usage: "tell what makes one version of another", args: "[IMAGE[:TAG]] IMAGE[:TAG]", least: 1, most: 2,
			about: "Packages, files, and what relays will fetch; of one version, what makes it of the one that it was made from. Versions may be of two images. " +
				"With --files every path is listed, and not only the largest.",
			examples: []string{"wulf image diff debian", "wulf image diff debian@4f1a09c2 debian", "wulf image diff debian debian-gpu -o json"},
			flags:    append(showFlags(), toggle("files", "list every path")), run: p.imageDiff,
		},
		verb{
			name: "kernels", usage: "list the kernels of a version", args: "IMAGE[:TAG]", least: 1, most: 1,
			examples: []string{"wulf image kernels debian"}, flags: listFlags(), run: p.imageKernels,
		},
		verb{
			name: "tag", usage: "let a tag mean a version", args: "IMAGE TAG VERSION", least: 3, most: 3,
			about:    "VERSION is another tag, or the version's ID or as much of its beginning as is needed.",
			examples: []string{"wulf image tag debian latest 4f1a09c2", "wulf image tag debian stable latest"},
			flags:    changeFlags(), run: p.imageTag,
		},
		verb{
			name: "untag", usage: "remove a tag", args: "IMAGE TAG", least: 2, most: 2,
			about:    "The tag latest stays, and a tag that nodes or profiles name. The version that it meant stays, too.",
			examples: []string{"wulf image untag debian stable"}, flags: changeFlags(), run: p.imageUntag,
		},
		verb{
			name: "rollback", usage: "let latest mean the version before, or another", args: "IMAGE [VERSION]", least: 1, most: 2,
			about:    "The version before is the one that the latest was made from. Nodes get it when they boot next.",
			examples: []string{"wulf image rollback debian", "wulf image rollback debian 4f1a09c2"}, flags: changeFlags(), run: p.imageRollback,
		},
		verb{
			name: "copy", aliases: []string{"cp"}, usage: "make an image of one version of another", args: "IMAGE[:TAG] NEW", least: 2, most: 2,
			about:    "It costs no space: both have the same chunks.",
			examples: []string{"wulf image copy debian debian-gpu"}, flags: changeFlags(), run: p.imageCopy,
		},
		verb{
			name: "rename", usage: "give an image another name", args: "IMAGE NEW", least: 2, most: 2,
			about:    "Nodes and profiles that name it follow.",
			examples: []string{"wulf image rename debian debian12"}, flags: changeFlags(), run: p.imageRename,
		},
		verb{
			name: "delete", aliases: []string{"rm"}, usage: "delete an image, or one version: IMAGE@VERSION", args: "IMAGE", least: 1, most: 1,
			about:    "It is refused while nodes or profiles name it. Its chunks go with the next collection: see wulf image gc.",
			examples: []string{"wulf image delete old", "wulf image delete debian@4f1a09c2"},
			flags:    changeFlags(), run: p.imageDelete,
		},
		verb{
			name: "export", usage: "write a version as a container image or a tar", args: "IMAGE[:TAG] FILE", least: 2, most: 2,
			about: "FILE becomes an OCI archive of one layer, which podman, docker, containerd and Apptainer load, or with --format tar the plain tree; - is standard " +
				"output. What nodes are not given is in it. The same version is always the same bytes.",
			examples: []string{"wulf image export rocky rocky.oci", "wulf image export rocky - --format tar | tar -t"},
			flags: []cli.Flag{
				&cli.StringFlag{Name: "format", Value: "oci", Usage: "write `oci` or tar"}, text("name", "call it `NAME:TAG` in the archive; default localhost/IMAGE:TAG"),
				toggle("gzip", "compress with gzip instead of zstd, for old container runtimes"), toggle("yes", "replace FILE if it is there", "y"),
			},
			run: p.imageExport,
		},
		verb{
			name: "gc", usage: "delete versions that nothing names, and chunks that nothing needs", args: "[IMAGE…]", least: 0, most: unlimited,
			about: "A version goes that has no tag, that no node and no profile names, that is older than --older and not among the newest --keep of its " +
				"image. Then every controller deletes the chunks that nothing has needed for --grace; an import that runs is safe from it.",
			examples: []string{"wulf image gc --dry-run", "wulf image gc debian --keep 2 --older 24h"},
			flags: changeFlags(
				&cli.IntFlag{Name: "keep", Value: 5, Usage: "let the newest `N` versions of each image stay"},
				duration("older", 30*24*time.Hour, "let versions stay that are younger than `TIME`"),
				duration("grace", 24*time.Hour, "let chunks stay that were needed or sent within `TIME`"),
			),
			run: p.imageGC,
		},
		p.imageResidencyVerb(),
		verb{
			name: "verify", usage: "read every chunk of a version on every controller, and repair it", args: "IMAGE[:TAG]", least: 1, most: 1,
			examples: []string{"wulf image verify debian"},
			flags:    append(showFlags(), toggle("quick", "only look whether the chunks are there")), run: p.imageVerify,
		},
	)
}
