package dhcpd

import "testing"

// The forms in which switches say where a machine is plugged in.
func TestPortsAreReadAsSwitchesWriteThem(t *testing.T) {
	for _, tc := range []struct {
		circuit, remote string
		port, sw        string
	}{
		{"Ethernet7", "sw12", "Ethernet7", "sw12"},
		{"\x00\x04\x00\x64\x01\x07", "\x00\x06\x00\x1b\x54\x01\x02\x03", "100/1/7", "00:1b:54:01:02:03"},
		{"\x01\x03e17", "\x01\x04sw-1", "e17", "sw-1"},
		{"\x02\xff", "\x00\x06\x00", "02ff", "000600"},
		{"", "", "", ""},
	} {
		if port, sw := circuit([]byte(tc.circuit)), remoteID([]byte(tc.remote)); port != tc.port || sw != tc.sw {
			t.Errorf("%q and %q are read as %q and %q", tc.circuit, tc.remote, port, sw)
		}
	}
}

func TestAMachinesUUIDIsReadAsItsBoardPrintsIt(t *testing.T) {
	wire := "\x00\x44\x45\x4c\x4c\x42\x00\x10\x35\x80\x54\xb4\xc0\x4f\x56\x44\x33"
	if got := machineUUID([]byte(wire)); got != "4c4c4544-0042-3510-8054-b4c04f564433" {
		t.Errorf("got %s", got)
	}
	for _, b := range []string{"", "\x00", "\x01" + wire[1:], wire + "x"} {
		if got := machineUUID([]byte(b)); got != "" {
			t.Errorf("%q is read as %s", b, got)
		}
	}
}
