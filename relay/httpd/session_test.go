package httpd

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

func TestANodesTimesArePutRightByWhenItSentThem(t *testing.T) {
	for name, tc := range map[string]struct {
		clock time.Duration // that of the node is ahead
		ages  []time.Duration
		mute  bool // about when it sent them
		want  []time.Duration
	}{
		"a good clock":                     {0, []time.Duration{4 * time.Minute, 0}, false, []time.Duration{4 * time.Minute, 0}},
		"a good clock, nothing said":       {0, []time.Duration{4 * time.Minute, 0}, true, []time.Duration{4 * time.Minute, 0}},
		"a clock ahead":                    {4 * time.Minute, []time.Duration{3 * time.Minute, 10 * time.Second}, false, []time.Duration{3 * time.Minute, 10 * time.Second}},
		"a clock ahead, nothing said":      {4 * time.Minute, []time.Duration{10 * time.Second}, true, []time.Duration{0}},
		"a clock behind":                   {-4 * time.Minute, []time.Duration{3 * time.Minute, 0}, false, []time.Duration{3 * time.Minute, 0}},
		"a clock that was never set":       {-50 * 365 * 24 * time.Hour, []time.Duration{time.Minute, 0}, false, []time.Duration{time.Minute, 0}},
		"a clock that was set in between":  {0, []time.Duration{50 * 365 * 24 * time.Hour, 0}, false, []time.Duration{0, 0}},
		"a clock that was set to the past": {0, []time.Duration{-time.Hour, 0}, false, []time.Duration{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, events := armed(t)
			clock := time.Now().Add(tc.clock)
			var batch api.EventBatch
			for _, age := range tc.ages {
				batch.Events = append(batch.Events, boot.Event{Time: clock.Add(-age), Stage: boot.StageImage})
			}
			body, err := json.Marshal(batch)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
			if !tc.mute {
				r.Header.Set(api.HeaderSent, clock.Format(time.RFC3339Nano))
			}
			if err := s.events(httptest.NewRecorder(), r.WithContext(contextWith(r, holder{Session: pki.Session{Node: "n-open", Boot: "b"}}))); err != nil {
				t.Fatal(err)
			}
			if len(*events) != len(tc.want) {
				t.Fatalf("%d events", len(*events))
			}
			for i, e := range *events {
				if off := time.Since(e.Time) - tc.want[i]; off.Abs() > time.Second {
					t.Errorf("event %d is %s off", i, off)
				}
			}
		})
	}
}
