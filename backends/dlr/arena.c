//go:build cgo && linux

#include "arena.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// The alignment of tensor.Buffers.
#define UNIT 128
#define CLASSES 40

// Blocks are powers of two of UNIT, cut from the front of the arena and kept in a
// list per size once freed; libdlr asks for the same few sizes again and again.
// Everything but the blocks themselves is under lock, base and size included: an
// arena may be given while another library's threads are already freeing.
struct block {
  struct block *next;
};

static struct {
  pthread_mutex_t lock;
  char *base;
  size_t size, cut, used;
  uint8_t *class_of; // per UNIT of the arena: the class of the block that starts there
  struct block *free[CLASSES];
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

int picket_arena_use(void *memory, size_t size) {
  uint8_t *classes = calloc(size / UNIT + 1, 1);
  if (classes == NULL)
    return ENOMEM;
  pthread_mutex_lock(&arena.lock);
  arena.base = memory;
  arena.size = size;
  arena.class_of = classes;
  pthread_mutex_unlock(&arena.lock);
  return 0;
}

size_t picket_arena_used(void) {
  pthread_mutex_lock(&arena.lock);
  size_t used = arena.used;
  pthread_mutex_unlock(&arena.lock);
  return used;
}

// A block of the arena, or NULL where it has no room.
static void *take(size_t size) {
  int class = 0;
  while (class < CLASSES && ((size_t)UNIT << class) < size)
    class++;
  if (class == CLASSES)
    return NULL;
  size_t bytes = (size_t)UNIT << class;
  pthread_mutex_lock(&arena.lock);
  void *address = arena.free[class];
  if (address != NULL) {
    arena.free[class] = arena.free[class]->next;
  } else if (arena.base != NULL && bytes <= arena.size - arena.cut) {
    address = arena.base + arena.cut;
    arena.class_of[arena.cut / UNIT] = (uint8_t)class;
    arena.cut += bytes;
  }
  if (address != NULL)
    arena.used += bytes;
  pthread_mutex_unlock(&arena.lock);
  return address;
}

void *picket_arena_memalign(size_t alignment, size_t size) {
  void *address = NULL;
  if (alignment < UNIT)
    alignment = UNIT;
  if (alignment == UNIT && (address = take(size)) != NULL)
    return address;
  return posix_memalign(&address, alignment, size) == 0 ? address : NULL;
}

void *picket_arena_malloc(size_t size) { return picket_arena_memalign(UNIT, size); }

void picket_arena_free(void *address) {
  if (address == NULL)
    return;
  pthread_mutex_lock(&arena.lock);
  // Without an arena base and size are 0, and no address is within.
  uintptr_t offset = (uintptr_t)address - (uintptr_t)arena.base;
  if (offset >= arena.size) {
    pthread_mutex_unlock(&arena.lock);
    free(address);
    return;
  }
  int class = arena.class_of[offset / UNIT];
  struct block *b = address;
  b->next = arena.free[class];
  arena.free[class] = b;
  arena.used -= (size_t)UNIT << class;
  pthread_mutex_unlock(&arena.lock);
}
