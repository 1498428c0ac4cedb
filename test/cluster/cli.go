package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/rig"
)

// This file holds every command line of the product that the rig uses.

// Socket is where a controller listens for commands of its own host.
func (c *Cluster) Socket(name string) string { return filepath.Join(c.state, name+".sock") }

// Data is the directory of a controller or relay.
func (c *Cluster) Data(name string) string { return filepath.Join(c.state, name) }

// listen is a controller's address: its API and its place in the replicated log.
func listen(place rig.Place) string { return fmt.Sprintf("%s:%d", place.Control, api.PortController) }

// found makes the first controller of a new cluster, and starts it.
func (c *Cluster) found(ctx context.Context) error {
	first := c.Room.Controllers[0]
	if _, err := c.on(ctx, first, "controller", "init", "--data", c.Data(first.Name()), "--cluster", "demo",
		"--name", first.Name(), "--listen", listen(first), "--advertise", listen(first)); err != nil {
		return err
	}
	if err := c.start(first, "controller"); err != nil {
		return err
	}
	_, err := c.Leader(ctx)
	return err
}

// joinController makes a further controller, with a token of the cluster, and starts it.
func (c *Cluster) joinController(ctx context.Context, place rig.Place) error {
	token, err := c.Wulf(ctx, "controller", "token", "--name", place.Name())
	if err != nil {
		return err
	}
	if _, err := c.on(ctx, place, "controller", "join", token, listen(c.Room.Controllers[0]), "--data", c.Data(place.Name()),
		"--name", place.Name(), "--listen", listen(place), "--advertise", listen(place)); err != nil {
		return err
	}
	return c.start(place, "controller")
}

// joinRelay makes a relay, with a token of the cluster, and starts it.
func (c *Cluster) joinRelay(ctx context.Context, place rig.Place, rack string) error {
	token, err := c.Wulf(ctx, "relay", "token", "--name", place.Name(), "--rack", rack, "--networks", "rack")
	if err != nil {
		return err
	}
	if _, err := c.on(ctx, place, "relay", "join", token, listen(c.Room.Controllers[0]),
		"--data", c.Data(place.Name()), "--address", place.Rack.String()); err != nil {
		return err
	}
	return c.start(place, "relay")
}

// runCommand is the program of a controller or relay that has joined.
func (c *Cluster) runCommand(place rig.Place, role string) []string {
	argv := []string{c.wulf, role, "run", "--data", c.Data(place.Name())}
	if role == "controller" {
		argv = append(argv, "--socket", c.Socket(place.Name()))
	}
	return argv
}

// addNetwork declares the rack's network. The relays join it by name afterwards.
func (c *Cluster) addNetwork(ctx context.Context) error {
	_, err := c.Wulf(ctx, "network", "add", "rack", "--cidr", rig.RackNetwork().String())
	return err
}

// ImportImage publishes a root file system, a directory or a tar, under a name.
func (c *Cluster) ImportImage(ctx context.Context, name, source string) error {
	_, err := c.Wulf(ctx, "image", "import", name, source)
	return err
}

// Image is an image as the controllers see it.
func (c *Cluster) Image(ctx context.Context, name string) (catalog.Image, error) {
	var i catalog.Image
	err := c.read(ctx, &i, "image", "show", name)
	return i, err
}

// ImageAt is an image as one controller sees it.
func (c *Cluster) ImageAt(ctx context.Context, controller, name string) (catalog.Image, error) {
	out, err := c.At(ctx, controller, "image", "show", name, "-o", "json")
	if err != nil {
		return catalog.Image{}, err
	}
	var i catalog.Image
	err = json.Unmarshal([]byte(out), &i)
	return i, err
}

// VerifyImage has every controller read all chunks of the latest version of an image.
func (c *Cluster) VerifyImage(ctx context.Context, name string) ([]api.Verified, error) {
	var result api.VerifyResult
	err := c.read(ctx, &result, "image", "verify", name)
	return result.Controllers, err
}

// AddNode declares a node.
func (c *Cluster) AddNode(ctx context.Context, name, image, mac, address string, args ...string) error {
	argv := []string{"node", "add", name, "--image", image, "--hwaddr", mac, "--ipaddr", address, "--kernelargs", "console=ttyS0"}
	_, err := c.Wulf(ctx, append(argv, args...)...)
	return err
}

