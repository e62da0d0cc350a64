package daemon

import (
	"strings"
	"testing"

	"github.com/connfs/connfs/internal/settings"
)

func TestWhatARunningDaemonCannotChange(t *testing.T) {
	base := settings.Front{Mounts: []settings.Mount{{Path: "/conn"}}}
	for want, change := range map[string]func(*settings.Front){
		"":            func(f *settings.Front) { f.TTL, f.Warnings = 9, []string{"x"} },
		"mountpoints": func(f *settings.Front) { f.Mounts = []settings.Mount{{Path: "/other"}} },
		"share_names": func(f *settings.Front) { f.ShareNames = true },
		"one user":    func(f *settings.Front) { f.Others = true },
	} {
		now := base
		change(&now)
		err := unchanged(&base, &now)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}
