package chunks

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

func TestSiteFilesStayAsLongAsTheyCanComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 2, Config{Grace: time.Hour})
		defer r.net.Close()
		p, other := r.ctls[0], r.ctls[1]
		defer run(t, p, other)()
		put := func(text string) chunk.Ref {
			ref := r.put(p, []byte(text))
			r.apply(catalog.PutSiteFile{File: catalog.SiteFile{Path: "/etc/motd", Content: ref}})
			return ref
		}
		all := []chunk.Ref{put("first"), put("second"), put("")}
		r.apply(catalog.DeleteSiteFile{Path: "/etc/motd"})
		time.Sleep(48 * time.Hour)
		for _, q := range r.ctls {
			if n := q.has(all); n != len(all) {
				t.Errorf("%s has %d of %d chunks that taking changes back needs", q.name, n, len(all))
			}
		}
		for i := range catalog.MaxHistory + 1 { // until nothing of it is remembered
			r.apply(catalog.SetProfiles{Names: []catalog.ProfileName{catalog.DefaultProfile}, Set: catalog.Settings{Comment: new(fmt.Sprint(i))}})
		}
		time.Sleep(48 * time.Hour)
		for _, q := range r.ctls {
			if n := q.has(all); n != 0 {
				t.Errorf("%s still has %d chunks that nothing can bring back", q.name, n)
			}
		}
	})
}