// Node is a node as the controllers see it.
func (c *Cluster) Node(ctx context.Context, name string) (api.NodeView, error) {
	var view api.NodeView
	return view, c.read(ctx, &view, "node", "show", name)
}

// NodesAt lists the nodes that one controller knows.
func (c *Cluster) NodesAt(ctx context.Context, controller string) ([]api.NodeView, error) {
	out, err := c.At(ctx, controller, "node", "list", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list api.List[api.NodeView]
	return list.Items, json.Unmarshal([]byte(out), &list)
}

// Boots lists the boots of a node, with their events.
func (c *Cluster) Boots(ctx context.Context, node string) ([]api.Boot, error) {
	var list api.List[api.Boot]
	err := c.read(ctx, &list, "boot", "list", "--node", node)
	return list.Items, err
}

// Why is what the product says of a node's state, for people.
func (c *Cluster) Why(ctx context.Context, node string) (string, error) {
	return c.Wulf(ctx, "node", "why", node)
}

// Controllers lists the controllers.
func (c *Cluster) Controllers(ctx context.Context) ([]api.ControllerView, error) {
	var list api.List[api.ControllerView]
	err := c.read(ctx, &list, "controller", "list")
	return list.Items, err
}

// Relays lists the relays, with the revision that the answer shows.
func (c *Cluster) Relays(ctx context.Context) (api.List[api.RelayView], error) {
	var list api.List[api.RelayView]
	err := c.read(ctx, &list, "relay", "list")
	return list, err
}

// Status is what one controller says of itself.
func (c *Cluster) Status(ctx context.Context, controller string) (api.ControllerStatus, error) {
	var status api.ControllerStatus
	out, err := c.At(ctx, controller, "controller", "status", "-o", "json")
	if err != nil {
		return status, err
	}
	return status, json.Unmarshal([]byte(out), &status)
}

// read runs a command that lists or shows something and decodes its JSON.
func (c *Cluster) read(ctx context.Context, into any, argv ...string) error {
	out, err := c.Wulf(ctx, append(argv, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("wulf %s: %w in %.300q", strings.Join(argv, " "), err, out)
	}
	return nil
}

// Wulf runs a command at the first running controller that can carry it out, and returns what it prints.
func (c *Cluster) Wulf(ctx context.Context, argv ...string) (string, error) {
	err := fmt.Errorf("wulf %s: no controller runs", strings.Join(argv, " "))
	for _, name := range c.ControllersRunning() {
		var out string
		if out, err = c.At(ctx, name, argv...); err == nil {
			return out, nil
		}
		// 6: this controller is not there, or has no leader. Another one may.
		if exit, ok := errors.AsType[*ExitError](err); !ok || exit.Code != 6 {
			return "", err
		}
	}
	return "", err
}

// At runs a command at one controller, through its socket, and returns what it prints.
func (c *Cluster) At(ctx context.Context, controller string, argv ...string) (string, error) {
	return run(c.Command(ctx, c.Socket(controller), argv...))
}

// Command prepares a command that speaks through a socket: a controller's, or one before it.
func (c *Cluster) Command(ctx context.Context, socket string, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, c.wulf, append([]string{"--endpoint", api.UnixScheme + socket}, argv...)...)
}

// on runs a command on a host of the room, as its administrator would.
func (c *Cluster) on(ctx context.Context, place rig.Place, argv ...string) (string, error) {
	return run(place.Command(ctx, append([]string{c.wulf}, argv...)...))
}

// An ExitError is a command that failed: its documented exit code, and what it said.
type ExitError struct {
	Command string
	Code    int
	Stderr  string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s: exit %d: %s", e.Command, e.Code, e.Stderr)
}

func run(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		code := -1
		if cmd.ProcessState != nil {
			code = cmd.ProcessState.ExitCode()
		}
		said := strings.TrimSpace(stderr.String())
		if said == "" {
			said = err.Error()
		}
		return "", &ExitError{Command: strings.Join(cmd.Args, " "), Code: code, Stderr: said}
	}
	return strings.TrimSpace(string(out)), nil
}
