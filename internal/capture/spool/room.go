package spool

// Batches are made in rooms: memory outside the Go heap, where there is such, that is used again and again, at an address that is a
// multiple of block. So a large batch can be written without a copy in the kernel's cache, which would cost more than all else that
// capturing does.
const block = 4096 // no disk and no page has a larger unit that matters
