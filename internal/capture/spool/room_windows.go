package spool

// newRoom is on the heap, and grows as it has to.
func newRoom(bool) []byte { return make([]byte, 64<<10) }

// fillRoom, tidyRoom and freeRooms leave it to the collector.
func fillRoom([]byte) {}

func tidyRoom([]byte, int) {}

func freeRooms(...[]byte) error { return nil }
