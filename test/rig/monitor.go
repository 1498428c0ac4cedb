package rig

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// A monitor speaks QMP, QEMU's control protocol, as far as a power and a reset button need it.
type monitor struct {
	conn net.Conn
	dec  *json.Decoder
}

// newMonitor takes a connected socket over and waits for QEMU's greeting, which comes when the machine is built: an
// error here is QEMU's refusal of its command line.
func newMonitor(socket *os.File) (*monitor, error) {
	conn, err := net.FileConn(socket)
	socket.Close()
	if err != nil {
		return nil, err
	}
	m := &monitor{conn: conn, dec: json.NewDecoder(conn)}
	_ = conn.SetDeadline(time.Now().Add(monitorPatience))
	var greeting struct {
		QMP *struct{} `json:"QMP"`
	}
	err = m.dec.Decode(&greeting)
	if err == nil && greeting.QMP == nil {
		err = errors.New("it is no QMP greeting")
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("reading the greeting: %w", err)
	}
	return m, m.execute("qmp_capabilities")
}

// execute runs a command and waits for its answer, skipping the events that QEMU sends whenever it likes.
func (m *monitor) execute(command string) error {
	_ = m.conn.SetDeadline(time.Now().Add(monitorPatience))
	if err := json.NewEncoder(m.conn).Encode(map[string]string{"execute": command}); err != nil {
		return err
	}
	for {
		var answer struct {
			Event  string           `json:"event"`
			Return *json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := m.dec.Decode(&answer); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("%s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
}

func (m *monitor) close() { m.conn.Close() }
