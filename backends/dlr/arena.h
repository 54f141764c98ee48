// The memory functions that libdlr is given. They are called by its threads, so
// they do not enter Go.

#ifndef PICKET_DLR_ARENA_H
#define PICKET_DLR_ARENA_H

#include <stddef.h>

// Has the functions below serve from memory, for the life of the process. Called
// once. memory is aligned to 128. Returns 0, or ENOMEM.
int picket_arena_use(void *memory, size_t size);

// Bytes of the arena that are handed out now.
size_t picket_arena_used(void);

// malloc, free and memalign, with addresses that are multiples of 128 or more.
// What the arena has no room for comes from the C library; free takes both.
void *picket_arena_malloc(size_t size);
void picket_arena_free(void *address);
void *picket_arena_memalign(size_t alignment, size_t size);

#endif
