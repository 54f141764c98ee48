package testkit

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestMain(m *testing.M) { VerifyNoLeaks(m) }

func TestFindLeaksNamesOpenHandles(t *testing.T) {
	err := findLeaks(10*time.Millisecond, []Handles{
		{Name: "doors", Open: func() int64 { return 0 }},
		{Name: "windows", Open: func() int64 { return 3 }},
	})
	if err == nil || !strings.Contains(err.Error(), "3 windows") {
		t.Errorf("got %v, want a complaint about 3 windows", err)
	}
}

func TestFindLeaksNamesGoroutines(t *testing.T) {
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { defer close(done); leakedOnPurpose(stop) }()
	err := findLeaks(0, nil)
	close(stop)
	<-done
	if err == nil || !strings.Contains(err.Error(), "leakedOnPurpose") {
		t.Errorf("got %v, want a stack with leakedOnPurpose", err)
	}
}

func leakedOnPurpose(stop <-chan struct{}) { <-stop }

func TestFindLeaksWaitsForLateClosers(t *testing.T) {
	var looks atomic.Int64
	err := findLeaks(time.Minute, []Handles{{Name: "doors", Open: func() int64 { return max(0, 3-looks.Add(1)) }}})
	if err != nil {
		t.Errorf("handles that close a little later count as leaked: %v", err)
	}
}
